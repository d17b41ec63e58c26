"""Our ctypes binding agrees with the one that the pinned wheel was generated with."""

import ctypes
from typing import Any

import pytest
import wasmtime._bindings as theirs

from cloche.wasm_sandbox import capi

LAYOUTS: dict[Any, Any] = {
    capi.Func: theirs.wasmtime_func,
    capi.Memory: theirs.wasmtime_memory,
    capi.Global: theirs.wasmtime_global,
    capi.Extern: theirs.wasmtime_extern,
    capi.Instance: theirs.wasmtime_instance,
    capi.ValRaw: theirs.wasmtime_val_raw,
    capi.Val: theirs.wasmtime_val,
    capi.ByteVec: theirs.wasm_byte_vec_t,
    capi.PointerVec: theirs.wasm_importtype_vec_t,
}


def ctypes_library() -> ctypes.CDLL:
    from wasmtime._ffi import dll

    return dll


@pytest.mark.parametrize("ours", LAYOUTS, ids=lambda kind: kind.__name__)
def test_our_structures_have_the_size_and_alignment_of_the_wheels(ours: Any) -> None:
    assert ctypes.sizeof(ours) >= ctypes.sizeof(LAYOUTS[ours])
    assert ctypes.alignment(ours) == ctypes.alignment(LAYOUTS[ours])
    if ours is not capi.Val:
        assert ctypes.sizeof(ours) == ctypes.sizeof(LAYOUTS[ours])


@pytest.mark.parametrize("name", sorted(capi.SIGNATURES))
def test_our_signatures_have_the_shape_of_the_wheels(name: str) -> None:
    result, arguments = capi.SIGNATURES[name]
    theirs_function = getattr(theirs, f"_{name}", None)
    if theirs_function is None:
        theirs_function = getattr(ctypes_library(), name)
    assert len(arguments) == len(theirs_function.argtypes)
    for mine, wheel in zip(arguments, theirs_function.argtypes, strict=True):
        assert ctypes.sizeof(mine) == ctypes.sizeof(wheel)  # type: ignore[arg-type]
    assert (result is None) == (theirs_function.restype is None)
