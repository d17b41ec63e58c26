"""One sandbox as its worker sees it: whole frames of the host in, whole frames out.

`GuestHost` stands between the channel and the instance. It reads headers that the host wrote, passes on the frames that
the guest builds after a look at their type, and adds what only it knows: CPU time, memory, artifacts, the file system.
The same object runs in a worker process and, in thread isolation, in the host; the session behind it trusts neither.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from .filesystem import FileSystem, FsError
from .host_calls import Refused
from .instance import Instance, NoRoom, Trapped
from .raw_output import RawOutput
from .world import World

Send = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]

ARTIFACT_FOLDER = "/out"
ARTIFACT_PATH_BYTES = 256 * 1024
"""Of all paths in one header, as JSON: half of what a header may have. The files of further ones are left out."""
MIB = 1024 * 1024
_PREFIX = struct.Struct("<II")
_scan = cast("Callable[[str, int], tuple[Any, int]]", json.JSONDecoder().scan_once)  # type: ignore[attr-defined]
_ONE_WAY = tuple(
    f'{{"type":"{kind}"'.encode() for kind in ("output", "tool_start", "tool_cancel", "guest_limit", "result")
)
_OUTPUT = b'{"type":"output"'
_QUESTIONS = tuple(f'{{"type":"{kind}"'.encode() for kind in ("tool_call", "wait"))


class ProcessLimits(Protocol):
    """What the kernel holds a worker to: the `Jail`."""

    def limit_memory(self, memory_bytes: int, file_bytes: int, value_bytes: int) -> None:
        """Cap what this process may write to, for good."""
        ...

    def limit_cpu(self, more_s: float) -> None:
        """Cap the CPU time of what follows."""
        ...


class GuestHost:
    """Serves the host's requests with one instance."""

    def __init__(
        self, instance: Instance, world: World, files: FileSystem, limits: ProcessLimits | None = None
    ) -> None:
        """`limits`: caps of this very process, in a worker; None where the guest shares its process with others."""
        self.instance = instance
        self._limits = limits
        self._world = world
        self._files = files
        self._send: Send | None = None
        self._ask: Ask | None = None
        self._raw = RawOutput(files, instance.memory, instance.output_state, self._pass_on)
        instance.host_call = self._host_call
        self._handlers: dict[str, Callable[[dict[str, Any], list[memoryview], bytes], None]] = {
            "start": self._start,
            "cell": self._cell,
            "write_file": self._write_file,
            "read_file": self._read_file,
            "list_files": self._list_files,
        }

    def handle(self, frame: bytes, send: Send, ask: Ask) -> None:
        """Serve one request and send the frame that ends it.

        Args:
            frame: `start`, `cell`, `write_file`, `read_file` or `list_files`, whole.
            send: passes a frame on to the host.
            ask: passes a question on and returns the host's answer.

        Raises:
            Trapped: the instance is lost.
        """
        header, attachments = _split(frame)
        self._send, self._ask = send, ask
        try:
            self._handlers[header["type"]](header, attachments, frame)
        finally:
            self._send = self._ask = None

    def interrupt(self) -> None:
        """KeyboardInterrupt in the guest. Any thread."""
        self.instance.interrupt()

    def clear_interrupt(self) -> None:
        """Take back an interrupt that the guest has not seen. Its caller does this between two requests, not the
        request itself: an interrupt may come before the first instruction of the cell that it is meant for."""
        self.instance.clear_interrupt()

    def request_trap(self) -> bool:
        """Stop the guest for good, if the engine can. Any thread."""
        return self.instance.request_trap()

    def close(self) -> None:
        """Free the instance and its files. It must not be running."""
        self.instance.close()
        self._files.close()

    def rehearse(self) -> None:
        """Let the guest run one cell in private, then walk the way of a request here: the tenant's first finds its
        pages in place, of the guest and of this process. Leaves no trace, except that randomness is another."""
        self.instance.enter(build_frame({"type": "noop", "attachments": []}))
        self._world.reseed(self._world.random(32))
        self._send, self._ask = _unheard, _unasked
        try:
            _split(_UNREADABLE)
            self._cell(_REHEARSED_CELL, [], _UNREADABLE)  # the guest has a word ready for a frame that it cannot read
        finally:
            self._send = self._ask = None

    # --- requests -----------------------------------------------------------------------------------------------------

    def _start(self, header: dict[str, Any], _attachments: list[memoryview], frame: bytes) -> None:
        self._world.reseed(bytes.fromhex(header["seed"]))
        self._files.limit(max_files=header["files"], max_bytes=header["file_bytes"])
        self.instance.limit_memory(header["memory_bytes"])
        if self._limits is not None:
            self._limits.limit_memory(header["memory_bytes"], header["file_bytes"], header["value_bytes"])
        if self._send is not None:
            self._send(_READY)  # first: the guest makes itself ready while the host prepares the first cell
        self.instance.enter(frame)

    def _cell(self, header: dict[str, Any], _attachments: list[memoryview], frame: bytes) -> None:
        if self._limits is not None:
            self._limits.limit_cpu(header["cpu_s"])
        marker = self._files.generation
        self._files.quota.refused.clear()
        self.instance.memory_refused = 0
        self._raw.begin(header["output_bytes"])
        started = time.thread_time()
        idle = self._enter(frame)
        while idle:
            idle = self._enter(self._question(idle))
        self._raw.end()
        cpu_s = time.thread_time() - started
        self._tell_refused()
        if self._files.generation == marker:
            self._send_done(header["id"], cpu_s)
            return
        found, dropped = self._collect_artifacts(marker, header["artifacts"], header["artifact_bytes"])
        parts = tuple(data for _, data in found)
        done = {
            "type": "done",
            "id": header["id"],
            "cpu_s": cpu_s,
            "memory_bytes": self.instance.memory_bytes,
            "artifacts": [{"path": path} for path, _ in found],
            "artifacts_dropped": dropped,
            "attachments": [len(part) for part in parts],
        }
        self._emit(done, parts)

    def _enter(self, frame: bytes) -> bytes:
        """Give a frame to the guest; if it has no memory for it, only what the header says: a sandbox that is full has
        a MemoryError there, like any other."""
        try:
            return self.instance.enter(frame)
        except NoRoom:
            header, attachments = _split(frame)
            if not attachments:
                raise
            return self.instance.enter(build_frame({**header, "attachments": []}))

    def _tell_refused(self) -> None:
        """What the engine did not give the guest during this cell, whether or not the guest let it be seen."""
        refused: dict[str, float] = dict(self._files.quota.refused)
        if self.instance.memory_refused:
            refused["memory_mb"] = self.instance.memory_refused / MIB
        for limit, used in refused.items():
            self._tell_limit(limit, used)

    def _tell_limit(self, limit: str, used: float) -> None:
        self._emit({"type": "engine_limit", "limit": limit, "used": used, "attachments": []})

    def _send_done(self, cell_id: int, cpu_s: float) -> None:
        """`done` of a cell that left no file, the commonest: without the JSON encoder."""
        text = (
            f'{{"type":"done","id":{cell_id},"cpu_s":{cpu_s!r},"memory_bytes":{self.instance.memory_bytes},'
            '"artifacts":[],"artifacts_dropped":0,"attachments":[]}'
        )
        if self._send is not None:
            self._send(_PREFIX.pack(4 + len(text), len(text)) + text.encode("ascii"))

    def _write_file(self, header: dict[str, Any], attachments: list[memoryview], _frame: bytes) -> None:
        self._file_request(lambda: self._files.write_file(header["path"], bytes(attachments[0])))

    def _read_file(self, header: dict[str, Any], _attachments: list[memoryview], _frame: bytes) -> None:
        self._file_request(lambda: self._files.read_file(header["path"]))

    def _list_files(self, _header: dict[str, Any], _attachments: list[memoryview], _frame: bytes) -> None:
        self._file_request(lambda: "\0".join(self._files.list_files()).encode())

    def _file_request(self, action: Callable[[], bytes | None]) -> None:
        error: str | None = None
        parts: tuple[bytes, ...] = ()
        try:
            found = action()
        except FsError as exc:
            error = str(exc)
        else:
            parts = () if found is None else (found,)
        header = {"type": "file_done", "error": error, "attachments": [len(part) for part in parts]}
        self._emit(header, parts)

    def _collect_artifacts(self, marker: int, count: int, size: int) -> tuple[list[tuple[str, bytes]], int]:
        """Files under /out that are new or changed since the marker, as many as the caps allow, and the number left
        out. The limit that did it is told to the host.
        """
        changed = self._files.changed_under(ARTIFACT_FOLDER, marker)
        total = sum(length for _, length in changed)
        if len(changed) > count:
            self._tell_limit("artifacts", len(changed))
        if total > size:
            self._tell_limit("artifact_bytes", total)
        found: list[tuple[str, bytes]] = []
        left, path_bytes = size, ARTIFACT_PATH_BYTES
        for path, length in changed:
            escaped = len(json.dumps(path))
            if len(found) < count and length <= left and escaped <= path_bytes:
                left, path_bytes = left - length, path_bytes - escaped
                found.append((path, self._files.read_file(path)))
        return found, len(changed) - len(found)

    # --- the guest's side ---------------------------------------------------------------------------------------------

    def _host_call(self, message: bytes) -> bytes:
        """A message of the guest: a frame of one of its own types, passed on as it is."""
        if self._send is None or self._ask is None or not _is_one_frame(message):
            raise Refused
        raw = self._raw
        if raw.waiting and not (raw.behind and message.startswith(_OUTPUT, _PREFIX.size)):
            raw.send()
        if message.startswith(_QUESTIONS, _PREFIX.size):
            return self._ask(message)
        if message.startswith(_ONE_WAY, _PREFIX.size):
            self._send(message)
            if raw.waiting:
                raw.follow()
            return b""
        raise Refused

    def _question(self, idle: bytes) -> bytes:
        """Pass on what an idle guest waits for. It may only wait: anything else is a broken guest."""
        if self._ask is None or not _is_one_frame(idle) or not idle.startswith(_QUESTIONS[1], _PREFIX.size):
            raise Trapped("the guest's entry function returned something that is no `wait`")
        if self._raw.waiting:
            self._raw.send()
        return self._ask(idle)

    def _pass_on(self, frame: bytes) -> None:
        if self._send is not None:
            self._send(frame)

    def _emit(self, header: dict[str, Any], parts: tuple[bytes, ...] = ()) -> None:
        self._pass_on(build_frame(header, parts))


