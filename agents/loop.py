"""One run of a code agent: ask the model, run its code, tell it what came of it, until it gives its answer.

The rule: everything that changes during a run lives in one `Run` object; the agent is only read. The answer reaches the
host as the argument of the host tool `final_answer` and is kept here, so nothing that the guest does afterwards can
take it back or put another in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from time import perf_counter

import anyio

from ..runtime.cell import Cell
from ..runtime.errors import ClocheError, LimitExceeded, SandboxClosed, TimedOut, WorkerCrashed
from ..runtime.loop_hook import LoopHook
from ..runtime.output import Stream
from ..runtime.tools import Tool
from .box import Box, OpenBox
from .errors import AgentError, ParsingError
from .events import CodeParsed, Emit, ModelDelta, ModelReplied, OutputChunk, RunFinished, StepFinished, StepStarted
from .messages import Message, ModelReply, TokenUsage
from .model import Model
from .observation import observe, observe_loss, observe_no_code
from .parsing import parse_reply
from .result import RunResult, Step, StepError, StopReason, Timing

FINAL_ANSWER = "final_answer"


class _Answer:
    """Where `final_answer` leaves its argument. Written once."""

    def __init__(self) -> None:
        self.given = False
        self.value: object = None


_answer: ContextVar[_Answer] = ContextVar("cloche_answer")
"""The run on whose behalf a tool runs: tools see the context variables of the task that runs the cell."""


def final_answer_tool() -> Tool:
    """The tool that ends a run. One serves all runs of an agent."""

    def final_answer(value: object) -> None:
        """Gives the result of the task and ends it. Give the plain value, in the type that the task asks for."""
        answer = _answer.get()
        if not answer.given:
            answer.given, answer.value = True, value

    return Tool(final_answer, end_cell=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do; nothing in it changes."""

    model: Model
    messages: Sequence[Message]
    """The conversation up to and with the task."""
    inputs: Mapping[str, object]
    tools: Sequence[Tool]
    """With `final_answer`."""
    open_box: OpenBox
    max_steps: int
    deadline_s: float | None
    stop: Sequence[str]
    observation_chars: int


