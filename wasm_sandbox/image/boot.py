"""Starts the interpreter of a module that is not baked yet, runs scripts of ours in it, takes its snapshot.

It runs on the same engine and host imports as every sandbox, in a world where clocks and randomness are fixed: so a
second build gives the same bytes. What production never does is here: building C structures in guest memory.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...runtime.errors import ImageError
from ..engine import BUFFER_AT, OUTPUT_STATE_AT, Engine
from ..filesystem import FileSystem
from ..host_calls import SCRATCH_BYTES
from ..instance import Trapped
from ..memory import GuestMemory
from ..native import THREAD_STACK_BYTES
from ..world import World
from . import rewrite
from .link import Linked
from .sections import STDLIB_PATH

T = TypeVar("T")

REFUSAL_AT, ALLOCATOR_AT = BUFFER_AT + SCRATCH_BYTES, 65600
RESERVED = ALLOCATOR_AT + 1024 + 262144 + 524288
"""The shim's area; shim.wat documents it."""
_REFUSAL = b"the host refused this call\0"
GUARDED_STACK_BYTES = 2 << 20
"""The part of the C stack (10 MiB) that CPython may recurse into. Its guard sees only this stack, in linear memory; the
native one behind it grows up to 21 times as fast (comparing nested lists) and ends the instance at WASM_STACK_BYTES.
"""
_METH_O = 8
_WRITABLE = 0x200
"""PyBUF_WRITE."""
_DOMAIN_MEM, _DOMAIN_OBJ = 1, 2
_MEMORY_BYTES = 1 << 30
_OUTPUT_BYTES = 1 << 20

