"""The part of wasmtime's C API that we use, bound with ctypes: no more, so that a reader can check each line.

The shared library is the one in the `wasmtime` wheel; its Python package is not imported (60 ms and a module-global for
callback exceptions that races across threads). Struct layouts are those of the pinned version; a unit test compares
every signature here with the wheel's own bindings.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import weakref
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_char_p, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

from ..runtime.errors import ConfigError
from . import pinned

EXTERN_FUNC, EXTERN_GLOBAL, EXTERN_MEMORY = 0, 1, 3
KIND_I32, KIND_I64, KIND_F32, KIND_F64 = 0, 1, 2, 3
UPDATE_DEADLINE_CONTINUE = 0


class Func(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("private", c_void_p)]


class _Indexed(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("private1", c_uint32)]


class Memory(ctypes.Structure):
    _fields_ = [("at", _Indexed), ("private2", c_uint32)]


class Global(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("private1", c_uint32), ("private2", c_uint32), ("private3", c_uint32)]


class ExternOf(ctypes.Union):
    _fields_ = [("func", Func), ("memory", Memory), ("global_", Global)]


class Extern(ctypes.Structure):
    _fields_ = [("kind", c_uint8), ("of", ExternOf)]


class Instance(ctypes.Structure):
    _fields_ = [("store_id", c_uint64), ("private", c_size_t)]


class ValRaw(ctypes.Union):
    _fields_ = [
        ("i32", c_int32),
        ("i64", c_int64),
        ("f32", ctypes.c_float),
        ("f64", ctypes.c_double),
        ("v128", c_uint8 * 16),
    ]


class _ValOf(ctypes.Union):
    _fields_ = [
        ("i32", c_int32),
        ("i64", c_int64),
        ("f64", ctypes.c_double),
        ("v128", c_uint8 * 16),
        ("ref", c_uint64 * 2),
    ]


class Val(ctypes.Structure):
    """`wasmtime_val_t`, read for i32 globals only."""

    _fields_ = [("kind", c_uint8), ("of", _ValOf), ("tail", c_uint64)]


class ByteVec(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("data", c_void_p)]


class PointerVec(ctypes.Structure):
    """`wasm_importtype_vec_t`, `wasm_exporttype_vec_t` and `wasm_valtype_vec_t` alike."""

    _fields_ = [("size", c_size_t), ("data", POINTER(c_void_p))]


HostCallback = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
"""(env, caller, args and results, their number) -> trap or 0."""
EpochCallback = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint64), POINTER(c_uint8))
"""(context, data, new delta, kind) -> error or 0."""
Finalizer = ctypes.CFUNCTYPE(None, c_void_p)
NO_FINALIZER = Finalizer()

_P = c_void_p
SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "wasm_byte_vec_delete": (None, [POINTER(ByteVec)]),
    "wasm_config_new": (_P, []),
    "wasm_engine_new_with_config": (_P, [_P]),
    "wasm_engine_delete": (None, [_P]),
    "wasm_importtype_module": (POINTER(ByteVec), [_P]),
    "wasm_importtype_name": (POINTER(ByteVec), [_P]),
    "wasm_importtype_type": (_P, [_P]),
    "wasm_importtype_vec_delete": (None, [POINTER(PointerVec)]),
    "wasm_externtype_as_functype_const": (_P, [_P]),
    "wasm_functype_params": (POINTER(PointerVec), [_P]),
    "wasm_functype_results": (POINTER(PointerVec), [_P]),
    "wasm_valtype_kind": (c_uint8, [_P]),
    "wasm_trap_delete": (None, [_P]),
    "wasm_trap_message": (None, [_P, POINTER(ByteVec)]),
    "wasmtime_config_epoch_interruption_set": (None, [_P, c_bool]),
    "wasmtime_config_wasm_exceptions_set": (None, [_P, c_bool]),
    "wasmtime_config_wasm_function_references_set": (None, [_P, c_bool]),
    "wasmtime_config_wasm_gc_set": (None, [_P, c_bool]),
    "wasmtime_config_wasm_reference_types_set": (None, [_P, c_bool]),
    "wasmtime_config_async_stack_size_set": (None, [_P, c_uint64]),
    "wasmtime_config_max_wasm_stack_set": (None, [_P, c_size_t]),
    "wasmtime_config_cranelift_nan_canonicalization_set": (None, [_P, c_bool]),
    "wasmtime_engine_increment_epoch": (None, [_P]),
    "wasmtime_error_new": (_P, [c_char_p]),
    "wasmtime_error_delete": (None, [_P]),
    "wasmtime_error_message": (None, [_P, POINTER(ByteVec)]),
    "wasmtime_trap_new": (_P, [c_char_p, c_size_t]),
    "wasmtime_module_new": (_P, [_P, _P, c_size_t, POINTER(_P)]),
    "wasmtime_module_delete": (None, [_P]),
    "wasmtime_module_serialize": (_P, [_P, POINTER(ByteVec)]),
    "wasmtime_module_deserialize_file": (_P, [_P, c_char_p, POINTER(_P)]),
    "wasmtime_module_imports": (None, [_P, POINTER(PointerVec)]),
    "wasmtime_linker_new": (_P, [_P]),
    "wasmtime_linker_delete": (None, [_P]),
    "wasmtime_linker_define_func_unchecked": (
        _P,
        [_P, c_char_p, c_size_t, c_char_p, c_size_t, _P, HostCallback, _P, Finalizer],
    ),
    "wasmtime_linker_define_unknown_imports_as_traps": (_P, [_P, _P]),
    "wasmtime_linker_instantiate_pre": (_P, [_P, _P, POINTER(_P)]),
    "wasmtime_instance_pre_delete": (None, [_P]),
    "wasmtime_instance_pre_instantiate": (_P, [_P, _P, POINTER(Instance), POINTER(_P)]),
    "wasmtime_instance_export_get": (c_bool, [_P, POINTER(Instance), c_char_p, c_size_t, POINTER(Extern)]),
    "wasmtime_store_new": (_P, [_P, _P, Finalizer]),
    "wasmtime_store_context": (_P, [_P]),
    "wasmtime_store_limiter": (None, [_P, c_int64, c_int64, c_int64, c_int64, c_int64]),
    "wasmtime_store_epoch_deadline_callback": (None, [_P, EpochCallback, _P, Finalizer]),
    "wasmtime_store_delete": (None, [_P]),
    "wasmtime_context_set_epoch_deadline": (None, [_P, c_uint64]),
    "wasmtime_func_call_unchecked": (_P, [_P, POINTER(Func), _P, c_size_t, POINTER(_P)]),
    "wasmtime_global_get": (None, [_P, POINTER(Global), POINTER(Val)]),
    "wasmtime_memory_data": (_P, [_P, POINTER(Memory)]),
    "wasmtime_memory_data_size": (c_size_t, [_P, POINTER(Memory)]),
    "wasmtime_memory_grow": (_P, [_P, POINTER(Memory), c_uint64, POINTER(c_uint64)]),
}


class NativeError(Exception):
    """An error that wasmtime reported (not a trap of the guest)."""


def _load() -> ctypes.CDLL:
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the wasmtime wheel is missing (pip install wasmtime=={pinned.WASMTIME})")
    package = spec.submodule_search_locations[0]
    _check_version(package)
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(pinned.machine(), pinned.machine())
    name = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib", "win32": "_wasmtime.dll"}.get(sys.platform)
    path = f"{package}/{sys.platform}-{machine}/{name}"
    if not os.path.exists(path):
        raise ConfigError(f"wasmtime has no library for {sys.platform} on {machine}")
    library = ctypes.CDLL(path)
    for function, (result, arguments) in SIGNATURES.items():
        bound = getattr(library, function)
        bound.restype, bound.argtypes = result, arguments
    return library


def _check_version(package: str) -> None:
    """The layouts above are of one version.

    Its dist-info folder tells without importlib.metadata, which costs 15 ms.
    """
    if os.path.isdir(f"{os.path.dirname(package)}/wasmtime-{pinned.WASMTIME}.dist-info"):
        return
    from importlib import metadata

    version = metadata.version("wasmtime")
    if version != pinned.WASMTIME:
        fix = f"pip install wasmtime=={pinned.WASMTIME}"
        raise ConfigError(f"wasmtime {version} is installed; cloche needs {pinned.WASMTIME} ({fix})")


lib = _load()


def free_with(owner: object, function: str, pointer: object) -> None:
    """Free a native object with this function when its owner is gone.

    wasmtime counts who uses it, so the order does not matter. Not at the end of the process, and not in a child that
    was forked off: another thread may have held one of wasmtime's locks at that moment.
    """
    weakref.finalize(owner, _free, os.getpid(), getattr(lib, function), pointer).atexit = False


def _free(pid: int, function: Callable[[object], None], pointer: object) -> None:
    if os.getpid() == pid:
        function(pointer)


def take_message(vec: ByteVec, limit: int = 2000) -> str:
    """The text in the vector, which is freed."""
    text = ctypes.string_at(vec.data, min(vec.size, limit)) if vec.data else b""
    lib.wasm_byte_vec_delete(ctypes.byref(vec))
    return text.decode("utf-8", "replace").rstrip("\0")


def check(error: int | None) -> None:
    """Raise NativeError for a `wasmtime_error_t*` and free it."""
    if error:
        vec = ByteVec()
        lib.wasmtime_error_message(error, ctypes.byref(vec))
        lib.wasmtime_error_delete(error)
        raise NativeError(take_message(vec))


def trap_text(trap: int) -> str:
    """The message of a `wasm_trap_t*`, which is freed."""
    vec = ByteVec()
    lib.wasm_trap_message(trap, ctypes.byref(vec))
    lib.wasm_trap_delete(trap)
    return take_message(vec)


def new_trap(message: str) -> int:
    """A trap to return from a host callback; wasmtime frees it."""
    raw = message.encode("utf-8", "replace")[:500]
    return int(lib.wasmtime_trap_new(raw, len(raw)))
