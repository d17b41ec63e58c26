"""Looks at workers from outside: the CPU time and memory that the kernel counts for each, whatever the worker says.

The rule: a worker over its cap is ended with the error that says so, and one that burns CPU for long steps back
(niceness.py). One thread per source of workers; it runs while there are any, wakes ten times a second, and costs a cell
nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Protocol

from ..wasm_sandbox.jail.rlimits import data_bytes
from .errors import ClocheError, LimitExceeded, OutOfMemory, ProtocolError
from .limits import MIB, Limits
from .niceness import Burner, lower_priority

PERIOD_S = 0.1
"""A worker can be over its cap for this long. A look takes some 20 µs for each worker."""
SHARED_BYTES = 64 * MIB
"""Resident pages of files: code and the image. 26 MiB when it was measured."""
IDLE_CPU_S = 1.0
"""What a worker may burn between two requests. An honest one burns nothing then."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Watchable(Protocol):
    """A worker's link, as far as the watch needs it."""

    @property
    def pid(self) -> int | None: ...

    @property
    def serving(self) -> bool:
        """True while a request runs."""
        ...

    @property
    def requests(self) -> int:
        """How many have begun."""
        ...

    @property
    def gone(self) -> bool:
        """The process is dead and reaped."""
        ...

    @property
    def extra_resident_bytes(self) -> int:
        """What an idle worker of its engine needs beyond the usual."""
        ...

    def condemn(self, error: ClocheError) -> None:
        """Kill the worker; its request raises `error`. Never blocks."""
        ...


def can_watch() -> bool:
    """False where the kernel does not tell."""
    return cpu_seconds(os.getpid()) is not None and memory_bytes(os.getpid()) is not None


def cpu_seconds(pid: int) -> float | None:
    """CPU time that all threads of the process have used; None where it is gone or the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's name for the CPU clock of another process
    except OSError:
        return None


def memory_bytes(pid: int) -> int | None:
    """Resident memory of the process; None where it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read(200).split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def memory_cap(limits: Limits) -> int:
    """Bytes that a worker of these limits may have resident."""
    return SHARED_BYTES + data_bytes(limits.memory_mb * MIB, limits.file_bytes, limits.value_bytes)


class Look(Protocol):
    """Something to look at, ten times a second."""

    @property
    def link(self) -> object:
        """Whose it is: one look for each."""
        ...

    def look(self) -> bool:
        """Do it, without blocking or raising; True when it was the last time."""
        ...


class WorkerWatch:
    """Keeps leased workers under their caps. Safe to use from any thread; the caller closes it."""

    def __init__(self, *, busy_nice: int = 0) -> None:
        """`busy_nice`: the niceness of workers that burn CPU for long; 0 leaves them alone."""
        self._busy_nice = busy_nice
        self._changed = threading.Condition(threading.Lock())
        self._watched: dict[object, Look] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, link: Watchable, limits: Limits) -> None:
        """Watch the worker from now to its end."""
        self.add_look(_Watched(link, limits, self._busy_nice))

    def add_look(self, item: Look) -> None:
        """Look at something from now on, until it says that it was the last time."""
        with self._changed:
            if self._closed:
                return
            self._watched[item.link] = item
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cloche-watch", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._changed.notify()

    def close(self) -> None:
        """End the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._watched.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _run(self) -> None:
        while watched := self._next_round():
            for item in watched:
                if item.look():
                    with self._changed:
                        self._watched.pop(item.link, None)

    def _next_round(self) -> list[Look]:
        """The workers to look at, a period after the last round; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, PERIOD_S)
            self._changed.wait_for(lambda: self._closed or bool(self._watched))
            return list(self._watched.values())


class _Watched:
    """One worker and what was seen of it."""

    def __init__(self, link: Watchable, limits: Limits, busy_nice: int) -> None:
        self.link = link
        self._cpu_allowed_s = limits.cpu_s
        self._memory_cap = memory_cap(limits) + link.extra_resident_bytes
        self._busy_nice = busy_nice
        self._burner = Burner()
        self._state: tuple[bool, int] | None = None
        """Serving, and which request: a change starts the count anew."""
        self._cpu_mark_s = 0.0

    def look(self) -> bool:
        """One look; True when it was the last."""
        if self.link.gone:
            return True
        pid = self.link.pid
        if pid is None:
            return False
        error = self._memory_error(pid) or self._cpu_error(pid)
        if error is None:
            return False
        with contextlib.suppress(OSError):
            self.link.condemn(error)
        return True

    def _memory_error(self, pid: int) -> ClocheError | None:
        used = memory_bytes(pid)
        if used is None or used <= self._memory_cap:
            return None
        message = f"the worker has {used // MIB} MiB in memory, its cap is {self._memory_cap // MIB} MiB"
        return OutOfMemory(message, limit="memory_mb", used=used / MIB, allowed=self._memory_cap / MIB)

    def _cpu_error(self, pid: int) -> ClocheError | None:
        now_s = cpu_seconds(pid)
        if now_s is None:
            return None
        if self._busy_nice and self._burner.burns_long(now_s, time.monotonic()):
            self._step_back(pid)
        state = self.link.serving, self.link.requests
        if state != self._state:
            self._state, self._cpu_mark_s = state, now_s
            return None
        used = now_s - self._cpu_mark_s
        if not state[0]:
            return ProtocolError("the worker burns CPU while no request runs") if used > IDLE_CPU_S else None
        return cpu_exceeded(used, self._cpu_allowed_s) if used > self._cpu_allowed_s else None

    def _step_back(self, pid: int) -> None:
        """Once. Where the system forbids it, `Runtime.walls()` has said so."""
        nice, self._busy_nice = self._busy_nice, 0
        with contextlib.suppress(OSError):
            lower_priority(pid, nice)


def memory_exceeded(allowed_mb: float) -> OutOfMemory:
    """The error for a worker that the kernel ended in its memory cgroup: how much it wanted, nobody knows."""
    message = f"the worker needed more than the {allowed_mb:g} MiB of its memory cgroup; the kernel ended it"
    return OutOfMemory(message, limit="memory_mb", used=allowed_mb, allowed=allowed_mb)


def cpu_exceeded(used_s: float, allowed_s: float) -> LimitExceeded:
    """The error for a cell over its CPU budget."""
    message = f"the cell used {used_s:.1f} s of CPU time, cpu_s allows {allowed_s:g} s; the sandbox was stopped"
    return LimitExceeded(message, limit="cpu_s", used=used_s, allowed=allowed_s)
