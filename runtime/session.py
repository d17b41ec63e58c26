"""The host's state machine for one sandbox: takes the worker's frames, answers its questions, collects its cell.

The rule: a frame counts as hostile until its type, order, ids and attachments were checked, here or in the cell that
runs (running_cell.py); the first wrong one raises ProtocolError, the session is dead from then on, and its worker must
be killed.

One thread at a time uses a session; `abort` and `partial_cell` may come from any.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping

from .cell import Cell
from .common_frames import read_frame
from .errors import CannotCross, ConfigError, LimitExceeded, ProtocolError, SandboxBusy
from .limits import MIB, Limits
from .links import HandOver
from .metadata import Metadata
from .protocol import PROTOCOL_VERSION, RunCell, Start, render_cell, render_start
from .running_cell import CellRequest, RunningCell
from .tools import Function, Tool, ToolTable
from .values import CrossError, ValueLimits, encode

_NO_INPUTS = encode({}, ValueLimits(), "inputs")


class Session:
    """What the host knows of one sandbox. `on_frame` is what a link calls for each frame of the worker."""

    def __init__(self, tools: ToolTable | Iterable[Tool | Function], limits: Limits) -> None:
        """Raises ConfigError for what cannot be a tool."""
        self._tools = tools if isinstance(tools, ToolTable) else ToolTable(tools)
        self._limits = limits
        self._value_limits = ValueLimits(limits.value_bytes, limits.value_depth, limits.int_digits)
        self._cell: RunningCell | None = None
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
        self._cell = RunningCell(cell_id, request, self._tools, self._limits, self._value_limits)
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
            HandOver: the answer may take long, and this is the caller's thread: `resume` on another gives it.
        """
        if self._dead or self._cell is None or self._cell.done is not None:
            self._die()
            raise ProtocolError("a frame where none was due")
        try:
            parsed, parts = read_frame(frame, max_bytes=self._limits.frame_bytes)
            return self._cell.take(parsed, parts)
        except HandOver:
            raise
        except BaseException:
            self._die()
            raise

    __call__ = on_frame

    def begin_here(self) -> None:
        """See `MovingSink`. Once for each cell that its caller serves."""
        if self._cell is not None:
            self._cell.begin_here()

    def resume(self) -> bytes | None:
        """The answer to the frame that was handed over; None if there is none."""
        try:
            return None if self._cell is None else self._cell.resume()
        except BaseException:
            self._die()
            raise

    def withdraw_cell(self) -> None:
        """The frame of `begin_cell` was not sent: the session is as it was before."""
        if self._cell is not None:
            self._cell.close_calls()
        self._cell = None

    def abort(self, reason: str) -> None:
        """Let waits for tools and timers return at once and let no further tool run. Any thread, never blocks."""
        cell = self._cell
        if cell is not None:
            cell.abort()

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
            self._cell.abort()
            self._cell.close_calls()

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
        if not inputs:
            return _NO_INPUTS
        if not isinstance(inputs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f'inputs are values by name, not {inputs!r:.100}; write inputs={{"name": value}}')
        for name in inputs:
            if not str(name).isidentifier() or keyword.iskeyword(name):
                raise ConfigError(f"an input is a variable of the cell; {name!r:.100} cannot be one")
            if name in self._tools or name == "tools":
                raise ConfigError(f"the input {name!r} would hide a tool; rename it")
        try:
            return encode(dict(inputs), self._value_limits, "inputs")
        except CrossError as exc:
            raise CannotCross(exc.reason, path=exc.path) from exc
