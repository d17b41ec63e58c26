"""wasmtime's engine and module as two small objects: configured in one place, compiled, loaded, released.

`NativeEngine` is the only place that says how our code is compiled, so that the compiler of the image and the loader of
a compiled module cannot disagree.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_void_p
from pathlib import Path
from typing import Any

from . import capi
from .capi import lib
from .page_cache import read_once

WASM_STACK_BYTES = 64 * 1024 * 1024
"""CPython's recursion guard watches the stack in linear memory; the image lets it use 2 MiB there (boot.py), and the
native stack behind it takes up to 21 times as much.
"""
THREAD_STACK_BYTES = 80 * 1024 * 1024
"""Stack of a thread that may enter wasm: the above and room for the host's own frames. Virtual; touched pages only."""


class NativeEngine:
    """A configured compiler and loader. `epochs`: compile checks in that let another thread stop running code."""

    def __init__(self, *, epochs: bool) -> None:
        self.epochs = epochs
        config = lib.wasm_config_new()
        lib.wasmtime_config_epoch_interruption_set(config, epochs)
        lib.wasmtime_config_wasm_exceptions_set(config, True)
        lib.wasmtime_config_wasm_reference_types_set(config, True)
        lib.wasmtime_config_wasm_function_references_set(config, True)
        lib.wasmtime_config_wasm_gc_set(config, True)  # one `ref.test` in CPython's call trampoline
        lib.wasmtime_config_cranelift_nan_canonicalization_set(config, True)  # the same NaN bits on every CPU
        # The limit may not exceed the async stack size, or wasmtime aborts the process.
        lib.wasmtime_config_async_stack_size_set(config, WASM_STACK_BYTES + (1 << 20))
        lib.wasmtime_config_max_wasm_stack_set(config, WASM_STACK_BYTES)
        self.pointer = lib.wasm_engine_new_with_config(config)
        capi.free_with(self, "wasm_engine_delete", self.pointer)

    def compile(self, wasm: bytes) -> bytes:
        """Machine code for this CPU family, in wasmtime's serialised form. Takes about ten CPU seconds for an image."""
        module = c_void_p()
        buffer = ctypes.create_string_buffer(wasm, len(wasm))
        capi.check(lib.wasmtime_module_new(self.pointer, ctypes.addressof(buffer), len(wasm), byref(module)))
        vec = capi.ByteVec()
        try:
            capi.check(lib.wasmtime_module_serialize(module, byref(vec)))
            return ctypes.string_at(vec.data, vec.size)
        finally:
            lib.wasm_byte_vec_delete(byref(vec))
            lib.wasmtime_module_delete(module)

    def load(self, path: str | Path) -> NativeModule:
        """A module that `compile` made. Loading is running native code: the caller has verified the file."""
        read_once(Path(path))
        module = c_void_p()
        capi.check(lib.wasmtime_module_deserialize_file(self.pointer, str(path).encode(), byref(module)))
        return NativeModule(self, module)

    def increment_epoch(self) -> None:
        lib.wasmtime_engine_increment_epoch(self.pointer)


class NativeModule:
    """A loaded module. Its code stays mapped, and its file open, while an instance of it lives."""

    def __init__(self, engine: NativeEngine, pointer: c_void_p) -> None:
        self.engine = engine
        self.pointer = pointer
        capi.free_with(self, "wasmtime_module_delete", pointer)

    def imports(self) -> list[tuple[str, str, tuple[int, ...], tuple[int, ...], int]]:
        """(module, name, kinds of parameters, kinds of results, pointer to the function type) of each imported
        function.

        The vector behind the pointers is kept as long as this object.
        """
        vec = capi.PointerVec()
        lib.wasmtime_module_imports(self.pointer, byref(vec))
        capi.free_with(self, "wasm_importtype_vec_delete", ctypes.pointer(vec))
        found: list[tuple[str, str, tuple[int, ...], tuple[int, ...], int]] = []
        for index in range(vec.size):
            item = vec.data[index]
            function = lib.wasm_externtype_as_functype_const(lib.wasm_importtype_type(item))
            if not function:
                raise capi.NativeError("the module imports something that is not a function")
            parameters = _kinds(lib.wasm_functype_params(function))
            results = _kinds(lib.wasm_functype_results(function))
            names = _text(lib.wasm_importtype_module(item)), _text(lib.wasm_importtype_name(item))
            found.append((*names, parameters, results, int(function)))
        return found


def _kinds(vec: Any) -> tuple[int, ...]:
    return tuple(lib.wasm_valtype_kind(vec[0].data[index]) for index in range(vec[0].size))


def _text(vec: Any) -> str:
    return ctypes.string_at(vec[0].data, vec[0].size).decode("utf-8")
