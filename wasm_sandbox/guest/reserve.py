"""Memory kept back, so that a full sandbox can say that it is full and run the cell that frees something.

Rule: once memory ran out, user code runs while the reserve is held and our own while it is let go: what a cell takes
for its beginning and its end is then never eaten by what it leaves. Before that it is held and nobody looks at it.
"""

from __future__ import annotations

_BLOCK_BYTES = 64 * 1024
"""Holds three pools of the small-object allocator, wherever it begins."""
_BLOCKS = 4


class Reserve:
    """Blocks that nobody writes to: baked into the image as zeros, they cost a sandbox address space only.

    What is in the image is there for good, so a block is not dropped but shrunk.
    """

    def __init__(self) -> None:
        self.is_short = False
        """Memory ran out. Until there is plenty again the reserve is let go between cells."""
        self._blocks = [bytearray(1) for _ in range(_BLOCKS)]

    def let_go(self) -> None:
        """Memory ran out: what comes next may use the reserve. Takes no memory itself."""
        self.is_short = True
        for block in self._blocks:
            del block[1:]

    def hold(self) -> None:
        """Take it, or as much of it as there is."""
        for block in self._blocks:
            if len(block) == 1:
                try:
                    block *= _BLOCK_BYTES
                except MemoryError:
                    return

    def recover(self) -> None:
        """At the end of a cell in which memory was short: hold it if there is twice as much, or let it go."""
        try:
            bytearray(2 * _BLOCKS * _BLOCK_BYTES)
        except MemoryError:
            self.let_go()
        else:
            self.hold()
            self.is_short = False