def _is_one_frame(message: bytes) -> bool:
    """By its own length. Behind the first of two frames in one message a guest could hide what only a worker may say,
    such as the `done` of a cell that runs on."""
    return len(message) >= _PREFIX.size and _PREFIX.unpack_from(message)[0] == len(message) - 4


def build_frame(header: dict[str, Any], parts: tuple[bytes, ...] = ()) -> bytes:
    """A frame from a header that lists its attachments. `"type"` stands first."""
    raw = json.dumps(header, separators=(",", ":")).encode()
    body = sum(map(len, parts))
    return b"".join((_PREFIX.pack(4 + len(raw) + body, len(raw)), raw, *parts))


def _split(frame: bytes) -> tuple[dict[str, Any], list[memoryview]]:
    """Header and attachments of a frame that the host wrote."""
    _, header_length = _PREFIX.unpack_from(frame)
    start = _PREFIX.size + header_length
    header: dict[str, Any] = _scan(str(frame[_PREFIX.size : start], "utf-8"), 0)[0]
    view = memoryview(frame)
    parts: list[memoryview] = []
    for length in header["attachments"]:
        parts.append(view[start : start + length])
        start += length
    return header, parts


def _unheard(_frame: bytes) -> None:
    """Where what is said in a rehearsal goes."""


def _unasked(_frame: bytes) -> bytes:
    """A rehearsal asks for nothing."""
    raise Refused


_READY = build_frame({"type": "ready", "attachments": []})
_UNREADABLE = build_frame({"attachments": []})
_REHEARSED_CELL: dict[str, Any] = {"id": 0, "cpu_s": 60, "output_bytes": 0, "artifacts": 0, "artifact_bytes": 0}
