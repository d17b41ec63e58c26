"""The host's state machine for one sandbox: takes the worker's frames, answers its questions, collects its cell.

The rule: a frame counts as hostile until its type, order, ids and attachments were checked here; the first wrong one
raises ProtocolError, the session is dead from then on, and its worker must be killed.

One thread at a time uses a session; `abort` and `partial_cell` may come from any.
"""

from __future__ import annotations

import keyword
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import Context
from typing import TypeVar

from .cell import Cell, LimitHit, Usage
from .dispatch import AsyncRunner, CellCalls, ToolThreads
from .errors import CannotCross, ConfigError, LimitExceeded, ProtocolError, SandboxBusy
from .lanes import Turn
from .limit_hits import LimitHits
from .limits import MIB, Limits
from .metadata import Metadata
from .output import OnOutput, OutputCollector, collect_artifacts
from .plain import record
from .protocol import (
    PROTOCOL_VERSION,
    Done,
    EngineLimit,
    FromWorker,
    GuestError,
    GuestLimit,
    Output,
    Result,
    RunCell,
    Start,
    ToolCall,
    ToolCancel,
    ToolStart,
    Wait,
    parse_from_worker,
    render_cell,
    render_start,
)
from .tool_hooks import ToolObserver
from .tools import Function, Tool, ToolTable
from .values import BadValue, CrossError, ValueLimits, ValueTooLarge, decode, encode

__all__ = ["AsyncRunner", "CellRequest", "Session", "ToolThreads"]

Parts = list[memoryview]
T = TypeVar("T", bound=FromWorker)
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


