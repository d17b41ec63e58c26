"""Tells an observer of the tool calls of a cell: each start and each end, once and in order.

The rule: what the observer raises is logged and changes nothing.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import lazy
from .plain import dataclass
from .safe_logs import FailureLog
from .tool_hooks import ToolEvent, ToolFinished, ToolOutcomeKind, ToolStarted, preview
from .tool_outcome import Denied, Outcome, Refused, tidy
from .tool_signature import Arguments

if TYPE_CHECKING:
    from concurrent.futures import Future

MAX_NAME = 100
MAX_REFUSED = 1000
"""Refused calls of a cell that an observer hears of."""
_log = lazy.logger("cloche.tools")


@dataclass(slots=True)
class _Pending:
    tool: str
    started: float
    ended: float | None = None


class EventTeller:
    """The serving thread uses it."""

    def __init__(self, on_event: Callable[[ToolEvent], object], context: contextvars.Context) -> None:
        self._on_event = on_event
        self._context = context.copy()
        self._pending: dict[int, _Pending] = {}
        self._refused = 0
        self._failures = FailureLog(_log)

    def started(self, call_id: int, name: str, arguments: Arguments, since: float) -> None:
        """The call has arrived at `since`, by `time.monotonic()`."""
        self._start(call_id, name, preview(arguments), since)

    def refused(self, call_id: int, name: str, outcome: Outcome, since: float) -> None:
        """The call was not admitted. Refusals have no budget, so only the first of a cell are told."""
        self._refused += 1
        if self._refused <= MAX_REFUSED:
            self._start(call_id, name, "", since)
            self._finish(call_id, "refused", outcome.refused)

    def watch(self, call_id: int, future: Future[object]) -> None:
        """The end of the future is the end of the call, whenever its outcome is told."""
        future.add_done_callback(lambda _: self._note_end(call_id))

    def finished(self, call_id: int, outcome: Outcome) -> None:
        """The call is over. Nothing is told twice."""
        refused = outcome.refused
        self._finish(call_id, "ok" if refused is None else refused.outcome, refused)

    def dropped(self, call_id: int) -> None:
        """Nobody waits for the call any more."""
        self._finish(call_id, "cancelled", None)

    def close(self) -> None:
        """The cell is over, and with it every call."""
        for call_id in list(self._pending):
            self.dropped(call_id)

    def _start(self, call_id: int, name: str, arguments: str, since: float) -> None:
        tool = tidy(name)[:MAX_NAME]
        self._pending[call_id] = _Pending(tool, since)
        self._tell(ToolStarted(call_id=call_id, tool=tool, arguments=arguments))

    def _finish(self, call_id: int, kind: ToolOutcomeKind, refused: Refused | None) -> None:
        call = self._pending.pop(call_id, None)
        if call is None:
            return
        event = ToolFinished(
            call_id=call_id,
            tool=call.tool,
            outcome=kind,
            duration_s=(time.monotonic() if call.ended is None else call.ended) - call.started,
            error_type=None if refused is None else refused.kind,
            error_message=None if refused is None else tidy(str(refused)),
            ends_run=isinstance(refused, Denied) and refused.end_run,
        )
        self._tell(event)

    def _note_end(self, call_id: int) -> None:
        call = self._pending.get(call_id)
        if call is not None:
            call.ended = time.monotonic()

    def _tell(self, event: ToolEvent) -> None:
        try:
            self._context.run(self._on_event, event)
        except Exception as exc:  # noqa: BLE001  # a callback of the host's
            self._failures.warn("on_event of a tool observer failed", exc)