_INTEGERS = {
    "utf8_mode": 1,
    "isolated": 0,
    "use_environment": 0,
    "site_import": 0,
    "write_bytecode": 0,
    "install_signal_handlers": 0,
    "user_site_directory": 0,
    "use_hash_seed": 1,  # with seed 0: hash(str) is the same in every sandbox, because baked dicts rely on it
    "hash_seed": 0,
}
_TEXTS = {"home": "/", "stdlib_dir": STDLIB_PATH, "program_name": "python"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All state of an interpreter."""

    memory: bytearray
    values: dict[str, int]
    """Exported globals by name."""


class Interpreter:
    """A booted interpreter. Use it on a thread of `on_guest_thread`."""

    def __init__(self, compiled: Path, linked: Linked, archive: bytes) -> None:
        self._linked = linked
        self._output = bytearray()
        world = World.fixed()
        files = FileSystem(
            {STDLIB_PATH: archive}, 1000, 1 << 26, world.time_ns, random=world.random, output=self._take_output
        )
        self._instance = Engine.load(compiled, epochs=False).instance(world, files, memory_bytes=_MEMORY_BYTES)
        self._base = self._instance.read_global("__mut_scratch") & 0xFFFFFFFF
        try:
            self._boot()
        except Trapped as exc:
            raise ImageError(f"the interpreter does not start: {exc}{self._said()}") from exc

    def run(self, script: str, answer: Callable[[bytes], bytes]) -> None:
        """Run a script in `__main__`. `answer` serves its `_host.call`.

        Raises:
            ImageError: the script raised; the message has what it wrote to stderr.
        """
        self._instance.host_call = answer
        try:
            failed = self._call("PyRun_SimpleString", self._text(script))
        except Trapped as exc:
            raise ImageError(f"a script of the build ended the interpreter: {exc}{self._said()}") from exc
        if failed:
            raise ImageError(f"a script of the build failed{self._said()}")

    def snapshot(self) -> Snapshot:
        """Memory and globals as they are now."""
        names = rewrite.mutable_globals(self._linked.module.data)
        values = {name: self._instance.read_global(name) & 0xFFFFFFFF for name in (*names, "__stack_pointer")}
        return Snapshot(bytearray(self._instance.memory.read(0, self._instance.memory_bytes)), values)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of the heap."""
        at = self._call("malloc", size)
        if not at:
            raise ImageError("the guest has no memory left while its image is built")
        return at

    def release(self, at: int) -> None:
        """Give back what `allocate` gave."""
        self._call("free", at)

    def zero(self, at: int, size: int) -> None:
        """Zero these bytes."""
        self._memory.write(at, bytes(size))

    @property
    def stack_end(self) -> int:
        """Lowest address of the C stack."""
        return self._call("emscripten_stack_get_end")

    @property
    def base(self) -> int:
        """Address of the shim's area."""
        return self._base

    def close(self) -> None:
        self._instance.close()

    # --- starting -----------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        self._call("emscripten_stack_init")
        self._reserve()
        self._install_trampoline()
        if self._linked.tuned:
            self._install_allocator()
        self._call("__wasm_call_ctors")
        self._initialise()
        self._limit_stack()
        self._install_bridge()
        self._instance.memory.write(self._address("Py_EMSCRIPTEN_SIGNAL_HANDLING"), b"\1")

    def _reserve(self) -> None:
        """Start the heap behind the shim's area."""
        pointer = self._call("emscripten_get_sbrk_ptr")
        if self._memory.u32(pointer) != self._base:
            raise ImageError("the heap does not start where the shim expects it; this Pyodide needs another shim")
        self._memory.set_u32(pointer, self._base + RESERVED)
        self._memory.write(self._base + REFUSAL_AT, _REFUSAL)

    def _install_trampoline(self) -> None:
        offset = self._memory.u32(self._address("_PyEM_EMSCRIPTEN_TRAMPOLINE_OFFSET"))
        self._memory.set_u32(self._address("_PyRuntime") + offset, self._linked.slot("shim_trampoline"))

    def _install_allocator(self) -> None:
        """Give CPython our allocator for the domains MEM and OBJ, before it allocates anything in them."""
        names = ("shim_ctx_malloc", "shim_ctx_calloc", "shim_ctx_realloc", "shim_ctx_free")
        record = self._new(struct.pack("<5I", 0, *(self._linked.slot(name) for name in names)))
        for domain in (_DOMAIN_MEM, _DOMAIN_OBJ):
            self._call("PyMem_SetAllocator", domain, record)
        self._call("free", record)

    def _initialise(self) -> None:
        config = self._call("PyInitConfig_Create")
        for name, value in _INTEGERS.items():
            self._configure(config, self._call("PyInitConfig_SetInt", config, self._text(name), value))
        for name, text in _TEXTS.items():
            self._configure(config, self._call("PyInitConfig_SetStr", config, self._text(name), self._text(text)))
        paths = self._new(struct.pack("<I", self._text(STDLIB_PATH)))
        key = self._text("module_search_paths")
        self._configure(config, self._call("PyInitConfig_SetStrList", config, key, 1, paths))
        self._configure(config, self._call("Py_InitializeFromInitConfig", config))
        self._call("PyInitConfig_Free", config)

    def _configure(self, config: int, failed: int) -> None:
        if failed:
            place = self._new(bytes(4))
            self._call("PyInitConfig_GetError", config, place)
            reason = self._memory.cstr(self._memory.u32(place)).decode("utf-8", "replace")
            raise ImageError(f"the interpreter does not start: {reason}{self._said()}")

    def _limit_stack(self) -> None:
        """Let CPython recurse into GUARDED_STACK_BYTES of the C stack only."""
        bottom = self._call("emscripten_stack_get_base") - GUARDED_STACK_BYTES
        state = self._call("PyThreadState_Get")
        if self._call("PyUnstable_ThreadState_SetStackProtection", state, bottom, GUARDED_STACK_BYTES):
            raise ImageError("the interpreter does not take a limit of its stack")

    def _install_bridge(self) -> None:
        """The built-in module `_host` with `call`, `set_entry` and `output_state`, one byte that the host can read."""
        functions = {"call": "shim_call", "set_entry": "shim_set_entry"}
        rows = [
            struct.pack("<4I", self._text(name), self._linked.slot(function), _METH_O, 0)
            for name, function in functions.items()
        ]
        module = self._call("PyImport_AddModule", self._text("_host"))
        if not module or self._call("PyModule_AddFunctions", module, self._new(b"".join(rows) + bytes(16))):
            raise ImageError(f"the bridge cannot be installed{self._said()}")
        state = self._call("PyMemoryView_FromMemory", self._base + OUTPUT_STATE_AT, 1, _WRITABLE)
        if not state or self._call("PyModule_AddObjectRef", module, self._text("output_state"), state):
            raise ImageError(f"the bridge cannot be installed{self._said()}")

    # --- small things -------------------------------------------------------------------------------------------------

    @property
    def _memory(self) -> GuestMemory:
        return self._instance.memory

    def _call(self, name: str, *arguments: int) -> int:
        return self._instance.call(name, *arguments)

    def _address(self, name: str) -> int:
        return self._instance.read_global(name) & 0xFFFFFFFF

    def _new(self, data: bytes) -> int:
        """The bytes in memory of the guest, kept for its life."""
        at = self._call("malloc", len(data))
        self._memory.write(at, data)
        return at

    def _text(self, text: str) -> int:
        return self._new(text.encode("utf-8") + b"\0")

    def _take_output(self, _stream: int, data: bytes) -> None:
        self._output += data[: _OUTPUT_BYTES - len(self._output)]

    def _said(self) -> str:
        text = self._output[-2000:].decode("utf-8", "replace").strip()
        return f"\n{text}" if text else ""


def on_guest_thread(action: Callable[[], T]) -> T:
    """Run the action on a thread whose stack is deep enough for wasm. What it raises is raised here."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(action())
        except BaseException as exc:  # noqa: BLE001  # raised again on the caller's thread
            failure.append(exc)

    before = threading.stack_size(THREAD_STACK_BYTES)
    try:
        thread = threading.Thread(target=body, name="cloche-image")
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
