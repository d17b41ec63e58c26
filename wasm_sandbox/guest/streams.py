"""stdout and stderr: text streams that send `output` frames while the cell runs.

Rule: what was printed is sent before the guest waits for anything. In between, a finished line goes out at once when
the last one left some time ago, and lines that follow each other closely share a frame. Past the cell's cap nothing is
sent or kept, so a flood costs little; the bytes just past it do go out, for the host to see that there was more.

What is written to descriptors 1 and 2 does not come here. One byte of memory keeps it in its place: here it is said
that something waits, there that something was written after it, which then waits for the next frame (raw_output.py).
"""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import frames
from .interrupts import Interrupts

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on

_CHUNK_BYTES = 16 * 1024
_FRAME_BYTES = 256 * 1024
"""Of what was written. Three times that goes out if none of it is UTF-8, and fits the smallest `Limits.frame_bytes`."""
_QUIET_S = 0.02
"""A line is sent at once when the last one left longer ago than this."""
_LINES_PER_LOOK = 8
"""Reading the clock is a host call, so a flood looks at it once in this many lines."""
_OVER_BYTES = 8
"""Sent past the cap: more than any one character."""
_NOTHING, _WAITS, _OVERTAKEN = 0, 1, 2
"""States of the byte: nothing is unsent here; something is; and something was written to a descriptor after that."""
_ERRORS = "backslashreplace"
_monotonic = time.monotonic
_decode_utf8 = codecs.utf_8_decode
_output_frame = frames.output


class Output:
    """Collects what both streams write, in order, and sends it."""

    def __init__(self, call: Callable[[bytes], bytes], interrupts: Interrupts) -> None:
        self._call = call
        self._interrupts = interrupts
        self._buffer = bytearray()
        self.state: bytearray | memoryview = bytearray(1)
        """Where there is a host that looks at it: a byte that both share."""
        self._stream = b"stdout"
        self._room = 0
        self._lines = self._look_after = 1
        self._sent_at = 0.0
        self._text = {name: self._new_stream(name) for name in ("stdout", "stderr")}
        for method in (self.write, self.flush, self._send, self._line_is_due):
            interrupts.protect(method)

    def begin(self, limit_bytes: int) -> None:
        """Start a cell: give `sys.stdout` and `sys.stderr` back, whatever the last cell did with them."""
        self._buffer.clear()
        self.state[0] = _NOTHING
        self._room = limit_bytes
        self._lines = self._look_after = 1
        self._sent_at = -1e9
        for name in ("stdout", "stderr"):
            if not _is_usable(self._text[name]):
                self._text[name] = self._new_stream(name)
        sys.stdout = sys.__stdout__ = self._text["stdout"]  # type: ignore[misc]  # Final for others
        sys.stderr = sys.__stderr__ = self._text["stderr"]  # type: ignore[misc]

    def write(self, stream: bytes, data: bytes) -> int:
        """Take bytes of one stream; send them now or later."""
        count = len(data)
        if self._room >= 0:
            if self.state[0] == _OVERTAKEN:
                self._send(final=True)
            if stream is not self._stream:
                self._send(final=True)
                self._stream = stream
            self._buffer += data
            if len(self._buffer) >= _CHUNK_BYTES or (b"\n" in data and self._line_is_due()):
                self._send(final=False)
            elif count:
                self.state[0] = _WAITS
        if self._interrupts.pending:
            self._interrupts.checkpoint()
        return count  # no call behind that check: CPython looks for signals at its end, and here would only note one

    def flush(self) -> None:
        """Send all that is there. Called before every wait and at the end of a cell."""
        if self._buffer:
            self._send(final=True)
        if self._interrupts.pending:
            self._interrupts.checkpoint()

    def warn(self, text: str) -> None:
        """A line of ours on stderr."""
        self.write(b"stderr", text.encode("utf-8", _ERRORS) + b"\n")

    def _line_is_due(self) -> bool:
        self._lines -= 1
        if self._lines > 0:
            return False
        now = _monotonic()
        due = now - self._sent_at >= _QUIET_S
        self._look_after = 1 if due else min(2 * self._look_after, _LINES_PER_LOOK)
        self._lines = self._look_after
        if due:
            self._sent_at = now
        return due

    def _send(self, *, final: bool) -> None:
        while self._buffer and self._room >= 0:
            data = bytes(self._buffer[: min(_FRAME_BYTES, self._room + _OVER_BYTES)])
            self._room -= len(data)
            used = len(data)
            if not data.isascii():
                # `sys.stdout.buffer` takes any bytes; a character cut in two waits for its other half.
                text, used = _decode_utf8(data, "replace", final and used == len(self._buffer))
                data = text.encode("utf-8")
            del self._buffer[:used]
            if not data:
                break
            if not self._buffer or self._room < 0:
                self.state[0] = _NOTHING  # before the call: what overtook this is sent behind it
            self._call(_output_frame(self._stream, data))
        if self._room < 0:
            self._buffer.clear()
        self.state[0] = _WAITS if self._buffer else _NOTHING

    def _new_stream(self, name: str) -> io.TextIOWrapper:
        raw = _Bytes(self, name.encode())
        return io.TextIOWrapper(raw, encoding="utf-8", errors=_ERRORS, newline="\n", write_through=True)


class _Bytes(io.BufferedIOBase):
    """`sys.stdout.buffer`."""

    mode = "wb"

    def __init__(self, output: Output, stream: bytes) -> None:
        self._output = output
        self._stream = stream
        self.name = f"<{stream.decode()}>"

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self._output.write(self._stream, data if type(data) is bytes else bytes(memoryview(data)))

    def flush(self) -> None:
        if not self.closed:
            self._output.flush()


def _is_usable(stream: io.TextIOWrapper) -> bool:
    """False after `close`, `detach` or `reconfigure` by user code."""
    try:
        return not stream.closed and stream.errors == _ERRORS and stream.encoding == "utf-8" and stream.write_through
    except ValueError:
        return False