class Session:
    """What the host knows of one sandbox. `on_frame` is what a link calls for each frame of the worker."""

    def __init__(self, tools: ToolTable | Iterable[Tool | Function], limits: Limits) -> None:
        """Raises ConfigError for what cannot be a tool."""
        self._tools = tools if isinstance(tools, ToolTable) else ToolTable(tools)
        self._limits = limits
        self._value_limits = ValueLimits(limits.value_bytes, limits.value_depth, limits.int_digits)
        self._cell: _RunningCell | None = None
        self._next_id = 0
        self._dead = False
        self.metadata: Metadata | None = None
        """What its cells say that they ran on; the sandbox sets it."""

    @property
    def finished(self) -> bool:
        """Whether the cell got its ending frame."""
        return self._cell is None or self._cell.done is not None

    @property
    def asked(self) -> bool:
        """Whether its last frame was a question: until it is answered an honest guest does nothing."""
        return self._cell is not None and self._cell.asked

    def start_frame(self, seed: str) -> bytes:
        """The frame that makes a warm worker this sandbox. `seed`: 64 hex digits nobody can guess."""
        limits = self._limits
        start = Start(
            protocol_version=PROTOCOL_VERSION,
            seed=seed,
            memory_bytes=limits.memory_mb * MIB,
            files=limits.files,
            file_bytes=limits.file_bytes,
            tasks=limits.tasks,
            value_bytes=limits.value_bytes,
            int_digits=limits.int_digits,
            value_depth=limits.value_depth,
        )
        return render_start(start, self._tools.stubs)

    def begin_cell(self, request: CellRequest) -> bytes:
        """The frame that runs the cell. From here on the session expects its frames.

        Raises:
            ConfigError: the code is not text, an input has no usable name; CannotCross: an input cannot enter.
            LimitExceeded: the code is longer than `code_bytes`.
            SandboxBusy: a cell is running.
        """
        if self._dead:
            raise ProtocolError("the worker broke the protocol before")
        if not self.finished:
            raise SandboxBusy("a cell is running in this sandbox")
        attachments = self._source(request.code), self._inputs(request.inputs)
        cell_id, self._next_id = self._next_id, self._next_id + 1
        self._cell = _RunningCell(cell_id, request, self._tools, self._limits, self._value_limits)
        self._cell.metadata = self.metadata
        limits = self._limits
        frame = RunCell(
            id=cell_id,
            output_bytes=limits.output_bytes,
            artifacts=limits.artifacts,
            artifact_bytes=limits.artifact_bytes,
            cpu_s=limits.cpu_s,
        )
        return render_cell(frame, attachments)

    def on_frame(self, frame: bytes | memoryview) -> bytes | None:
        """Take a frame of the worker; the frame to answer with, or None.

        Raises:
            ProtocolError: no honest worker sends this now. The session is dead.
        """
        if self._dead or self._cell is None or self._cell.done is not None:
            self._die()
            raise ProtocolError("a frame where none was due")
        try:
            parsed, parts = parse_from_worker(frame, max_bytes=self._limits.frame_bytes)
            return self._cell.take(parsed, parts)
        except BaseException:
            self._die()
            raise

    __call__ = on_frame

    def withdraw_cell(self) -> None:
        """The frame of `begin_cell` was not sent: the session is as it was before."""
        if self._cell is not None:
            self._cell.calls.close()
        self._cell = None

    def abort(self, reason: str) -> None:
        """Let waits for tools and timers return at once and let no further tool run. Any thread, never blocks."""
        cell = self._cell
        if cell is not None:
            cell.calls.abort()

    def end_cell(self) -> Cell:
        """The cell, after its ending frame.

        Raises:
            BaseException: what `on_output` raised; `partial_cell` has the cell then.
        """
        if self._cell is None or self._cell.done is None:
            raise ProtocolError("the worker stopped before the cell was over")
        if self._cell.output.callback_error is not None:
            raise self._cell.output.callback_error
        return self._cell.finish()

    def partial_cell(self) -> Cell | None:
        """What the running cell gave so far, or the whole cell when it is over; None before the first. Any thread."""
        return None if self._cell is None else self._cell.finish()

    def _die(self) -> None:
        self._dead = True
        if self._cell is not None:
            self._cell.calls.abort()
            self._cell.calls.close()

    def _source(self, code: object) -> bytes:
        if not isinstance(code, str):
            raise ConfigError(f"code is text (str), not {type(code).__name__}")
        try:
            source = code.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise ConfigError(f"the code has a lone surrogate at index {exc.start}") from exc
        used, allowed = len(source), self._limits.code_bytes
        if used > allowed:
            message = f"the code has {used} bytes, code_bytes allows {allowed}"
            raise LimitExceeded(message, limit="code_bytes", used=used, allowed=allowed)
        return source

    def _inputs(self, inputs: Mapping[str, object]) -> bytes:
        for name in inputs:
            if not str(name).isidentifier() or keyword.iskeyword(name):
                raise ConfigError(f"an input is a variable of the cell; {name!r:.100} cannot be one")
            if name in self._tools or name == "tools":
                raise ConfigError(f"the input {name!r} would hide a tool; rename it")
        try:
            return encode(dict(inputs), self._value_limits, "inputs")
        except CrossError as exc:
            raise CannotCross(exc.reason, path=exc.path) from exc


