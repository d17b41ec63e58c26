"""`ToolCallingAgent`: calls side by side, validated, told back in order; no sandbox anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, TypedDict

import anyio
import pytest
from pydantic import BaseModel, Field
from tests.support.agents import BOUND_S, calls, fake_runtime, get_price, tool_agent

from cloche.agents.events import ModelDelta, RunFinished, StepFinished, ToolCallFinished, ToolCallStarted
from cloche.agents.messages import Image, Message, ModelReply, ToolCallRequest
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.result import StepError
from cloche.agents.tool_calling_agent import ToolCallingAgent
from cloche.runtime.errors import ConfigError
from cloche.runtime.tool_hooks import Deny, ToolRequest
from cloche.runtime.tools import ToolError, tool

NOTHING: dict[str, object] = {}
DONE = calls(("final_answer", {"value": 5}))


def told(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages if message.role == "tool"]


def agent_of(tools: list[object], *lines: object, **options: object) -> ToolCallingAgent:
    return ToolCallingAgent(tools, ScriptedModel(lines), **options)  # type: ignore[arg-type]


def test_results_go_back_in_the_order_of_the_calls() -> None:
    result = tool_agent(calls(("get_price", {"item": "milk"}), ("get_price", {"item": "tea"})), DONE).run("x")
    assert (result.output, result.stop_reason, told(result.messages)[:2]) == (5, "final", ["1.25", "3.5"])
    asked = result.messages[2].tool_calls
    assert [message.tool_call_id for message in result.messages[3:5]] == [call.id for call in asked]


def test_the_model_is_given_the_schemas_of_all_tools_and_has_to_call_one() -> None:
    seen: dict[str, object] = {}

    class Asked(ScriptedModel):
        async def complete(self, messages: object, **options: object) -> ModelReply:
            seen.update(options)
            return await super().complete(messages, **options)  # type: ignore[arg-type]

    ToolCallingAgent([get_price], Asked([DONE])).run("x")
    assert [schema.name for schema in seen["tools"]] == ["get_price", "final_answer"]  # type: ignore[attr-defined]
    assert seen["tools"][0].parameters["required"] == ["item"]  # type: ignore[index]
    assert seen["tool_choice"] == "required"


WRONG: list[tuple[tuple[str, dict[str, object]], str, str]] = [
    (("get_price", {"item": 5}), "InvalidArguments", "item"),
    (("get_price", {}), "InvalidArguments", "item"),
    (("get_price", {"item": "tea", "more": 1}), "InvalidArguments", "more"),
    (("nothing", {}), "UnknownTool", "nothing"),
    (("get_price", {"item": "gold"}), "KeyError", "gold"),
]


@pytest.mark.parametrize(("call", "kind", "part"), WRONG)
def test_a_call_that_cannot_be_made_is_told_and_the_run_goes_on(
    call: tuple[str, dict[str, object]], kind: str, part: str
) -> None:
    result = tool_agent(calls(call), DONE).run("x")
    assert result.output == 5
    error = result.steps[0].error
    assert error is not None
    assert error.type == kind
    assert part in told(result.messages)[0]
    assert [record.name for record in result.steps[0].tool_calls] == [call[0]]


def test_arguments_that_are_no_json_are_told() -> None:
    bad = ModelReply(text="", tool_calls=(ToolCallRequest("1", "get_price", {}, invalid_arguments="{item:"),))
    result = tool_agent(bad, DONE).run("x")
    assert "not a JSON object" in told(result.messages)[0]


def test_a_reply_in_words_is_a_mistake_where_a_call_is_required() -> None:
    result = tool_agent("It is 5.", DONE).run("x")
    assert (result.output, len(result.steps)) == (5, 2)
    error = StepError(
        type="ParsingError", message="Your reply calls no tool. Call one, or call final_answer with the result."
    )
    assert result.steps[0].error == error


def test_a_reply_in_words_is_the_answer_where_the_model_may_choose() -> None:
    assert tool_agent("It is 5.", tool_choice="auto").run("x").output == "It is 5."
    assert tool_agent("", DONE, tool_choice="auto").run("x").output == 5
    assert tool_agent("[1, 2]", tool_choice="auto", output_type=list[int]).run("x").output == [1, 2]


def test_an_answer_beside_other_calls_waits_for_their_results() -> None:
    both = calls(("get_price", {"item": "tea"}), ("final_answer", {"value": 1}))
    result = tool_agent(both, DONE).run("x")
    assert result.output == 5
    assert told(result.messages)[0] == "3.5"
    assert told(result.messages)[1].startswith("Error: final_answer was called beside other tools")


def test_blocking_tools_run_on_threads_and_async_ones_on_the_callers_loop() -> None:
    seen: dict[str, object] = {}

    def blocking() -> int:
        """Blocks."""
        seen["thread"] = threading.current_thread()
        return 1

    async def waiting() -> int:
        """Waits."""
        seen["loop"] = asyncio.get_running_loop()
        return 2

    async def main() -> None:
        agent = agent_of([blocking, waiting], calls(("blocking", {}), ("waiting", {})), DONE)
        with anyio.fail_after(BOUND_S):
            await agent.arun("x")
        assert seen["loop"] is asyncio.get_running_loop()
        assert seen["thread"] is not threading.current_thread()

    anyio.run(main)


def test_a_tool_that_takes_too_long_is_given_up() -> None:
    @tool(timeout_s=0.05)
    async def forever() -> int:
        """Never ends."""
        await anyio.sleep_forever()
        return 1

    result = agent_of([forever], calls(("forever", {})), DONE).run("x", deadline_s=BOUND_S)
    assert "did not answer within 0.05 s" in told(result.messages)[0]
    assert result.steps[0].tool_calls[0].outcome == "timeout"


def test_the_message_of_an_unexpected_exception_stays_on_the_host() -> None:
    def leak() -> int:
        """Fails."""
        raise OSError("/home/secret/key")

    def say() -> int:
        """Fails with words for the model."""
        raise ToolError("ask for something else")

    result = agent_of([leak, say], calls(("leak", {}), ("say", {})), DONE).run("x")
    assert "secret" not in "".join(told(result.messages))
    assert "ask for something else" in told(result.messages)[1]
    assert "secret" not in repr(result.steps[0].tool_calls)


class Row(TypedDict):
    name: str
    count: int


class Found(BaseModel):
    title: str


def test_a_tool_that_exits_ends_neither_its_run_nor_the_loop_that_others_share() -> None:
    def leave() -> None:
        raise SystemExit(1)

    script = ScriptedModel(
        [calls(("leave", {}), ("get_price", {"item": "tea"})), calls(("final_answer", {"value": 1}))]
    )
    agent = ToolCallingAgent([leave, get_price], script)
    result = agent.run("Leave.", deadline_s=BOUND_S)
    assert result.output == 1
    told = [message.content for message in result.messages if message.role == "tool"]
    assert told[0].startswith("Error: SystemExit: ")
    assert told[1] == "3.5"


def test_results_are_told_as_json() -> None:
    def rows() -> list[Row]:
        """Rows."""
        return [{"name": "ä", "count": 1}]

    def found() -> Found:
        """Found."""
        return Found(title="t")

    def text() -> str:
        """Text."""
        return "plain"

    def pair() -> set[int]:
        """A set."""
        return {1}

    result = agent_of(
        [rows, found, text, pair], calls(*[(n, NOTHING) for n in ("rows", "found", "text", "pair")]), DONE
    ).run("x")
    assert told(result.messages)[:4] == ['[{"name": "ä", "count": 1}]', '{"title":"t"}', "plain", "[1]"]


class Blob(BaseModel):
    raw: bytes
    other: object = None
    inner: str = Field(default="kept", exclude=True)


def test_a_result_that_json_does_not_have_shows_no_excluded_field() -> None:
    def blob() -> Blob:
        """Bytes that are no text."""
        return Blob(raw=b"\xff")

    def blobs() -> list[Any]:
        """The same, and what JSON does not know."""
        return [Blob(raw=b"\xff", other=1j)]

    result = agent_of([blob, blobs], calls(("blob", NOTHING), ("blobs", NOTHING)), DONE).run("x")
    assert told(result.messages)[:2] == ['{"raw":"_w==","other":null}', '[{"raw":"_w==","other":"1j"}]']


def test_long_results_are_shown_by_head_and_tail() -> None:
    def much() -> str:
        """Much."""
        return "a" * 5000 + "b" * 5000

    [text, *_] = told(agent_of([much], calls(("much", {})), DONE, observation_chars=300).run("x").messages)
    assert len(text) < 400
    assert text.startswith("aaa")
    assert text.endswith("bbb")


def test_tools_that_need_approval_are_denied_unless_somebody_gives_it() -> None:
    @tool(requires_approval=True)
    def delete(name: str) -> str:
        """Deletes."""
        return f"{name} is gone"

    def agent(**options: object) -> ToolCallingAgent:
        return agent_of([delete], calls(("delete", {"name": "a"})), DONE, **options)

    assert "needs approval" in told(agent().run("x").messages)[0]

    def yes(request: ToolRequest) -> bool:
        return bool(request.arguments["name"] == "a")

    def no(request: ToolRequest) -> Deny:
        return Deny("not this one", end_run=True)

    assert told(agent(approve=yes).run("x").messages)[0] == "a is gone"
    denied = agent(approve=no).run("x")
    assert (denied.stop_reason, denied.steps[0].tool_calls[0].outcome) == ("denied", "denied")


def test_events_tell_of_each_call() -> None:
    with tool_agent(calls(("get_price", {"item": "tea"}), text="Look it up."), DONE).stream("x") as events:
        seen = [event for event in events if isinstance(event, ToolCallStarted | ToolCallFinished | ModelDelta)]
    assert [type(event).__name__ for event in seen] == ["ModelDelta", "ToolCallStarted", "ToolCallFinished"]
    finished = seen[2]
    assert isinstance(finished, ToolCallFinished)
    assert (finished.record.name, finished.record.outcome, finished.record.error) == ("get_price", "ok", None)


def test_a_run_can_be_cancelled_in_a_tool_and_keeps_what_it_had() -> None:
    async def forever() -> int:
        """Never ends."""
        await anyio.sleep_forever()
        return 1

    with agent_of([forever], calls(("forever", {}), text="Wait.")).stream("x") as events:
        for event in events:
            if isinstance(event, ToolCallStarted):
                events.cancel()
        assert events.result is not None
        assert (events.result.stop_reason, events.result.steps[0].thought) == ("cancelled", "Wait.")


def test_one_agent_runs_many_tasks_at_once() -> None:
    def answer(messages: Sequence[Message]) -> ModelReply:
        return calls(("final_answer", {"value": messages[1].content.removeprefix("Task: ")}))

    agent = tool_agent(calls(("get_price", {"item": "tea"})), answer)

    async def main() -> list[object]:
        with anyio.fail_after(BOUND_S):
            return [r.output for r in await asyncio.gather(*(agent.arun(str(n)) for n in range(50)))]

    assert anyio.run(main) == [str(n) for n in range(50)]


def test_the_model_is_shown_inputs_in_full_and_too_large_ones_are_refused() -> None:
    text = "".join(map(str, range(1000)))
    result = tool_agent(DONE).run("Look.", inputs={"text": text})
    assert text in result.messages[1].content
    with pytest.raises(ConfigError, match="the inputs take more than 20000 characters"):
        tool_agent(DONE).run("Look.", inputs={"text": text * 10})


def test_a_sub_agent_that_calls_tools_is_shown_inputs_in_full() -> None:
    text = "".join(map(str, range(1000)))
    reader = tool_agent(DONE, name="reader", description="Reads.")
    asked = [calls(("reader", {"task": "Read.", "inputs": {"text": text * times}})) for times in (1, 10)]
    result = agent_of([], *asked, DONE, managed_agents=[reader]).run("Have it read.")
    assert text in reader.model.requests[0][1].content  # type: ignore[attr-defined]
    assert told(result.messages)[0] == "5"
    assert "the inputs take more than 20000 characters" in told(result.messages)[1]


def test_inputs_and_images_reach_the_model() -> None:
    image = Image(b"png")
    result = tool_agent(DONE).run("Look.", inputs={"rows": [1, 2]}, images=[image])
    assert result.messages[1].content.endswith("You are given:\n- rows: list of length 2 = [1, 2]")
    assert result.messages[1].images == (image,)


def test_no_sandbox_is_started() -> None:
    with fake_runtime() as runtime:
        assert tool_agent(DONE, runtime=runtime).run("x").output == 5
        assert runtime.sandboxes == 0


def test_too_many_calls_in_one_reply_are_bounded() -> None:
    many = calls(*[("get_price", {"item": "tea"})] * 70)
    result = tool_agent(many, DONE).run("x")
    assert [text.startswith("Error: too many calls") for text in told(result.messages)[:70]] == [False] * 64 + [
        True
    ] * 6


@pytest.mark.parametrize("options", [{"parallel_tool_calls": 0}, {"max_steps": 0}, {"nothing": 1}])
def test_options_are_checked_when_the_agent_is_made(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        tool_agent(**options)


def test_the_last_events_are_the_last_step_and_the_result() -> None:
    kinds = [type(event) for event in tool_agent(DONE).stream("x")]
    assert kinds[-2:] == [StepFinished, RunFinished]


def test_it_runs_on_trio() -> None:
    pytest.importorskip("trio")
    agent = tool_agent(calls(("get_price", {"item": "tea"}), ("get_price", {"item": "milk"})), DONE)
    assert anyio.run(agent.arun, "x", backend="trio").output == 5
