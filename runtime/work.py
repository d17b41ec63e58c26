"""What a request is beside its bytes, and the small ones: the start of a sandbox, and its file requests.

The rule: a small request has one answer of the expected type. Anything else is a broken worker.
"""

from __future__ import annotations

import enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol, TypeVar

from .common_frames import read_frame
from .errors import ConfigError, ProtocolError, SandboxFileError, TimedOut
from .limits import Limits, longest_frame
from .links import MovingSink
from .protocol import FileDone, FromWorker, ListFiles, ReadFile, Ready, WriteFile, render
from .safe_logs import one_line

if TYPE_CHECKING:
    from .cell import Cell

MAX_PATH_BYTES = 4096
T_co = TypeVar("T_co", covariant=True)


class Why(enum.Enum):
    """Why an execution was told to stop. The value is what `Work.abort` hears."""

    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    CLOSED = "closed"


class Work(Protocol[T_co]):
    """What a request means beside its bytes: a cell, a file request, the start of a sandbox."""

    @property
    def frame(self) -> bytes:
        """The request."""
        ...

    @property
    def sink(self) -> MovingSink:
        """Takes the worker's frames."""
        ...

    def finish(self) -> T_co:
        """The result, after the request returned. On the server thread."""
        ...

    def partial(self) -> Cell | None:
        """What a cell had printed so far; the whole cell after `finish`. Any thread, while a tool may hang."""
        ...

    def abort(self, why: Why) -> None:
        """Let waits for tools and timers return, so that the guest sees the interrupt. Any thread, never blocks."""
        ...

    def withdraw(self) -> str | None:
        """The request was never sent: undo what was prepared. Why the sandbox is lost by that; None if it is not."""
        ...


def timed_out(
    used_s: float, allowed_s: float, *, state_kept: bool, cell: Cell | None, cause: BaseException | None
) -> TimedOut:
    """The error for a request that was not done in its time."""
    fate = "kept its state" if state_kept else "was stopped and its state is gone, reset() starts it afresh"
    message = f"not done within {allowed_s:g} s; the sandbox {fate}"
    error = TimedOut(message, used=used_s, allowed=allowed_s, state_kept=state_kept, cell=cell)
    error.__cause__ = cause
    return error


class ReplySink:
    """Takes the one frame that answers a request."""

    def __init__(self, expected: type[FromWorker], max_bytes: int) -> None:
        self._expected = expected
        self._max_bytes = max_bytes
        self.reply: FromWorker | None = None
        self.parts: list[bytes] = []

    @property
    def finished(self) -> bool:
        return self.reply is not None

    def __call__(self, frame: bytes | memoryview, /) -> None:
        parsed, parts = read_frame(frame, max_bytes=self._max_bytes)
        if type(parsed) is not self._expected or self.reply is not None:
            raise ProtocolError(f"{parsed.type} where {self._expected.__name__} was due")
        # The frame may be a view into a buffer that the link uses again.
        self.reply, self.parts = parsed, [bytes(part) for part in parts]

    def begin_here(self) -> None:
        """Nothing here takes long."""

    def resume(self) -> None:
        """It hands nothing over."""


class _SmallWork:
    """What start and file requests have in common: no output, nothing to interrupt."""

    def __init__(self, frame: bytes, sink: ReplySink) -> None:
        self.frame = frame
        self.sink = sink

    def partial(self) -> Cell | None:
        return None

    def abort(self, why: Why) -> None:
        """Nothing waits on the host's side."""

    def withdraw(self) -> str | None:
        return None


class StartWork(_SmallWork):
    """Makes a leased worker the sandbox of one tenant."""

    def __init__(self, frame: bytes, limits: Limits) -> None:
        super().__init__(frame, ReplySink(Ready, limits.frame_bytes))

    def finish(self) -> None:
        """Nothing to hand over: the worker is ready."""

    def withdraw(self) -> str | None:
        return "it was not started"


class FileWork(_SmallWork):
    """One file request. The caller's path is checked here, the file system's own rules hold in the worker."""

    def __init__(self, request: WriteFile | ReadFile | ListFiles, limits: Limits, data: bytes | None = None) -> None:
        sink = ReplySink(FileDone, longest_frame(limits))
        super().__init__(render(request, () if data is None else (data,)), sink)
        self._path = "" if isinstance(request, ListFiles) else request.path
        self._asks = not isinstance(request, WriteFile)

    def finish(self) -> bytes:
        """Bytes of the file that was read, or the paths that were listed with NUL between them.

        Raises:
            SandboxFileError: the file system refused.
        """
        reply = self.sink.reply
        if not isinstance(reply, FileDone):
            raise ProtocolError("a file request without an answer")
        if reply.error is not None:
            raise SandboxFileError(f"{self._path}: {one_line(reply.error)}", path=self._path)
        if len(self.sink.parts) != int(self._asks):
            raise ProtocolError(f"{len(self.sink.parts)} attachments in the answer to a file request")
        return self.sink.parts[0] if self._asks else b""


def split_paths(listed: bytes) -> list[str]:
    """The paths of a `list_files`. Raises ProtocolError for what is no text."""
    try:
        return str(listed, "utf-8").split("\0") if listed else []
    except UnicodeDecodeError:
        raise ProtocolError("a list of paths that is no text") from None


def write_work(path: object, data: object, limits: Limits) -> FileWork:
    """The request that writes a file. Raises ConfigError for what is no path or no data."""
    if not isinstance(data, bytes | bytearray | str):
        raise ConfigError(f"write_file takes bytes or str, not {type(data).__name__}")
    raw = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    name = checked_path(path)
    if len(raw) > limits.file_bytes:
        raise SandboxFileError(f"{name}: {len(raw)} bytes, file_bytes allows {limits.file_bytes}", path=name)
    return FileWork(WriteFile(path=name), limits, raw)


def checked_path(path: object) -> str:
    """The path as text for the worker.

    Raises:
        ConfigError: not a path, or one that no file can have.
    """
    text = str(path) if isinstance(path, PurePath) else path
    try:
        raw = text.encode("utf-8") if isinstance(text, str) else b""
    except UnicodeEncodeError as exc:
        raise ConfigError(f"not a path: {exc}") from exc
    if not raw or len(raw) > MAX_PATH_BYTES or b"\0" in raw:
        raise ConfigError(f"a path is text of 1 to {MAX_PATH_BYTES} bytes without NUL, not {path!r:.100}")
    return str(text)
