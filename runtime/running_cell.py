"""One cell while its frames arrive, and its remains until the next one.

The rule: no frame is taken that does not belong where it came: each type has its handler, which counts its attachments,
and after the result only output and the end may follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import Context
from functools import partial
from typing import TypeVar

from .cell import Cell, LimitHit, Usage
from .dispatch import AsyncRunner, CellCalls, ToolThreads
from .errors import ProtocolError
from .lanes import Turn
from .limit_hits import LimitHits
from .limits import Limits
from .links import HandOver
from .metadata import Metadata
from .output import OnOutput, OutputCollector, collect_artifacts
from .plain import record
from .protocol import (
    Done,
    EngineLimit,
    FromWorker,
    GuestError,
    GuestLimit,
    Output,
    Result,
    ToolCall,
    ToolCancel,
    ToolStart,
    Wait,
)
from .tool_hooks import ToolObserver
from .tools import ToolTable
from .values import BadValue, ValueLimits, ValueTooLarge, decode

Parts = list[memoryview]
_STAYS = nullcontext()
"""What takes a turn's place where there is none."""
T = TypeVar("T", bound=FromWorker)
_QUESTIONS = frozenset((ToolCall, Wait))
_MAY_TAKE_LONG = frozenset((ToolCall, ToolStart, Wait))
_AFTER_THE_RESULT = frozenset((Output, EngineLimit, Done))
NO_RESULT = GuestError(
    type="NoResult", message="the guest did not say how the cell ended", traceback="NoResult\n", line=None
)


@record(kw_only=True)
class CellRequest:
    """One cell to run, and who waits for it."""

    code: str
    inputs: Mapping[str, object]
    """Names that the code finds defined."""
    on_output: OnOutput | None
    context: Context
    """The caller's context variables: `on_output` and the tools see them."""
    async_runner: AsyncRunner
    """Where async tools run."""
    thread_pool: Callable[[], ToolThreads]
    """Gives the pool for `.aio` calls of blocking tools; asked when first needed."""
    deadline_monotonic: float
    """No wait for a tool or timer lasts longer, by `time.monotonic()`."""
    turn: Turn | None = None
    """The tenant's place that the guest holds while it runs; others may have it while the host works for the guest."""
    on_tool: ToolObserver | None = None
    """Sees, edits and denies the tool calls."""


