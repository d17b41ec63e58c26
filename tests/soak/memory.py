"""What the soak knows of memory: resident pages, what the allocators hand out, and what a rest gives back.

The rule: resident memory alone says little. Allocators keep what was freed once, so it climbs to the worst moment so
far and stays; what is in use, and what a rest with a trim leaves, tells a leak from that.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MiB; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


class Allocator:
    """The C library's, where it is glibc 2.33 or later; elsewhere it knows nothing and trims nothing."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._info = getattr(library, "mallinfo2", None)
        self._trim = getattr(library, "malloc_trim", None)
        if self._info is not None:
            self._info.restype = _Mallinfo

    def in_use_mb(self) -> float:
        """MiB that it has handed out: all of C, and Python's objects above 512 bytes."""
        if self._info is None:
            return 0.0
        found = self._info()
        return float(found.uordblks + found.hblkhd) / 2**20

    def rested_mb(self, pid: int) -> float:
        """Resident MiB of this process after a collection and a trim."""
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        return rss_mb(pid)


def python_blocks() -> float:
    """Memory blocks that Python's own allocator has handed out: what would grow if objects were kept."""
    return float(sys.getallocatedblocks())
