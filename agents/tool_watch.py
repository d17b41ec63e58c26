"""Between the tool calls of one step and the run: budget, hooks, events, records, traces.

The rule: it stands on the runtime's own seam (`runtime/tool_hooks.py`), behind validation and before the function, for
both kinds of agents. A call counts against the budget from the moment it is allowed, and is given back if it is denied.
When the step ends nothing of it stays reserved, also where a stuck thread has not told the end of its call by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from ..runtime.tool_hooks import (
    Allow,
    Before,
    Decision,
    Deny,
    Edited,
    ToolEvent,
    ToolFinished,
    ToolObserver,
    ToolRequest,
    ToolStarted,
)
from .errors import BudgetExceeded
from .events import ToolCallFinished, ToolCallStarted
from .hooks import HookedToolCall, Veto, overridden, settled
from .result import StepError, ToolRecord
from .spec import FINAL_ANSWER
from .tracing import End, Operation, Outcome

if TYPE_CHECKING:
    from .budget import Reservation
    from .state import RunState

_UNCOUNTED = frozenset({"refused", "denied"})
"""Outcomes of calls whose function did not run."""


class ToolWatch:
    """Watches the calls of one step. `observer` is what the sandbox is given."""

    def __init__(self, run: RunState) -> None:
        spec = run.spec
        self._run = run
        self._step = run.number
        self._capped = run.ledger.left("tool_calls") < float("inf")
        self._before = overridden(spec.hooks, "before_tool")
        self._after = overridden(spec.hooks, "after_tool")
        self._closed = False
        self._started: dict[int, tuple[ToolStarted, float]] = {}
        self._reserved: dict[int, Reservation] = {}
        self._ends: dict[int, End] = {}
        self._results: dict[int, object] = {}
        before: Before | None = self.before if self._capped or self._before or spec.tracer is not None else None
        self.observer = ToolObserver(
            on_event=self.on_event,
            before=before,
            approve=spec.approve,
            after=self.after if self._after or spec.tracer is not None else None,
            context=run,
        )

    def before(self, request: ToolRequest) -> Decision | Awaitable[Decision]:
        """Whether the call may be made, and with which arguments. At once where no hook has to be asked."""
        run = self._run
        if request.tool.name == FINAL_ANSWER:
            return Allow()
        if self._capped:
            try:
                self._reserved[request.call_id] = run.ledger.reserve(tool_calls=1)
            except BudgetExceeded as exc:
                run.overdrawn = exc
                return Deny(f"no tool calls are left: {exc}")
        if self._closed:  # asked after the reservation: either `close` sees that, or this does
            late = self._reserved.pop(request.call_id, None)
            if late is not None:
                late.release()
            return Deny("the step is over")
        self._trace(request)
        return self._ask_before(request) if self._before else Allow()

    async def _ask_before(self, request: ToolRequest) -> Decision:
        arguments = request.arguments
        for entry in self._before:
            try:
                edited: Mapping[str, object] | None = await settled(entry.before_tool(self._call(request, arguments)))
            except Veto as veto:
                return Deny(veto.reason, end_run=veto.end_run)
            arguments = arguments if edited is None else edited
        return Allow() if arguments is request.arguments else Edited(arguments)

    def after(self, request: ToolRequest, result: object) -> object:
        """What the code gets, or an awaitable of it."""
        if request.tool.name == FINAL_ANSWER:
            return result
        if self._after:
            return self._ask_after(request, result)
        self._results[request.call_id] = result
        return result

    async def _ask_after(self, request: ToolRequest, result: object) -> object:
        for entry in self._after:
            result = await settled(entry.after_tool(self._call(request, request.arguments), result))
        if self._run.spec.tracer is not None:
            self._results[request.call_id] = result
        return result

    def _call(self, request: ToolRequest, arguments: Mapping[str, object]) -> HookedToolCall:
        return HookedToolCall(run_id=self._run.run_id, step=self._step, name=request.tool.name, arguments=arguments)

    def on_event(self, event: ToolEvent) -> None:
        """Take notes, and pass it on."""
        if event.tool == FINAL_ANSWER:
            return
        if isinstance(event, ToolStarted):
            self._started[event.call_id] = event, perf_counter()
            self._run.emit(ToolCallStarted(self._step, str(event.call_id), event.tool, event.arguments))
        else:
            self._finish(event)

    def close(self) -> None:
        """The step is over. Calls whose end was not told yet count as cancelled, and no further one may begin."""
        self._closed = True
        for call_id, (started, since) in list(self._started.items()):
            seconds = perf_counter() - since
            self._finish(ToolFinished(call_id=call_id, tool=started.tool, outcome="cancelled", duration_s=seconds))

    def _finish(self, event: ToolFinished) -> None:
        run = self._run
        entry = self._started.pop(event.call_id, None)
        if entry is None:  # `close` was here first
            return
        reserved = self._reserved.pop(event.call_id, None)
        if event.outcome not in _UNCOUNTED:
            (reserved or run.ledger.reserve()).settle(tool_calls=1)
        elif reserved is not None:
            reserved.release()
        error = None
        if event.error_type is not None:
            error = StepError(type=event.error_type, message=event.error_message or "")
        record = ToolRecord(
            id=str(event.call_id),
            name=event.tool,
            arguments=entry[0].arguments,
            outcome=event.outcome,
            error=error,
            seconds=event.duration_s,
        )
        if event.ends_run:
            run.denied = event.error_message or "a tool call was denied"
        end = self._ends.pop(event.call_id, None)
        if end is not None:
            end(Outcome(facts={"record": record, "result": self._results.pop(event.call_id, None)}))
        run.add_record(record)
        run.emit(ToolCallFinished(self._step, record))

    def _trace(self, request: ToolRequest) -> None:
        tracer = self._run.spec.tracer
        if tracer is not None:
            facts = {"call_id": str(request.call_id), "arguments": request.arguments}
            operation = Operation(
                kind="execute_tool", name=request.tool.name, run_id=self._run.run_id, step=self._step, facts=facts
            )
            self._ends[request.call_id] = tracer.begin(operation)