class RunningCell:
    """One cell while its frames arrive, and its remains until the next one."""

    def __init__(
        self, cell_id: int, request: CellRequest, tools: ToolTable, limits: Limits, value_limits: ValueLimits
    ) -> None:
        self.done: Done | None = None
        self.asked = False
        """Whether the last frame was a question."""
        self._moves = False
        self._put_off: Callable[[], bytes | None] | None = None
        self._id = cell_id
        self._limits = limits
        self._value_limits = value_limits
        self._request = request
        self._tools = tools
        self._turn = request.turn
        self._away = request.turn or _STAYS
        self._calls: CellCalls | None = None
        self._aborted = False
        self.output = OutputCollector(limits.output_bytes, request.on_output, request.context)
        self._started = time.monotonic()
        self._wall_s: float | None = None
        self._result: Result | None = None
        self._value: object = None
        self._value_error: str | None = None
        self._files: list[tuple[str, bytes]] = []
        self._hits: LimitHits | None = None
        self.metadata: Metadata | None = None

    def take(self, frame: FromWorker, parts: Parts) -> bytes | None:
        kind = type(frame)
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise ProtocolError(f"{frame.type} while a cell runs")
        if self._result is not None and kind not in _AFTER_THE_RESULT:
            raise ProtocolError(f"{frame.type} after the result")
        self.asked = kind in _QUESTIONS
        if self._moves and kind in _MAY_TAKE_LONG:
            self._put_off = partial(handler, self, frame, parts)
            raise HandOver
        return handler(self, frame, parts)

    def begin_here(self) -> None:
        """The caller serves, until something may take long."""
        self._moves = True

    def resume(self) -> bytes | None:
        """Go on where the caller left."""
        self._moves = False
        put_off, self._put_off = self._put_off, None
        return None if put_off is None else put_off()

    def abort(self) -> None:
        """Let waits for tools and timers return at once and let no further tool run. Any thread, never blocks."""
        self._aborted = True  # before the look: `_begin_calls` looks the other way round
        if self._calls is not None:
            self._calls.abort()

    def close_calls(self) -> None:
        """Nobody waits for its tool calls any more."""
        if self._calls is not None:
            self._calls.close()

    def _begin_calls(self) -> CellCalls:
        """What a cell needs for its first tool call or wait; most have none."""
        request = self._request
        self._calls = calls = CellCalls(
            self._tools,
            self._limits,
            context=request.context,
            async_runner=request.async_runner,
            threads=request.thread_pool,
            deadline=request.deadline_monotonic,
            observer=request.on_tool,
        )
        if self._aborted:
            calls.abort()
        return calls

    def finish(self) -> Cell:
        """The cell as far as it came. Reads only."""
        result, done = self._result, self.done
        error = result.error if result is not None else NO_RESULT if done is not None else None
        return Cell(
            value=self._value,
            value_repr=None if result is None else result.value_repr,
            value_error=self._value_error,
            stdout=self.output.text("stdout"),
            stderr=self.output.text("stderr"),
            output_cut=self.output.cut,
            error=error,
            artifacts=collect_artifacts(self._files),
            artifacts_dropped=0 if done is None else done.artifacts_dropped,
            limits=self._limit_hits(),
            usage=self._usage(),
            interrupted=result is not None and result.interrupted,
            ended_by=None if self._calls is None else self._calls.ended_by,
            complete=done is not None,
            metadata=self.metadata,
        )

    # --- one handler per frame ----------------------------------------------------------------------------------------

    def on_output(self, frame: Output, parts: Parts) -> None:
        (data,) = _exactly(parts, 1, frame)
        self.output.add(frame.stream, data)

    def on_tool_call(self, frame: ToolCall, parts: Parts) -> bytes:
        (payload,) = _exactly(parts, 1, frame)
        calls = self._calls or self._begin_calls()
        if self._turn is None:
            return calls.call(frame.id, frame.name, payload)
        with self._turn:
            return calls.call(frame.id, frame.name, payload)

    def on_tool_start(self, frame: ToolStart, parts: Parts) -> None:
        (payload,) = _exactly(parts, 1, frame)
        calls = self._calls or self._begin_calls()
        calls.start(frame.id, frame.name, payload)

    def on_tool_cancel(self, frame: ToolCancel, parts: Parts) -> None:
        _exactly(parts, 0, frame)
        calls = self._calls or self._begin_calls()
        calls.cancel(frame.id)

    def on_wait(self, frame: Wait, parts: Parts) -> bytes:
        _exactly(parts, 0, frame)
        calls = self._calls or self._begin_calls()
        with self._away:
            return calls.wait(frame)

    def on_result(self, frame: Result, parts: Parts) -> None:
        _exactly(parts, int(frame.has_value), frame)
        if frame.has_value and (frame.error is not None or frame.value_error is not None):
            raise ProtocolError("a result with a value and an error")
        self._value_error = frame.value_error
        if frame.has_value:
            try:
                self._value = decode(parts[0], self._value_limits)
            except BadValue as exc:
                raise ProtocolError(f"value of the cell: {exc}") from None
            except ValueTooLarge as exc:
                self._value_error = str(exc)
                self._note_hit(exc.limit, exc.used)
        self._result = frame
        self.close_calls()

    def on_limit(self, frame: GuestLimit | EngineLimit, parts: Parts) -> None:
        """A limit that was held on the other side; the frame's type knows its name."""
        _exactly(parts, 0, frame)
        self._note_hit(frame.limit, frame.used)

    def on_done(self, frame: Done, parts: Parts) -> None:
        if frame.id != self._id:
            raise ProtocolError("done of another cell")
        _exactly(parts, len(frame.artifacts), frame)
        if parts:
            self._take_files(frame, parts)
        self.output.finish()
        self.close_calls()
        self._wall_s = time.monotonic() - self._started
        self.done = frame

    def _take_files(self, frame: Done, parts: Parts) -> None:
        if len(parts) > self._limits.artifacts or sum(map(len, parts)) > self._limits.artifact_bytes:
            raise ProtocolError("more artifacts than the cell was allowed")
        self._files = [(info.path, bytes(part)) for info, part in zip(frame.artifacts, parts, strict=True)]

    # --- sums ---------------------------------------------------------------------------------------------------------

    def _usage(self) -> Usage:
        calls, done = self._calls, self.done
        return Usage(
            wall_s=time.monotonic() - self._started if self._wall_s is None else self._wall_s,
            waited_s=0.0 if self._turn is None else self._turn.waited_s,
            cpu_s=0.0 if done is None else done.cpu_s,
            memory_bytes=0 if done is None else done.memory_bytes,
            output_bytes=self.output.total_bytes,
            tool_calls=0 if calls is None else calls.count,
            tool_s=0.0 if calls is None else calls.seconds,
            tool_bytes_in=0 if calls is None else calls.bytes_in,
            tool_bytes_out=0 if calls is None else calls.bytes_out,
            tools_abandoned=0 if calls is None else calls.abandoned,
        )

    def _note_hit(self, limit: str, used: float) -> None:
        self._hits = self._hits or LimitHits(self._limits)
        self._hits.note(limit, used)

    def _limit_hits(self) -> tuple[LimitHit, ...]:
        calls, hits = self._calls, self._hits
        dropped = 0 if self.done is None else self.done.artifacts_dropped
        if calls is None and hits is None and not dropped and not self.output.cut:
            return ()
        size = sum(len(data) for _, data in self._files)
        counted = {} if calls is None else calls.hits.copy()
        return (hits or LimitHits(self._limits)).all(counted, self.output, (len(self._files), size, dropped))


def _exactly(parts: Parts, count: int, frame: FromWorker) -> Parts:
    if len(parts) != count:
        raise ProtocolError(f"{frame.type} with {len(parts)} attachments, {count} are due")
    return parts


def _entry(kind: type[T], handler: Callable[[RunningCell, T, Parts], bytes | None]) -> tuple[type, _Handler]:
    return kind, handler  # type: ignore[return-value]  # the key says which frame the handler gets


_Handler = Callable[[RunningCell, FromWorker, Parts], bytes | None]
_HANDLERS: dict[type, _Handler] = dict(
    (
        _entry(Output, RunningCell.on_output),
        _entry(ToolCall, RunningCell.on_tool_call),
        _entry(ToolStart, RunningCell.on_tool_start),
        _entry(ToolCancel, RunningCell.on_tool_cancel),
        _entry(Wait, RunningCell.on_wait),
        _entry(GuestLimit, RunningCell.on_limit),
        _entry(EngineLimit, RunningCell.on_limit),
        _entry(Result, RunningCell.on_result),
        _entry(Done, RunningCell.on_done),
    )
)
