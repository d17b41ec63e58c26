"""Acts on a reply that holds code: take the code, let the hooks see it, run it in the sandbox, say what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Final

from ..runtime.cell import Cell
from ..runtime.errors import ClocheError, LimitExceeded, SandboxClosed, TimedOut, WorkerCrashed
from ..runtime.limits import Limits
from ..runtime.output import Stream
from .answers import judge
from .box import Box, Home
from .errors import ParsingError
from .events import CodeParsed, OutputChunk
from .hooks import CellCall, Veto, overridden, settled
from .messages import Message, ModelReply, ResponseFormat
from .observation import NAMES_CODE, observe, observe_loss, observe_no_code, observe_rejection, observe_veto, read_names
from .parsing import ParsedReply, parse_reply
from .result import ActionStep, StepError
from .structured import REPLY_FORMAT, parse_structured
from .tool_watch import ToolWatch
from .tracing import Operation, Outcome

if TYPE_CHECKING:
    from .state import RunState

_NAMES_S: Final = 1.0
"""Seconds for the look at the variables."""


class CodeActor:
    """One run's hand in its sandbox."""

    def __init__(self, run: RunState, box: Box, home: Home) -> None:
        self._run = run
        self._box = box
        self._home = home
        limits: Limits | None = getattr(box, "limits", None)
        self._wall_s = (limits or Limits()).wall_s
        self._counts_seconds = run.ledger.left("sandbox_s") < float("inf")
        self._known = self._names = frozenset(tool.name for tool in run.spec.tools) | frozenset(run.task.inputs)
        """Names that the model knows of."""
        self.aside: Mapping[str, object] = {}
        response_format: ResponseFormat | None = REPLY_FORMAT if run.spec.structured else None
        self.request: Mapping[str, object] = {"response_format": response_format} if response_format else {}

    def said(self, reply: ModelReply) -> Message:
        """As it is; an empty reply is shown to the model as such."""
        return reply.message if reply.text else replace(reply.message, content="(empty reply)")

    async def act(self, reply: ModelReply, step: ActionStep) -> tuple[ActionStep, list[Message]]:
        """Run the code in the reply."""
        step = await self._act(reply, step)
        return step, [Message("user", step.observation)] if step.observation else []

    async def _act(self, reply: ModelReply, step: ActionStep) -> ActionStep:
        run = self._run
        try:
            parsed = self._parse(reply)
        except ParsingError as exc:
            error = StepError(type="ParsingError", message=str(exc))
            return replace(step, observation=observe_no_code(str(exc), structured=run.spec.structured), error=error)
        step = replace(step, thought=parsed.thought, code=parsed.code)
        call = CellCall(run_id=run.run_id, step=step.number, code=parsed.code)
        try:
            call = await self._before(call)
        except Veto as veto:
            if veto.end_run:
                run.denied = veto.reason
            error = StepError(type="Veto", message=veto.reason)
            return replace(step, observation=observe_veto(veto.reason), error=error)
        run.emit(CodeParsed(step.number, parsed.thought, call.code))
        run.pending = step = replace(step, code=call.code)
        cell, failure, seconds = await self._run_cell(call, step)
        step = replace(step, cell=cell, sandbox_s=seconds, tool_calls=run.take_records())
        return await self._judge(step, failure)

    def _parse(self, reply: ModelReply) -> ParsedReply:
        cut = reply.finish_reason == "length"
        return parse_structured(reply.text, cut=cut) if self._run.spec.structured else parse_reply(reply.text, cut=cut)

    async def _before(self, call: CellCall) -> CellCall:
        for entry in overridden(self._run.spec.hooks, "before_cell"):
            edited: str | None = await settled(entry.before_cell(call))
            call = replace(call, code=edited or call.code)
        return call

    # --- running ------------------------------------------------------------------------------------------------------

    async def _run_cell(self, call: CellCall, step: ActionStep) -> tuple[Cell | None, ClocheError | None, float]:
        """The cell, or why there is none. After the loss of a sandbox a fresh one is in its place."""
        run, tracer = self._run, self._run.spec.tracer
        end = None
        if tracer is not None:
            operation = Operation(
                kind="cell", name="python", run_id=run.run_id, step=call.step, facts={"code": call.code}
            )
            end = tracer.begin(operation)
        started = perf_counter()
        cell: Cell | None = None
        failure: ClocheError | None = None
        printed = _Printed(run, call.step)
        try:
            cell = await self._reserved_run(call, printed)
            for entry in overridden(run.spec.hooks, "after_cell"):
                edited: Cell | None = await settled(entry.after_cell(call, cell))
                cell = edited or cell
        except (LimitExceeded, WorkerCrashed, SandboxClosed) as exc:
            failure = exc
            cell = exc.cell if isinstance(exc, TimedOut) else None
        except BaseException as exc:
            run.pending = replace(step, cell=printed.cell(), sandbox_s=perf_counter() - started)
            if end is not None:
                end(Outcome(error=exc))
            raise
        if end is not None:
            end(Outcome(error=failure, facts={"cell": cell}))
        seconds = perf_counter() - started
        if not run.answer.given:
            await self._recover(failure)
        return cell, failure, seconds

    async def _recover(self, failure: ClocheError | None) -> bool:
        """After the loss of a sandbox put a fresh one in its place; whether it was lost."""
        if failure is None or (isinstance(failure, TimedOut) and failure.state_kept):
            return False
        await self._home.renew(self._box)
        self._names = self._known
        return True

    async def _reserved_run(self, call: CellCall, printed: _Printed) -> Cell:
        """Run it within what the budget has left of seconds.

        Raises:
            BudgetExceeded: nothing.
        """
        ledger = self._run.ledger
        deadline_s: float | None = None
        amounts: dict[str, float] = {}
        if self._counts_seconds:
            # A sub-agent that this cell calls needs some of it too.
            part = 0.5 if self._run.spec.has_sub_agents else 1.0
            deadline_s = min(self._wall_s, ledger.left("sandbox_s") * part)
            amounts["sandbox_s"] = deadline_s or self._wall_s
        reserved = ledger.reserve(**amounts)
        watch = ToolWatch(self._run)
        started = perf_counter()
        try:
            return await self._box.run(call.code, deadline_s, on_output=printed, on_tool=watch.observer)
        finally:
            watch.close()
            seconds = perf_counter() - started
            reserved.settle(sandbox_s=seconds if deadline_s is None else min(seconds, deadline_s))

    # --- what the model is told ---------------------------------------------------------------------------------------

    async def _judge(self, step: ActionStep, failure: ClocheError | None) -> ActionStep:
        """The step with what the model is told about it."""
        run = self._run
        max_chars = run.spec.observation_chars
        if run.answer.given:
            reason = await judge(run)
            if reason is None:
                return replace(step, is_final=True)
            run.answer.take_back()
            lost = await self._recover(failure)
            error = StepError(type="AnswerRejected", message=reason)
            return replace(step, error=error, observation=observe_rejection(reason, lost=lost))
        if failure is not None:
            error = StepError(type=type(failure).__name__, message=str(failure))
            return replace(step, error=error, observation=observe_loss(failure, max_chars=max_chars))
        assert step.cell is not None  # noqa: S101  # no failure: there is a cell
        assert step.code is not None  # noqa: S101
        raised = step.cell.error
        observation = observe(
            step.cell,
            step.code,
            max_chars=max_chars,
            packages=run.spec.packages or (),
            variables=await self._new_variables(step.cell),
        )
        if raised is not None:
            step = replace(step, error=StepError(type=raised.type, message=raised.message))
        return replace(step, observation=observation)

    async def _new_variables(self, cell: Cell) -> tuple[str, ...]:
        """Names and types of variables that the model has not seen; asked for when it would be told nothing else."""
        if not cell.ok or cell.stdout.strip() or cell.stderr.strip() or cell.value_repr is not None:
            return ()
        try:
            found = read_names((await self._box.run(NAMES_CODE, min(_NAMES_S, self._wall_s))).value)
        except (LimitExceeded, WorkerCrashed, SandboxClosed):
            return ()  # the next cell finds out what is wrong
        new = tuple(f"{name}: {kind}" for name, kind in found.items() if name not in self._names)
        self._names = self._known | frozenset(found)
        return new


class _Printed:
    """What a cell prints, passed on as an event, and kept for a result that has to do without the cell itself."""

    def __init__(self, run: RunState, number: int) -> None:
        self._emit = run.emitter
        self._number = number
        self._texts: dict[Stream, list[str]] = {"stdout": [], "stderr": []}

    def __call__(self, stream: Stream, text: str) -> None:
        self._texts[stream].append(text)
        if self._emit is not None:
            self._emit(OutputChunk(self._number, stream, text))

    def cell(self) -> Cell:
        """The cell as far as it came."""
        return Cell(stdout="".join(self._texts["stdout"]), stderr="".join(self._texts["stderr"]), complete=False)
