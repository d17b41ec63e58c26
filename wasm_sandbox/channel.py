"""Whole frames from a stream socket, for both ends of a worker's channel.

The rule: a length is checked before a byte behind it is stored, and a small frame costs one system call. Standard
library only: a fork server and its workers import this.
"""

from __future__ import annotations

import socket

from ..runtime.framing import PREFIX, check_lengths

CHUNK_BYTES = 16 * 1024
"""Read at once. Most frames are a few hundred bytes and arrive alone, so that one read gives exactly one frame."""
MAX_REQUEST_BYTES = 512 * 1024 * 1024 + 64 * 1024
"""What a worker accepts from its host: more than any limit allows. The host's own bound is `Limits.frame_bytes`."""
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)


class FrameReader:
    """Cuts what arrives on a socket into frames. One thread reads."""

    def __init__(self, sock: socket.socket, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Bound of the length that a frame may announce."""
        self._receive = sock.recv
        self._data = b""
        self._at = 0

    @property
    def pending(self) -> bool:
        """True if bytes of a further frame were already read."""
        return bool(self._data)

    def read(self) -> bytes:
        """The next frame with its prefix; waits for all of it. A large one takes twice its size for a moment.

        Raises:
            ProtocolError: its lengths are not allowed.
            EOFError: the stream ended, between two frames or inside one.
            OSError: the socket failed.
        """
        data, at = self._data, self._at
        if not data:
            data = self._some(CHUNK_BYTES)
        while len(data) - at < PREFIX.size:
            data, at = data[at:] + self._some(CHUNK_BYTES), 0
        length, header_length = PREFIX.unpack_from(data, at)
        check_lengths(length, header_length, max_bytes=self.max_bytes)
        end = at + 4 + length
        if end == len(data):
            self._data, self._at = b"", 0
            return data if at == 0 else data[at:]
        if end < len(data):
            self._data, self._at = data, end
            return data[at:end]
        self._data, self._at = b"", 0
        return self._rest(data[at:] if at else data, 4 + length)

    def _rest(self, head: bytes, size: int) -> bytes:
        """A frame longer than what was read at once. The buffers are filled by the kernel, so that a length which is
        only announced costs address space and no memory."""
        parts = [head]
        missing = size - len(head)
        while missing:
            parts.append(self._some(missing, _WAIT_ALL))
            missing -= len(parts[-1])
        return b"".join(parts)

    def _some(self, most: int, flags: int = 0) -> bytes:
        data = self._receive(most, flags)
        if not data:
            raise EOFError("the channel was closed")
        return data
