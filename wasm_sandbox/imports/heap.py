"""Growth of the linear memory, asked for by the guest's allocator and bounded by the sandbox's limit."""

from __future__ import annotations

from .contract import Box, Import

PAGE_BYTES = 64 * 1024
ABI_MAX_BYTES = (1 << 32) - PAGE_BYTES
_EXTRA_MAX_BYTES = 96 * 1024 * 1024
_OVERGROWTH = (5, 10, 20)
"""More than asked for is tried first: a fifth, then a tenth, then a twentieth of the present size."""


def resize_heap(box: Box, requested: int) -> int:
    """1 if the memory now has at least `requested` bytes, else 0: the guest sees MemoryError."""
    limit = _limit(box)
    if requested > limit:
        box.refuse_memory(requested)
        return 0
    old = box.memory.size
    for divisor in _OVERGROWTH:
        wanted = max(requested, min(old + old // divisor, requested + _EXTRA_MAX_BYTES))
        if box.grow_memory(min(limit, -(-wanted // PAGE_BYTES) * PAGE_BYTES)):
            return 1
    return 0


def get_heap_max(box: Box) -> int:
    return _limit(box)


def _limit(box: Box) -> int:
    """The sandbox's limit in whole pages."""
    return min(box.memory_limit, ABI_MAX_BYTES) // PAGE_BYTES * PAGE_BYTES


IMPORTS: dict[str, Import] = {
    "emscripten_resize_heap": Import(resize_heap, "real", "grows up to the sandbox's memory limit"),
    "emscripten_get_heap_max": Import(get_heap_max, "real", "the sandbox's memory limit"),
}
