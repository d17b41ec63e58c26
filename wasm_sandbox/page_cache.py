"""A file that is going to be mapped, brought into memory in one sweep.

What the system reads for a mapping it reads where it is touched, here and there, and on Linux it then lies in memory
page by page; what is read from front to end comes in large pieces. A fresh instance touches some two hundred pages of
its module, and each costs more in the first case, for as long as the file stays in memory (docs/design/image.md has
figures). So after a boot, or when the system has dropped it, it is read once before it is mapped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROBES = 48
"""Places that are looked at, some 0.1 ms in all."""
_CHUNK_BYTES = 1 << 20


def read_once(path: Path) -> bool:
    """Read the file if some of it is not in memory. True if it was read; False also where nobody can tell, or where it
    cannot be read: whoever maps it says why."""
    try:
        with path.open("rb", buffering=0) as file:
            if not _is_missing(file.fileno()):
                return False
            chunk = bytearray(_CHUNK_BYTES)
            while file.readinto(chunk):
                pass
    except OSError:
        return False
    return True


def _is_missing(descriptor: int) -> bool:
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    size = os.fstat(descriptor).st_size
    byte = bytearray(1)
    try:
        for at in range(0, size, size // _PROBES + 1):
            os.preadv(descriptor, [byte], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:  # a file system that cannot tell
        return False
    return False
