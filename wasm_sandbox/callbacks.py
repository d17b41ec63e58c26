"""The layer between wasm and our host imports: a callback never raises into wasm and shares nothing across threads.

Each import gets one C callback per engine. Which instance it works for is known from a thread-local that `entered` sets
around every call into wasm. A `MemoryFault` becomes the import's errno; any other exception ends the instance: it is
recorded there and wasm gets a trap.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import capi
from .capi import lib
from .memory import MemoryFault

if TYPE_CHECKING:
    from .native import NativeModule

_FORMATS = {capi.KIND_I32: "I12x", capi.KIND_I64: "q8x", capi.KIND_F32: "f12x", capi.KIND_F64: "d8x"}
_SLOT = ctypes.sizeof(capi.ValRaw)
Number = int | float


class ImportLike(Protocol):
    """What this layer needs of an entry of the import tables."""

    @property
    def handler(self) -> Callable[..., Number | None]: ...

    @property
    def fault(self) -> int: ...


class Faulted(Protocol):
    """What this layer needs of an instance: a place for the exception that ended it."""

    fault: BaseException | None


class _Current(threading.local):
    instance: Faulted | None = None


current = _Current()
"""The instance that is running on this thread: the one that its host imports work for."""


class entered:
    """Host imports called on this thread work for `instance`. `Instance.call`, the hot one, does the same by hand."""

    __slots__ = ("_before", "_instance")

    def __init__(self, instance: Faulted) -> None:
        self._instance = instance

    def __enter__(self) -> None:
        self._before = current.instance
        current.instance = self._instance

    def __exit__(self, *_exc: object) -> None:
        current.instance = self._before


class Linker:
    """The imports of one module, bound once and shared by all its instances."""

    def __init__(self, module: NativeModule, imports: dict[str, ImportLike]) -> None:
        self._module = module
        self._callbacks: list[object] = []  # ctypes frees a callback with its last reference
        self._pointer = lib.wasmtime_linker_new(module.engine.pointer)
        capi.free_with(self, "wasmtime_linker_delete", self._pointer)
        for module_name, name, parameters, results, kind in module.imports():
            entry = imports.get(name)
            if entry is None:
                continue  # defined as a trap below
            callback = capi.HostCallback(_wrap(entry, parameters, results))
            self._callbacks.append(callback)
            where, what = module_name.encode(), name.encode()
            capi.check(
                lib.wasmtime_linker_define_func_unchecked(
                    self._pointer, where, len(where), what, len(what), kind, callback, None, capi.NO_FINALIZER
                )
            )
        capi.check(lib.wasmtime_linker_define_unknown_imports_as_traps(self._pointer, module.pointer))
        pre = ctypes.c_void_p()
        capi.check(lib.wasmtime_linker_instantiate_pre(self._pointer, module.pointer, ctypes.byref(pre)))
        self._pre = pre
        capi.free_with(self, "wasmtime_instance_pre_delete", pre)

    def instantiate(self, context: int) -> capi.Instance:
        """A new instance in the store behind `context`."""
        instance, trap = capi.Instance(), ctypes.c_void_p()
        capi.check(
            lib.wasmtime_instance_pre_instantiate(self._pre, context, ctypes.byref(instance), ctypes.byref(trap))
        )
        if trap.value:
            raise capi.NativeError(capi.trap_text(trap.value))
        return instance


def _wrap(entry: ImportLike, parameters: tuple[int, ...], results: tuple[int, ...]) -> Callable[..., int]:
    """The C callback: decode the arguments, call the handler, store its result, turn every exception into data."""
    unpack_from = struct.Struct("<" + "".join(_FORMATS.get(kind, "16x") for kind in parameters)).unpack_from
    slots_at = (ctypes.c_char * (_SLOT * len(parameters))).from_address
    handler, fault = entry.handler, entry.fault
    store = _result_writer(results)

    def callback(_env: int | None, _caller: int, slots: int, _count: int) -> int:
        instance = current.instance
        try:
            try:
                result = handler(instance, *unpack_from(slots_at(slots)))
            except MemoryFault:
                result = fault
            if store is not None:
                store(slots, result)
        except BaseException as exc:  # noqa: BLE001  # wasm must never see a Python exception; it ends the instance
            if instance is not None:
                instance.fault = exc
            return capi.new_trap("host import ended the instance")
        return 0

    return callback


def _result_writer(results: tuple[int, ...]) -> Callable[[int, Any], None] | None:
    if not results:
        return None
    if results[0] == capi.KIND_I32:
        return _write_i32
    if results[0] == capi.KIND_I64:
        return _write_i64
    if results[0] == capi.KIND_F64:
        return _write_f64
    raise capi.NativeError("an import returns a kind that no handler can give")


def _write_i32(slot: int, value: int) -> None:
    ctypes.c_uint32.from_address(slot).value = value & 0xFFFFFFFF


def _write_i64(slot: int, value: int) -> None:
    ctypes.c_uint64.from_address(slot).value = value & 0xFFFFFFFFFFFFFFFF


def _write_f64(slot: int, value: float) -> None:
    ctypes.c_double.from_address(slot).value = value
