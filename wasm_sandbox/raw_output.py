"""What a guest writes to descriptors 1 and 2 past its runner, as `output` frames in their place among the runner's own.

`os.write`, a file opened on the descriptor and C code come here; `print` does not: its runner collects what is printed
and says in one byte of the guest's memory that something waits there. While it does, nothing here may be sent: what
waits was written first. The other way round the runner sends what it has before it takes more (guest/streams.py).

The rule: as with what is printed, a finished line goes out at once when the last one left some time ago, and all of it
before the host is asked for anything; so bytes written one by one cost no frame each. The byte is the guest's to set:
it decides over the order of its own output, and MOST_HELD over what is held meanwhile.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from .filesystem import FileSystem
from .memory import GuestMemory

WAITS, OVERTAKEN = 1, 2
"""States of the byte: the runner has something unsent; and something was written after that. 0: it has nothing."""
OVER_BYTES = 8
"""Passed on beyond the cell's cap, for the host to see that there was more: longer than any one character."""
MOST_HELD = 4 * 1024 * 1024
"""Bytes that wait for the runner; more are sent out of turn."""
_PART_BYTES = 128
"""What a part costs beside its bytes: one begins wherever the stream changes."""
_CHUNK_BYTES = 16 * 1024
_FRAME_BYTES = 256 * 1024
_QUIET_S = 0.02
_PREFIX = struct.Struct("<II")
_STREAMS = {1: b"stdout", 2: b"stderr"}


class RawOutput:
    """Takes the raw output of one file system, in a cell, and gives it to `send` in frames."""

    def __init__(self, files: FileSystem, memory: GuestMemory, state_at: int, send: Callable[[bytes], None]) -> None:
        """`state_at`: where the byte is."""
        self.waiting = False
        """Something is held here."""
        self.behind = False
        """It was written after what the runner has."""
        self._files = files
        self._memory = memory
        self._state_at = state_at
        self._send = send
        self._parts: list[tuple[int, bytearray]] = []
        self._size = 0
        self._sent_at = 0.0
        files.output, files.output_left = self._take, 0

    def begin(self, limit_bytes: int) -> None:
        """A cell begins, which may produce this much."""
        self._files.output_left = limit_bytes + OVER_BYTES
        self._sent_at = float("-inf")

    def end(self) -> None:
        """The cell is over: what is written until the next one is dropped."""
        self._files.output_left = 0
        self.send()

    def send(self) -> None:
        """Send what is held. Before the host is asked for anything."""
        parts, self._parts = self._parts, []
        self.waiting = self.behind = False
        self._size = 0
        for stream, data in parts:
            for start in range(0, len(data), _FRAME_BYTES):
                self._send(_frame(_STREAMS[stream], data[start : start + _FRAME_BYTES]))

    def follow(self) -> None:
        """The runner has sent output: what was written after it is next, unless it has more."""
        if self._state() != OVERTAKEN:
            self.send()

    def _take(self, stream: int, data: bytes) -> None:
        if self._state() and not self.behind:
            self.send()  # from before there was anything at the runner's
            self.behind = True
            self._memory.write(self._state_at, bytes((OVERTAKEN,)))
        elif not self._state():
            self.behind = False
        self._keep(stream, data)
        if self.behind:
            if self._size + _PART_BYTES * len(self._parts) > MOST_HELD:
                self.send()
        elif self._size >= _CHUNK_BYTES or (b"\n" in data and self._is_due()):
            self.send()

    def _keep(self, stream: int, data: bytes) -> None:
        if not self._parts or self._parts[-1][0] != stream:
            self._parts.append((stream, bytearray()))
        self._parts[-1][1].extend(data)
        self._size += len(data)
        self.waiting = True

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._sent_at < _QUIET_S:
            return False
        self._sent_at = now
        return True

    def _state(self) -> int:
        return self._memory.read(self._state_at, 1)[0] if self._state_at else 0


def _frame(stream: bytes, data: bytearray) -> bytes:
    header = b'{"type":"output","stream":"%b","attachments":[%d]}' % (stream, len(data))
    return b"".join((_PREFIX.pack(4 + len(header) + len(data), len(header)), header, data))
