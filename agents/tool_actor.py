"""Acts on a reply that asks for tool calls: run them side by side, and tell the model what each came to.

The rule: arguments are written by a model, so they are validated by the tool's schema before the function sees them,
exactly as the sandbox's are. No sandbox is involved and no text is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import anyio

from ..runtime.limits import Limits
from ..runtime.tool_direct import DirectCalls
from ..runtime.tools import Tool, ToolTable
from ..runtime.value_forms import is_record, plain_form
from ..runtime.value_types import ITEM_COST, CrossError
from .answers import judge
from .box import AGENT_CALL_S
from .messages import Message, ModelReply, ToolCallRequest, ToolSchema
from .observation import shorten
from .result import ActionStep, StepError
from .spec import FINAL_ANSWER
from .tool_watch import ToolWatch

if TYPE_CHECKING:
    from .state import RunState

_NO_CALL = "Your reply calls no tool. Call one, or call final_answer with the result."
_NOT_ALONE = "final_answer was called beside other tools and is ignored. Look at their results, then call it alone."
_MAX_CALLS = 64
"""Of one reply."""


class ToolActor:
    """One run's hand on its tools."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._tools = ToolTable(run.spec.tools)
        schemas = tuple(map(schema_of, run.spec.tools))
        self.request: Mapping[str, object] = {"tools": schemas, "tool_choice": run.spec.tool_choice}
        self.aside: Mapping[str, object] = {"tools": schemas, "tool_choice": "none"}

    def said(self, reply: ModelReply) -> Message:
        """As it is; an empty reply is shown to the model as such."""
        return reply.message if reply.text or reply.tool_calls else replace(reply.message, content="(empty reply)")

    async def act(self, reply: ModelReply, step: ActionStep) -> tuple[ActionStep, list[Message]]:
        """Make the calls that the reply asks for."""
        step = replace(step, thought=reply.text.strip())
        if not reply.tool_calls:
            return await self._act_on_text(reply, step)
        started = perf_counter()
        self._run.pending = step
        texts = await self._call_all(reply.tool_calls[:_MAX_CALLS])
        texts += ["Error: too many calls in one reply; this one was not made."] * (len(reply.tool_calls) - _MAX_CALLS)
        step = replace(step, tool_calls=self._run.take_records(), sandbox_s=perf_counter() - started)
        told = [Message("tool", text, tool_call_id=call.id) for call, text in zip(reply.tool_calls, texts, strict=True)]
        failed = next((record.error for record in step.tool_calls if record.error is not None), None)
        step = replace(step, observation="\n".join(texts), error=failed)
        if self._run.answer.given:
            return await self._judge(step, told)
        return step, told

    async def _act_on_text(self, reply: ModelReply, step: ActionStep) -> tuple[ActionStep, list[Message]]:
        """A reply in words. Where the model may choose, it is the answer; where it has to call, it is a mistake."""
        text = reply.text.strip()
        if self._run.spec.tool_choice == "required" or not text:
            error = StepError(type="ParsingError", message=_NO_CALL)
            return replace(step, observation=_NO_CALL, error=error), [Message("user", _NO_CALL)]
        self._run.answer.give(self._run.spec.output.parse_text(text))
        return await self._judge(step, [])

    async def _judge(self, step: ActionStep, told: list[Message]) -> tuple[ActionStep, list[Message]]:
        reason = await judge(self._run)
        if reason is None:
            return replace(step, is_final=True, observation=""), told
        self._run.answer.take_back()
        error = StepError(type="AnswerRejected", message=reason)
        told = [*told[:-1], replace(told[-1], content=reason)] if told else [Message("user", reason)]
        return replace(step, observation=reason, error=error), told

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _call_all(self, calls: tuple[ToolCallRequest, ...]) -> list[str]:
        """What the model is told of each call, in their order."""
        texts = [""] * len(calls)
        limiter = anyio.CapacityLimiter(self._run.spec.parallel_tool_calls)
        watch = ToolWatch(self._run)
        tool_s = AGENT_CALL_S if self._run.spec.has_sub_agents else Limits().tool_s
        direct = DirectCalls(self._tools, watch.observer, tool_s=tool_s)
        alone = len(calls) == 1

        async def one(index: int, call: ToolCallRequest) -> None:
            async with limiter:
                refused = call.name == FINAL_ANSWER and not alone
                texts[index] = f"Error: {_NOT_ALONE}" if refused else await self._call(index, call, direct)

        try:
            if alone:
                await one(0, calls[0])
            else:
                async with anyio.create_task_group() as group:
                    for index, call in enumerate(calls):
                        group.start_soon(one, index, call)
        finally:
            watch.close()
        return texts

    async def _call(self, index: int, call: ToolCallRequest, direct: DirectCalls) -> str:
        result = await direct.call(call.name, None if call.invalid_arguments is not None else call.arguments, index)
        error = result.error
        text = text_of(result.value) if error is None else f"Error: {error.kind}: {error}"
        return shorten(text, self._run.spec.observation_chars)


def schema_of(tool: Tool) -> ToolSchema:
    """The tool as the model sees it."""
    return ToolSchema(tool.name, tool.description, dict(tool.json_schema))


def text_of(value: object) -> str:
    """A tool's result, for the model: text as it is, data as JSON, anything else as Python shows it."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(value, inf_nan_mode="strings", fallback=_plain).decode("utf-8")
    except (PydanticSerializationError, ValueError, RecursionError):
        pass
    kind: type = type(value)
    if not is_record(kind) and not issubclass(kind, list | tuple | set | frozenset | dict):
        return repr(value)
    try:  # no `repr` of what may hold records: it shows the fields that they keep to themselves
        from pydantic import TypeAdapter

        plain: object = TypeAdapter(object).dump_python(value, warnings=False)
        return to_json(plain, inf_nan_mode="strings", bytes_mode="base64", serialize_unknown=True).decode("utf-8")
    except (PydanticSerializationError, ValueError, RecursionError):
        return f"(a {kind.__name__} that cannot be shown)"


def _plain(value: object) -> object:
    """What pydantic does not know and a sandbox would be given as plain data: numpy's numbers and arrays, a deque."""
    try:
        return plain_form(value, "result", Limits().value_bytes // ITEM_COST)
    except CrossError as exc:
        raise ValueError(str(exc)) from None
