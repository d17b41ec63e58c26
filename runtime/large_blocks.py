"""Blocks of a megabyte and their like stay with the allocator between two uses.

glibc maps a large block anew at each use until the process has freed one of that size: only then does it keep them on
its heap. A frame with a megabyte of data passes through several such blocks, and the kernel's work to map, clear and
unmap their pages is four times what all copying takes. So one is freed before the first frame comes.
"""

from __future__ import annotations

KEPT_BYTES = 4 * 1024 * 1024
"""From the heap come blocks up to this size; what lies free at its end beyond twice as much goes back to the system."""


def keep_large_blocks() -> None:
    """Let this process serve large frames from its heap. Once is enough; other allocators than glibc's do not care."""
    block = bytes(KEPT_BYTES)  # zeros by the kernel: never touched, so it takes no memory
    del block
