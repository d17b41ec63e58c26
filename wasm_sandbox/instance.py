"""One live interpreter: its store, its memory, and the way in.

An instance runs on one thread at a time. `interrupt` and `request_trap` may come from any thread at any moment, also
while the instance is being closed. After a trap the interpreter's state is undefined and the instance refuses to be
entered.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import byref, c_void_p
from typing import TYPE_CHECKING

from . import capi
from .callbacks import Linker, current, entered
from .capi import lib
from .host_calls import SCRATCH_BYTES, Refused
from .memory import GuestMemory, MemoryFault

if TYPE_CHECKING:
    from .engine import Engine
    from .filesystem import FileSystem
    from .world import World

PAGE = 64 * 1024
SIGINT = 2
_MAX_ARGUMENTS = 8
_WORDS_PER_SLOT = ctypes.sizeof(capi.ValRaw) // 8


class Trapped(Exception):
    """The instance is lost: it trapped, was stopped, exited or overran its stack. `exit_code` is set for an exit."""

    def __init__(self, message: str, *, stopped: bool = False, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.stopped = stopped
        self.exit_code = exit_code


class NoRoom(Trapped):
    """The guest had no memory for a message, or its entry function failed. A shorter one may still get in."""


class GuestExit(Exception):
    """The guest called `exit`, `abort` or failed an assertion; raised by host imports."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or f"exit code {code}")
        self.code = code


def _no_host_call(_message: bytes) -> bytes:
    raise Refused


