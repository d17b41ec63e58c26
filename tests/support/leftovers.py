"""What a test must leave as it found it: open files and threads of this process.

The rule: a close ends threads without waiting for the last step of each, so a count is waited for, within a bound, and
what is left then is named.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from dataclasses import dataclass

from .waiting import wait_until


@dataclass(frozen=True, slots=True)
class Leftovers:
    """This process at one moment."""

    descriptors: int
    threads: frozenset[threading.Thread]

    def wait_gone(self) -> None:
        """Until nothing is open and no thread runs beyond what was there at that moment.

        Fewer is fine: what an earlier test has closed may end meanwhile.
        """
        with contextlib.suppress(AssertionError):
            wait_until(self._is_gone)
        assert not self._new_threads()
        assert open_descriptors() <= self.descriptors, _open_files()

    def _is_gone(self) -> bool:
        if self._new_threads():
            return False
        if open_descriptors() > self.descriptors:
            gc.collect()  # a closed runtime may be a cycle, which holds the image's file
        return open_descriptors() <= self.descriptors

    def _new_threads(self) -> list[str]:
        return sorted(thread.name for thread in set(threading.enumerate()) - self.threads)


def leftovers() -> Leftovers:
    """This process as it is now."""
    return Leftovers(open_descriptors(), frozenset(threading.enumerate()))


def open_descriptors() -> int:
    """How many files, sockets and processes this process has open. Linux."""
    return len(os.listdir("/proc/self/fd"))


def _open_files() -> list[str]:
    found: list[str] = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)