class _RunningCell:
    """One cell while its frames arrive, and its remains until the next one."""

    def __init__(
        self, cell_id: int, request: CellRequest, tools: ToolTable, limits: Limits, value_limits: ValueLimits
    ) -> None:
        self.done: Done | None = None
        self.asked = False
        self._id = cell_id
        self._limits = limits
        self._value_limits = value_limits
        self._context = request.context.copy()
        self._turn = request.turn
        self._away = request.turn or nullcontext()
        self.output = OutputCollector(limits.output_bytes, request.on_output)
        self.calls = CellCalls(
            tools,
            limits,
            context=request.context,
            async_runner=request.async_runner,
            threads=request.thread_pool,
            deadline=request.deadline_monotonic,
            observer=request.on_tool,
        )
        self._started = time.monotonic()
        self._wall_s: float | None = None
        self._result: Result | None = None
        self._value: object = None
        self._value_error: str | None = None
        self._files: list[tuple[str, bytes]] = []
        self._hits = LimitHits(limits)
        self.metadata: Metadata | None = None

    def take(self, frame: FromWorker, parts: Parts) -> bytes | None:
        handler = _HANDLERS.get(type(frame))
        if handler is None:
            raise ProtocolError(f"{frame.type} while a cell runs")
        if self._result is not None and not isinstance(frame, Output | EngineLimit | Done):
            raise ProtocolError(f"{frame.type} after the result")
        self.asked = isinstance(frame, ToolCall | Wait)
        return handler(self, frame, parts)

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
            ended_by=self.calls.ended_by,
            complete=done is not None,
            metadata=self.metadata,
        )

    # --- one handler per frame ----------------------------------------------------------------------------------------

    def on_output(self, frame: Output, parts: Parts) -> None:
        (data,) = _exactly(parts, 1, frame)
        self._context.run(self.output.add, frame.stream, data)

    def on_tool_call(self, frame: ToolCall, parts: Parts) -> bytes:
        (payload,) = _exactly(parts, 1, frame)
        if self._turn is None:
            return self.calls.call(frame.id, frame.name, payload)
        with self._turn:
            return self.calls.call(frame.id, frame.name, payload)

    def on_tool_start(self, frame: ToolStart, parts: Parts) -> None:
        (payload,) = _exactly(parts, 1, frame)
        self.calls.start(frame.id, frame.name, payload)

    def on_tool_cancel(self, frame: ToolCancel, parts: Parts) -> None:
        _exactly(parts, 0, frame)
        self.calls.cancel(frame.id)

    def on_wait(self, frame: Wait, parts: Parts) -> bytes:
        _exactly(parts, 0, frame)
        with self._away:
            return self.calls.wait(frame)

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
                self._hits.note(exc.limit, exc.used)
        self._result = frame
        self.calls.close()

    def on_limit(self, frame: GuestLimit | EngineLimit, parts: Parts) -> None:
        """A limit that was held on the other side; the frame's type knows its name."""
        _exactly(parts, 0, frame)
        self._hits.note(frame.limit, frame.used)

    def on_done(self, frame: Done, parts: Parts) -> None:
        if frame.id != self._id:
            raise ProtocolError("done of another cell")
        _exactly(parts, len(frame.artifacts), frame)
        size = sum(map(len, parts))
        if len(parts) > self._limits.artifacts or size > self._limits.artifact_bytes:
            raise ProtocolError("more artifacts than the cell was allowed")
        self._files = [(info.path, bytes(part)) for info, part in zip(frame.artifacts, parts, strict=True)]
        self._context.run(self.output.finish)
        self.calls.close()
        self._wall_s = time.monotonic() - self._started
        self.done = frame

    # --- sums ---------------------------------------------------------------------------------------------------------

    def _usage(self) -> Usage:
        calls, done = self.calls, self.done
        return Usage(
            wall_s=time.monotonic() - self._started if self._wall_s is None else self._wall_s,
            waited_s=0.0 if self._turn is None else self._turn.waited_s,
            cpu_s=0.0 if done is None else done.cpu_s,
            memory_bytes=0 if done is None else done.memory_bytes,
            output_bytes=self.output.total_bytes,
            tool_calls=calls.count,
            tool_s=calls.seconds,
            tool_bytes_in=calls.bytes_in,
            tool_bytes_out=calls.bytes_out,
            tools_abandoned=calls.abandoned,
        )

    def _limit_hits(self) -> tuple[LimitHit, ...]:
        size = sum(len(data) for _, data in self._files)
        dropped = 0 if self.done is None else self.done.artifacts_dropped
        return self._hits.all(self.calls.hits.copy(), self.output, (len(self._files), size, dropped))


def _exactly(parts: Parts, count: int, frame: FromWorker) -> Parts:
    if len(parts) != count:
        raise ProtocolError(f"{frame.type} with {len(parts)} attachments, {count} are due")
    return parts


def _entry(kind: type[T], handler: Callable[[_RunningCell, T, Parts], bytes | None]) -> tuple[type, _Handler]:
    return kind, handler  # type: ignore[return-value]  # the key says which frame the handler gets


_Handler = Callable[[_RunningCell, FromWorker, Parts], bytes | None]
_HANDLERS: dict[type, _Handler] = dict(
    (
        _entry(Output, _RunningCell.on_output),
        _entry(ToolCall, _RunningCell.on_tool_call),
        _entry(ToolStart, _RunningCell.on_tool_start),
        _entry(ToolCancel, _RunningCell.on_tool_cancel),
        _entry(Wait, _RunningCell.on_wait),
        _entry(GuestLimit, _RunningCell.on_limit),
        _entry(EngineLimit, _RunningCell.on_limit),
        _entry(Result, _RunningCell.on_result),
        _entry(Done, _RunningCell.on_done),
    )
)