class Instance:
    """A fresh interpreter of an engine's image. Made by `Engine.instance`."""

    def __init__(self, engine: Engine, linker: Linker, world: World, files: FileSystem, memory_bytes: int) -> None:
        self.engine = engine
        self._linker = linker
        """Its callbacks are called from the store."""
        self.world = world
        self.files = files
        self.host_call: Callable[[bytes], bytes] = _no_host_call
        """Answers the guest's `_host.call`. May raise `Refused`."""
        self.pending_reply = b""
        self.fault: BaseException | None = None
        self.dead = False
        self.stop_requested = False
        self.memory_limit = memory_bytes
        self.memory_refused = 0
        """The most bytes that the guest asked for and did not get; its owner sets it back."""
        self._lock = threading.Lock()
        self._store = lib.wasmtime_store_new(engine.native.pointer, None, capi.NO_FINALIZER)
        self._context = lib.wasmtime_store_context(self._store)
        lib.wasmtime_store_limiter(self._store, memory_bytes, -1, -1, -1, -1)
        if engine.epochs:
            lib.wasmtime_context_set_epoch_deadline(self._context, 1)
            lib.wasmtime_store_epoch_deadline_callback(self._store, _on_epoch, None, capi.NO_FINALIZER)
        with entered(self):
            self._native = linker.instantiate(self._context)
        self._functions: dict[str, object] = {}
        self._words = (ctypes.c_uint64 * (_WORDS_PER_SLOT * _MAX_ARGUMENTS))()
        """Arguments and result of a call, in the first word of their slots."""
        self._slots_at = ctypes.addressof(self._words)
        self._memory = self._export(engine.exports.memory, capi.EXTERN_MEMORY).memory
        size = lib.wasmtime_memory_data_size(self._context, byref(self._memory))
        self.memory = GuestMemory(lib.wasmtime_memory_data(self._context, byref(self._memory)), size)
        self._scratch = self._global(engine.exports.scratch)
        self._flag = self.memory.base + self._scratch + engine.exports.interrupt_offset if self._scratch else 0
        self.output_state = self._scratch + engine.exports.output_state_offset if self._scratch else 0
        """Address of the byte that tells whether the runner has unsent output; 0 where there is none."""
        self.buffer = self._scratch + engine.exports.buffer_offset if self._scratch else 0
        """Address of the shim's own buffer, for messages and replies of up to SCRATCH_BYTES."""

    # --- entering the guest -------------------------------------------------------------------------------------------

    def enter(self, message: bytes) -> bytes:
        """Call the guest's entry function with a message; its answer.

        Raises:
            NoRoom: the message did not get in.
            Trapped: the instance is lost.
        """
        names = self.engine.exports
        length = len(message)
        at = self.buffer if length <= SCRATCH_BYTES else self.call(names.buffer, length)
        if not at:
            raise NoRoom("no memory left in the sandbox for a message of the host")
        self.memory.write(at, message)
        answered = self.call(names.enter, at, length)
        if answered == 0:
            return b""
        if answered == 0xFFFFFFFF:
            raise NoRoom("the guest's entry function failed")
        try:
            return self.memory.read(self.call(names.reply), answered)
        except MemoryFault:
            self.dead = True
            raise Trapped("the guest's reply lies outside its memory") from None

    def call(self, name: str, *arguments: int) -> int:
        """Call an export whose parameters and result are i32. Returns the result as an unsigned number."""
        if self.dead:
            raise Trapped("the instance is lost")
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = byref(self._export(name, capi.EXTERN_FUNC).func)
        words = self._words
        for index, argument in enumerate(arguments):
            words[_WORDS_PER_SLOT * index] = argument & 0xFFFFFFFF
        trap = c_void_p()
        before, current.instance = current.instance, self
        try:
            error = lib.wasmtime_func_call_unchecked(
                self._context, function, self._slots_at, _MAX_ARGUMENTS, byref(trap)
            )
        finally:
            current.instance = before
        if error or trap.value:
            self._fail(error, trap.value)
        return words[0] & 0xFFFFFFFF

    def _fail(self, error: int | None, trap: int | None) -> None:
        """Mark the instance as lost and raise what happened, in the host's own words."""
        self.dead = True
        fault, self.fault = self.fault, None
        if trap:
            message = capi.trap_text(trap)
        else:
            try:
                capi.check(error)
                message = "unknown error"
            except capi.NativeError as exc:
                message = str(exc)
        if isinstance(fault, GuestExit):
            raise Trapped(f"the guest ended its interpreter: {fault}", exit_code=fault.code)
        if fault is not None:
            raise fault
        if self.stop_requested:
            raise Trapped("stopped by the host", stopped=True)
        raise Trapped(_last_line(message))

    # --- from other threads -------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """KeyboardInterrupt in the guest at its next check. Any thread."""
        with self._lock:
            if self.memory.size and self._flag:
                ctypes.c_uint32.from_address(self._flag).value = SIGINT

    def clear_interrupt(self) -> None:
        """Take back an interrupt that the guest has not seen."""
        with self._lock:
            if self.memory.size and self._flag:
                ctypes.c_uint32.from_address(self._flag).value = 0

    def request_trap(self) -> bool:
        """Stop the instance wherever it runs, also inside C loops. False if the module has no epoch checks.

        Any thread.
        """
        if not self.engine.epochs:
            return False
        self.stop_requested = True
        self.engine.native.increment_epoch()
        return True

    # --- memory and life ----------------------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> int:
        """Size of the linear memory now."""
        return self.memory.size

    def grow_memory(self, new_bytes: int) -> bool:
        """Grow the linear memory to at least `new_bytes`. False if that is over the limit. Called by a host import."""
        if new_bytes > self.memory_limit:
            self.refuse_memory(new_bytes)
            return False
        pages = (new_bytes - self.memory.size + PAGE - 1) // PAGE
        if pages > 0:
            before = ctypes.c_uint64()
            try:
                capi.check(lib.wasmtime_memory_grow(self._context, byref(self._memory), pages, byref(before)))
            except capi.NativeError:
                return False
            self.memory.resize(lib.wasmtime_memory_data_size(self._context, byref(self._memory)))
        return True

    def refuse_memory(self, new_bytes: int) -> None:
        """Note that the guest wanted so large a memory, over its limit."""
        self.memory_refused = max(self.memory_refused, new_bytes)

    def limit_memory(self, memory_bytes: int) -> None:
        """Another cap than the one at creation (a warm worker learns its tenant's later)."""
        self.memory_limit = memory_bytes
        lib.wasmtime_store_limiter(self._store, memory_bytes, -1, -1, -1, -1)

    def exit(self, code: int, message: str = "") -> None:
        """End the interpreter from a host import."""
        raise GuestExit(code, message)

    def read_global(self, name: str) -> int:
        """Value of an exported i32 global (the image builder's snapshot)."""
        value = capi.Val()
        lib.wasmtime_global_get(self._context, byref(self._export(name, capi.EXTERN_GLOBAL).global_), byref(value))
        return int(value.of.i32)

    def close(self) -> None:
        """Free the instance. It must not be running. Safe to call twice."""
        with self._lock:
            if not self._store:
                return
            self.dead = True
            self.memory.close()
            store, self._store = self._store, None
            lib.wasmtime_store_delete(store)

    def _global(self, name: str) -> int:
        try:
            return self.read_global(name) & 0xFFFFFFFF
        except KeyError:
            return 0

    def _export(self, name: str, kind: int) -> capi.ExternOf:
        item, raw = capi.Extern(), name.encode()
        found = lib.wasmtime_instance_export_get(self._context, byref(self._native), raw, len(raw), byref(item))
        if not found or item.kind != kind:
            raise KeyError(name)
        return item.of  # type: ignore[no-any-return]  # ctypes unions are untyped


def _epoch_reached(_context: int | None, _data: int | None, delta: object, kind: object) -> int:
    """Runs on the thread of the instance that met a new epoch: only the one that was asked to stop does."""
    instance = current.instance
    if isinstance(instance, Instance) and instance.stop_requested:
        return _stop_error()
    delta[0] = 1  # type: ignore[index]  # POINTER(c_uint64)
    kind[0] = capi.UPDATE_DEADLINE_CONTINUE  # type: ignore[index]
    return 0


def _stop_error() -> int:
    return int(lib.wasmtime_error_new(b"stopped"))


_on_epoch = capi.EpochCallback(_epoch_reached)


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (lines[-1] if lines else "trap")[:400]
