"""Edits of a snapshot's memory before it is baked: what nobody can reach is zeroed, what stays is laid out for sharing.

All instances of an image share its pages until they write to them; the first write to a page costs a fault and 4 KiB.
So objects that live as long as the image stop counting references, and free blocks are handed out page by page.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter

from ...runtime.errors import ImageError

SIZE_CLASSES = 64
CLASS_BYTES = 8
POOL_BYTES, USED_BYTES = 16384, 16376
"""A pool, and what of it has blocks; the rest is the header of the next thing on the heap."""
PAGE_BYTES = 4096

_FRESH, _LAST = 260, 520
_IMMORTAL = 5 << 28
"""CPython's reference count of an immortal object on a 32-bit machine; from `_IMMORTAL_FROM` on none is counted."""
_IMMORTAL_FROM = 1 << 30
_MAX_REFERENCES = 1 << 20
"""More than any baked object has, less than any heap address: CPython's free lists keep the type of a freed object and
put a link where its count was."""
_WORD = struct.Struct("<I")


def scrub_stack(memory: bytearray, low: int, pointer: int) -> None:
    """Zero the part of the C stack below the stack pointer."""
    if not 0 <= low <= pointer <= len(memory):
        raise ImageError("the snapshot's stack lies outside its memory")
    memory[low:pointer] = bytes(pointer - low)


def scrub_allocator(memory: bytearray, base: int) -> None:
    """Zero the free blocks of the small-object allocator, and link them so that pages with most room come first.

    `base` is the allocator's state; `shim.wat` documents its layout.
    """
    for size_class in range(1, SIZE_CLASSES + 1):
        block, head = size_class * CLASS_BYTES, base + 4 * size_class
        blocks = _free_blocks(memory, head)
        room = Counter(at // PAGE_BYTES for at in blocks)
        blocks.sort(key=lambda at: (-room[at // PAGE_BYTES], at))
        for at in blocks:
            memory[at : at + block] = bytes(block)
        _WORD.pack_into(memory, head, blocks[0] if blocks else 0)
        for at, following in itertools.pairwise(blocks):
            _WORD.pack_into(memory, at, following)
        fresh, last = _word(memory, head + _FRESH), _word(memory, head + _LAST)
        if fresh and fresh <= last:
            end = (fresh & ~(POOL_BYTES - 1)) + USED_BYTES
            memory[fresh:end] = bytes(end - fresh)


def make_immortal(memory: bytearray, report: bytes) -> int:
    """Stop counting the references of these objects; how many there were.

    Call it after `scrub_allocator`: then what was made after the snapshot lies where that has no object of its type.

    Args:
        report: address and type of each object, as `guest_report.py` found them in the running interpreter.

    Raises:
        ImageError: this CPython counts references in another way.
    """
    pairs = list(struct.iter_unpack("<II", report))
    if not pairs or not _is_immortal(memory, pairs[0][0]):
        raise ImageError("None is not immortal where it should be; this CPython lays objects out differently")
    changed = 0
    for at, kind in pairs:
        if at % 4 or at + 8 > len(memory) or _word(memory, at + 4) != kind:
            continue
        if 0 < _word(memory, at) < _MAX_REFERENCES:
            _WORD.pack_into(memory, at, _IMMORTAL)
            changed += 1
    return changed


def load_immortals(memory: bytearray, objects: bytes, constants: bytes) -> int:
    """Let the code of the image load its constants without counting references; how many instructions that were.

    The first run of such an instruction chooses its form, by whether the constant is immortal. In the image these ran
    before their constants were.

    Args:
        objects: what `make_immortal` got.
        constants: the second answer of `guest_report.py`.
    """
    types = dict(struct.iter_unpack("<II", objects))
    counting, not_counting, *numbers = (number for (number,) in _WORD.iter_unpack(constants))
    changed = 0
    for code, at, constant in zip(*[iter(numbers)] * 3, strict=True):
        in_snapshot = at < len(memory) and _word(memory, code + 4) == types[code]
        if in_snapshot and memory[at] == counting and _is_immortal(memory, constant):
            memory[at] = not_counting
            changed += 1
    return changed


def _is_immortal(memory: bytearray, at: int) -> bool:
    return at + 4 <= len(memory) and _word(memory, at) >= _IMMORTAL_FROM


def _free_blocks(memory: bytearray, head: int) -> list[int]:
    found: list[int] = []
    at = _word(memory, head)
    while at:
        found.append(at)
        if len(found) > len(memory) // CLASS_BYTES:
            raise ImageError("a free list of the snapshot's allocator is a ring")
        at = _word(memory, at)
    return found


def _word(memory: bytearray, at: int) -> int:
    return int(_WORD.unpack_from(memory, at)[0])
