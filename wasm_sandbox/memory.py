"""The linear memory of one instance as the host reads and writes it: every access is checked, nothing is clipped.

Pointers come from the guest, so they are numbers that an attacker chose.
"""

from __future__ import annotations

import ctypes
import struct

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class MemoryFault(Exception):
    """A pointer or length outside the linear memory."""


class GuestMemory:
    """Bounded access to `size` bytes at `base`. The engine moves the size when the memory grows."""

    __slots__ = ("_view", "base", "size")

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.resize(size)

    def resize(self, size: int) -> None:
        """Follow a growth. The base never moves (the engine reserves the address space)."""
        self.size = size
        self._view = memoryview((ctypes.c_ubyte * size).from_address(self.base)).cast("B")

    def close(self) -> None:
        """Forget the memory; later accesses raise MemoryFault instead of touching freed pages."""
        self.size = 0
        self._view = memoryview(b"")

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of `length` bytes. Never a view: a traceback may keep one longer than the memory is there."""
        end = pointer + length
        if pointer < 0 or length < 0 or end > self.size:
            raise MemoryFault
        return self._view[pointer:end].tobytes()

    def write(self, pointer: int, data: bytes | bytearray | memoryview) -> None:
        end = pointer + len(data)
        if pointer < 0 or end > self.size:
            raise MemoryFault
        self._view[pointer:end] = data

    def u32(self, pointer: int) -> int:
        if pointer < 0 or pointer + 4 > self.size:
            raise MemoryFault
        return int(_U32.unpack_from(self._view, pointer)[0])

    def set_u32(self, pointer: int, value: int) -> None:
        """Store the low 32 bits."""
        if pointer < 0 or pointer + 4 > self.size:
            raise MemoryFault
        _U32.pack_into(self._view, pointer, value & 0xFFFFFFFF)

    def set_u64(self, pointer: int, value: int) -> None:
        """Store the low 64 bits."""
        if pointer < 0 or pointer + 8 > self.size:
            raise MemoryFault
        _U64.pack_into(self._view, pointer, value & 0xFFFFFFFFFFFFFFFF)

    def cstr(self, pointer: int, max_bytes: int = 4096) -> bytes:
        """A C string without its NUL. One that is longer than `max_bytes`, or runs out of the memory, is a fault."""
        if pointer < 0 or pointer >= self.size:
            raise MemoryFault
        chunk = self._view[pointer : min(pointer + max_bytes + 1, self.size)].tobytes()
        end = chunk.find(b"\0")
        if end < 0:
            raise MemoryFault
        return chunk[:end]
