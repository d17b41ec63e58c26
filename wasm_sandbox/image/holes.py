"""Takes the holes of the heap out of use, so that what a sandbox allocates comes from one place: the heap's end.

malloc prefers holes, wherever they are. Each one that it takes, splits or gives back is written to, and the chunks that
stand beside it in malloc's lists are too: a page of the image each, which a sandbox then has for itself. A snapshot
without holes costs address space that nobody would have used twice, and no memory.
"""

from __future__ import annotations

from ...runtime.errors import ImageError
from .boot import Interpreter

_BLOCK, _RUN = 65536, 8
"""So many blocks of this size one behind the other are the heap's end, or a hole that is as good."""
_MOST_BLOCKS = 1000
_LARGEST_GAP = 64
"""Between two neighbours: malloc's own words."""
_SMALLEST = 12
"""What fits into the smallest chunk."""


def fill_holes(interpreter: Interpreter) -> None:
    """Allocate every hole, zeroed, for good."""
    end = _find_end(interpreter)
    size = _BLOCK
    while size:
        at = interpreter.allocate(size)
        if at < end:
            interpreter.zero(at, size)
        else:
            interpreter.release(at)
            size = max(size * 7 // 8, _SMALLEST) if size > _SMALLEST else 0


def _find_end(interpreter: Interpreter) -> int:
    """The first address behind which there is nothing but free memory, which is zeroed as far as this looks. Holes that
    are larger than a block are filled on the way."""
    blocks: list[int] = []
    run = 0
    while run < _RUN:
        if len(blocks) == _MOST_BLOCKS:
            raise ImageError("the heap of the snapshot has no end; this malloc works differently")
        at = interpreter.allocate(_BLOCK)
        follows = bool(blocks) and 0 < at - blocks[-1] - _BLOCK < _LARGEST_GAP
        run = run + 1 if follows else 1
        blocks.append(at)
    for at in blocks:
        interpreter.zero(at, _BLOCK)
    for at in blocks[-_RUN:]:
        interpreter.release(at)
    return blocks[-_RUN]
