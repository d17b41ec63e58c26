"""Bake a live interpreter into its module: memory becomes the data section, mutable globals get their present values.

What comes out starts where the snapshot was taken. So everything secret or accidental has to be gone before:
`scrub_stack` and `scrub_allocator` zero what the program itself can no longer reach.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace

from . import wasm
from .wasm import Section, WasmError

PAGE = 65536
_GRAIN = 4096
"""Zero runs are looked for at this granularity, the page size of the host: only non-zero pages cost space."""
_GAP = 16
"""A segment ends after this many zero grains; fewer segments load faster than smaller ones."""

SIZE_CLASSES = 64
CLASS_BYTES = 8
POOL_BYTES = 16384


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


def scrub_stack(memory: bytearray, low: int, pointer: int) -> None:
    """Zero the part of the C stack below the stack pointer."""
    if not 0 <= low <= pointer <= len(memory):
        raise WasmError("stack outside the memory")
    memory[low:pointer] = bytes(pointer - low)


def scrub_allocator(memory: bytearray, base: int) -> int:
    """Zero the free blocks of the small-object allocator, all but their links. Returns the bytes zeroed.

    `base` is the allocator's state; `shim.wat` documents its layout.
    """
    zeroed = 0
    for size_class in range(1, SIZE_CLASSES + 1):
        block = size_class * CLASS_BYTES
        at = _u32(memory, base + 4 * size_class)
        steps = 0
        while at:
            memory[at + 4 : at + block] = bytes(block - 4)
            zeroed += block - 4
            at = _u32(memory, at)
            steps += 1
            if steps > len(memory) // CLASS_BYTES:
                raise WasmError("free list of the allocator is a ring")
        fresh, last = _u32(memory, base + 260 + 4 * size_class), _u32(memory, base + 520 + 4 * size_class)
        if fresh and fresh <= last:
            end = (fresh & ~(POOL_BYTES - 1)) + POOL_BYTES
            memory[fresh:end] = bytes(end - fresh)
            zeroed += end - fresh
    return zeroed


def _u32(memory: bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", memory, at)[0])


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
