"""Bake a live interpreter into its module: memory becomes the data section, mutable globals get their present values.

What comes out starts where the snapshot was taken. Everything accidental has to be gone before: see scrub.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from . import wasm
from .wasm import Section, WasmError

PAGE = 65536
_GRAIN = 4096
"""Zero runs are looked for at this granularity, the page size of the host: only non-zero pages cost space."""
_GAP = 16
"""A segment ends after this many zero grains; fewer segments load faster than smaller ones."""


def bake(module: bytes, memory: bytes | bytearray, values: Mapping[int, int]) -> bytes:
    """The module with this memory and these values of globals (by index), without custom sections."""
    segments = _segments(memory)
    data = wasm.vector([b"\0" + wasm.i32_const(at) + wasm.leb(len(chunk)) + chunk for at, chunk in segments])
    edits: dict[int, Callable[[bytes, int], bytes]] = {
        wasm.MEMORIES: _with_minimum,
        wasm.DATA: lambda _body, _pages: data,
        wasm.DATA_COUNT: lambda _body, _pages: wasm.leb(len(segments)),
    }
    pages = (len(memory) + PAGE - 1) // PAGE
    sections = wasm.parse(module)
    start = wasm.replaced(sections, wasm.GLOBALS, _with_values(sections, values))
    out = [Section(s.id, edits[s.id](s.body, pages)) if s.id in edits else s for s in start if s.id != wasm.CUSTOM]
    return wasm.build(out)


def _segments(memory: bytes | bytearray) -> list[tuple[int, bytes]]:
    """(offset, bytes) of the non-zero parts."""
    view, zero, size = memoryview(memory), bytes(_GRAIN), len(memory)
    found: list[tuple[int, bytes]] = []
    start, end = -1, 0
    for at in range(0, size, _GRAIN):
        grain = view[at : at + _GRAIN]
        if bytes(grain) == zero[: len(grain)]:
            continue
        if start >= 0 and at - end > _GAP * _GRAIN:
            found.append((start, bytes(view[start:end])))
            start = -1
        if start < 0:
            start = at
        end = min(at + _GRAIN, size)
    if start >= 0:
        found.append((start, bytes(view[start:end])))
    return found


def _with_minimum(body: bytes, pages: int) -> bytes:
    count, at = wasm.read_leb(body, 0)
    if count != 1:
        raise WasmError("more than one memory")
    _, after = wasm.read_leb(body, at + 1)
    return b"\x01" + body[at : at + 1] + wasm.leb(pages) + body[after:]


def _with_values(sections: list[Section], values: Mapping[int, int]) -> bytes:
    entries = wasm.defined_globals(sections)
    changed = {e.index: wasm.i32_const(values[e.index]) for e in entries if e.index in values}
    return wasm.globals_section([replace(e, init=changed.get(e.index, e.init)) for e in entries])