class Run:
    """One run. Await `drive()` once."""

    def __init__(self, plan: Plan, emit: Emit | None = None) -> None:
        self._plan = plan
        self._emit = emit
        self._messages = list(plan.messages)
        self._steps: list[Step] = []
        self._answer = _Answer()
        self._usage = TokenUsage()
        self._usage_complete = True
        self._pending: tuple[ModelReply, float] | None = None
        """A reply whose code has not come back yet."""
        self._cancelled = False
        self._scope: anyio.CancelScope | None = None
        self._hook: LoopHook | None = None
        self._started = perf_counter()

    def cancel(self) -> None:
        """End the run soon, wherever it stands, with what it has by then. From any thread; idempotent."""
        self._cancelled = True
        if self._hook is not None and self._scope is not None:
            self._hook.call(self._scope.cancel)

    async def drive(self) -> RunResult:
        """Run to the end.

        Raises:
            AgentError: the model gave no usable reply; `result` has the steps so far.
            ClocheError: no sandbox could be had, or an input cannot enter one.
        """
        self._started = perf_counter()
        token = _answer.set(self._answer)
        try:
            reason = await self._within_deadline()
        except AgentError as exc:
            exc.result = self._result("error")
            raise
        finally:
            _answer.reset(token)
        result = self._result(reason)
        if self._emit is not None:
            self._emit(RunFinished(result))
        return result

    async def _within_deadline(self) -> StopReason:
        deadline_s = self._plan.deadline_s
        with anyio.move_on_after(math.inf if deadline_s is None else deadline_s) as scope:
            self._hook, self._scope = LoopHook(), scope
            if self._cancelled:
                scope.cancel()
            async with self._plan.open_box(self._plan.tools) as box:
                await self._fill(box)
                await self._loop(box)
        self._scope = None
        if self._answer.given:
            return "final"
        if scope.cancelled_caught:
            return "cancelled" if self._cancelled else "timeout"
        return "max_steps"

    async def _fill(self, box: Box) -> None:
        """Put the inputs into the sandbox before the model is asked: one that cannot cross costs no tokens."""
        if self._plan.inputs:
            await box.run("", inputs=self._plan.inputs)

    async def _loop(self, box: Box) -> None:
        for number in range(1, self._plan.max_steps + 1):
            step = await self._step(box, number)
            self._add(step)
            if step.is_final:
                return

    async def _step(self, box: Box, number: int) -> Step:
        reply, model_s = await self._ask(number)
        step = Step(number=number, reply=reply, model_s=model_s)
        try:
            parsed = parse_reply(reply.text, cut=reply.finish_reason == "length")
        except ParsingError as exc:
            error = StepError(type="ParsingError", message=str(exc))
            return replace(step, observation=observe_no_code(str(exc)), error=error)
        if self._emit is not None:
            self._emit(CodeParsed(number, parsed.thought, parsed.code))
        started = perf_counter()
        cell, failure = await self._run_code(box, parsed.code, number)
        step = replace(step, thought=parsed.thought, code=parsed.code, cell=cell, sandbox_s=perf_counter() - started)
        return self._judge(step, failure)

    async def _ask(self, number: int) -> tuple[ModelReply, float]:
        emit = self._emit
        started = perf_counter()
        self._usage_complete, complete = False, self._usage_complete  # until the reply is here and counted
        if emit is None:
            reply = await self._plan.model.complete(self._messages, stop=self._plan.stop)
        else:
            emit(StepStarted(number))
            reply = await self._plan.model.complete(
                self._messages, stop=self._plan.stop, on_text=lambda text: emit(ModelDelta(number, text))
            )
            emit(ModelReplied(number, reply))
        model_s = perf_counter() - started
        self._usage_complete = complete and reply.usage is not None
        self._usage += reply.usage or TokenUsage()
        self._pending = (reply, model_s)
        self._messages.append(Message("assistant", reply.text or "(empty reply)"))
        return reply, model_s

    async def _run_code(self, box: Box, code: str, number: int) -> tuple[Cell | None, ClocheError | None]:
        """The cell, or why there is none. After the loss of a sandbox a fresh one is in its place."""
        emit = self._emit

        def on_output(stream: Stream, text: str) -> None:
            if emit is not None:
                emit(OutputChunk(number, stream, text))

        try:
            return await box.run(code, on_output=None if emit is None else on_output), None
        except (LimitExceeded, WorkerCrashed, SandboxClosed) as exc:
            failure = exc
        if not (isinstance(failure, TimedOut) and failure.state_kept) and not self._answer.given:
            await box.reset()
            await self._fill(box)
        return (failure.cell if isinstance(failure, TimedOut) else None), failure

    def _judge(self, step: Step, failure: ClocheError | None) -> Step:
        """The step with what the model is told about it."""
        if self._answer.given:
            return replace(step, is_final=True)
        max_chars = self._plan.observation_chars
        if failure is not None:
            error = StepError(type=type(failure).__name__, message=str(failure))
            return replace(step, error=error, observation=observe_loss(failure, max_chars=max_chars))
        assert step.cell is not None  # noqa: S101  # no failure: there is a cell
        assert step.code is not None  # noqa: S101
        raised = step.cell.error
        return replace(
            step,
            error=StepError(type=raised.type, message=raised.message) if raised is not None else None,
            observation=observe(step.cell, step.code, max_chars=max_chars),
        )

    def _add(self, step: Step) -> None:
        self._pending = None
        self._steps.append(step)
        if step.observation:
            self._messages.append(Message("user", step.observation))
        if self._emit is not None:
            self._emit(StepFinished(step))

    def _result(self, reason: StopReason) -> RunResult:
        if self._pending is not None:  # cut short between the reply and the end of its code
            reply, model_s = self._pending
            unfinished = Step(
                number=len(self._steps) + 1,
                reply=reply,
                is_final=self._answer.given,
                model_s=model_s,
                error=None if self._answer.given else StepError(type="Stopped", message=f"the run ended: {reason}"),
            )
            self._add(unfinished)
        timing = Timing(
            total_s=perf_counter() - self._started,
            model_s=sum(step.model_s for step in self._steps),
            sandbox_s=sum(step.sandbox_s for step in self._steps),
        )
        return RunResult(
            output=self._answer.value,
            stop_reason=reason,
            steps=tuple(self._steps),
            usage=self._usage,
            usage_complete=self._usage_complete,
            timing=timing,
            messages=tuple(self._messages),
        )
