"""No page of this process that holds code can be written, and none that can is shared with another process.

The rule: done once in the fork server, before the filters that keep it so. ctypes makes its C callbacks in pages that
are writable and executable at once (or, under SELinux, in a shared file that is mapped twice): a worker that was taken
over could put native code of its own there, and in the shared file also into its neighbours. The callbacks are made by
then; whoever makes another one afterwards dies.
"""

from __future__ import annotations

import ctypes

from ...runtime.plain import record
from .syscalls import checked, libc

_READ, _WRITE, _EXECUTE = 1, 2, 4
_PRIVATE_ANONYMOUS = 0x22
_MOVE, _TO_PLACE = 1, 2
_FAILED = ctypes.c_void_p(-1).value
_MAPS = "/proc/self/maps"


@record
class Mapping:
    """One line of /proc/self/maps."""

    start: int
    size: int
    protection: int
    shared: bool

    @property
    def is_loose(self) -> bool:
        """It can be written and run, or it can be one of these and others have it too."""
        both = _WRITE | _EXECUTE
        return self.protection & both == both or (self.shared and bool(self.protection & both))


def close_code_pages() -> None:
    """Take the right to write from pages with code; shared ones are replaced by private copies at the same place.

    Raises:
        OSError: /proc is not there, or the kernel refuses.
    """
    for mapping in mappings():
        if not mapping.is_loose:
            continue
        if mapping.shared:
            _make_private(mapping)
        else:
            _protect(mapping.start, mapping.size, mapping.protection & ~_WRITE)


def mappings() -> list[Mapping]:
    """Of this process, now. Raises OSError."""
    with open(_MAPS, encoding="utf-8", errors="replace") as lines:
        return [parse(line) for line in lines]


def parse(line: str) -> Mapping:
    """One line of /proc/PID/maps."""
    place, letters = line.split(None, 2)[:2]
    start, _, end = place.partition("-")
    bits = ((_READ, "r"), (_WRITE, "w"), (_EXECUTE, "x"))
    protection = sum(bit for bit, letter in bits if letter in letters)
    return Mapping(int(start, 16), int(end, 16) - int(start, 16), protection, letters[3] == "s")


def _make_private(mapping: Mapping) -> None:
    """A copy takes its place. Where it may be run the copy may not be written: nobody else writes it any more."""
    copy = libc.mmap(None, ctypes.c_size_t(mapping.size), _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, ctypes.c_long(0))
    checked(-1 if copy == _FAILED else 0)
    ctypes.memmove(copy, mapping.start, mapping.size)
    writable = 0 if mapping.protection & _EXECUTE else mapping.protection & _WRITE
    _protect(copy, mapping.size, mapping.protection & ~_WRITE | writable)
    size, flags = ctypes.c_size_t(mapping.size), _MOVE | _TO_PLACE
    moved = libc.mremap(ctypes.c_void_p(copy), size, size, flags, ctypes.c_void_p(mapping.start))
    checked(-1 if moved == _FAILED else 0)


def _protect(start: int, size: int, protection: int) -> None:
    checked(int(libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), protection)))
