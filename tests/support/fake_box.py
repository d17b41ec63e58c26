"""An instance without wasm, for tests of host imports: memory in a buffer, a real file system, a fixed world."""

from __future__ import annotations

import ctypes
import functools
import struct
from pathlib import Path

from cloche.wasm_sandbox.filesystem import FileSystem
from cloche.wasm_sandbox.imports import ALL_IMPORTS
from cloche.wasm_sandbox.memory import GuestMemory
from cloche.wasm_sandbox.world import World

PAGE = 64 * 1024
STDLIB = "/lib/python314.zip"
_IMPORT_LIST = Path(__file__).with_name("pyodide_imports.txt")


class BoxExited(Exception):
    """The guest ended itself."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class FakeBox:
    """What a handler sees of an instance, plus helpers that play the guest's part."""

    def __init__(
        self, *, pages: int = 16, limit_pages: int = 32, max_files: int = 20, max_bytes: int = 100_000
    ) -> None:
        self._buffer = ctypes.create_string_buffer(limit_pages * PAGE)  # at full size at once: growing never moves it
        self.memory = GuestMemory(ctypes.addressof(self._buffer), pages * PAGE)
        self.memory_limit = limit_pages * PAGE
        self.world = World.fixed()
        self.raw_output: list[tuple[int, bytes]] = []
        self.files = FileSystem(
            {STDLIB: b"the standard library"},
            max_files,
            max_bytes,
            self.world.time_ns,
            random=self.world.random,
            output=lambda stream, data: self.raw_output.append((stream, data)),
        )
        self.memory_refused = 0
        self._free = PAGE

    def grow_memory(self, new_bytes: int, /) -> bool:
        if new_bytes > self.memory_limit:
            self.refuse_memory(new_bytes)
            return False
        self.memory.resize(max(self.memory.size, -(-new_bytes // PAGE) * PAGE))
        return True

    def refuse_memory(self, new_bytes: int, /) -> None:
        self.memory_refused = max(self.memory_refused, new_bytes)

    def exit(self, code: int, message: str = "", /) -> None:
        raise BoxExited(code, message)

    def call(self, name: str, *arguments: float) -> float | None:
        """Call an import as wasm would: i32 arguments unsigned. Memory faults are not answered here, they come out."""
        kinds = import_types()[name][0]
        return ALL_IMPORTS[name].handler(
            self, *[a % 2**32 if kind == "i32" else a for kind, a in zip(kinds, arguments, strict=True)]
        )

    def put(self, data: bytes) -> int:
        """Bytes at a fresh address."""
        at = self._free
        self.memory.write(at, data)
        self._free += -(-len(data) // 16) * 16 or 16
        return at

    def text(self, value: str | bytes) -> int:
        """A C string at a fresh address."""
        return self.put((value.encode() if isinstance(value, str) else value) + b"\0")

    def room(self, size: int) -> int:
        return self.put(bytes(size))

    def open(self, path: str, flags: int = 0, mode: int = 0o666) -> int:
        result = self.call("__syscall_openat", -100, self.text(path), flags, self.put(struct.pack("<I", mode)))
        assert isinstance(result, int)
        return result

    def pieces(self, *parts: tuple[int, int]) -> tuple[int, int]:
        """An iovec array and its count."""
        return self.put(b"".join(struct.pack("<II", *part) for part in parts)), len(parts)

    def write(self, fd: int, data: bytes) -> tuple[float | None, int]:
        """`fd_write` of one piece: error number and count."""
        count = self.room(4)
        error = self.call("fd_write", fd, *self.pieces((self.put(data), len(data))), count)
        return error, self.memory.u32(count)

    def read(self, fd: int, size: int) -> tuple[float | None, bytes]:
        """`fd_read` into one piece: error number and data."""
        target, count = self.room(size), self.room(4)
        error = self.call("fd_read", fd, *self.pieces((target, size)), count)
        return error, self.memory.read(target, self.memory.u32(count))


@functools.cache
def import_types() -> dict[str, tuple[list[str], list[str]]]:
    """Name to parameter and result types, of all function imports of the pinned `pyodide.asm.wasm`."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for line in _IMPORT_LIST.read_text(encoding="utf-8").splitlines():
        left, _, results = line.partition("->")
        _, name, *parameters = left.split()
        found[name] = ([p for part in parameters for p in part.split(",")], results.split())
    return found
