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
from .plain import record
from .threads import start_thread

PERIOD_S = 0.1
"""A worker can be over its cap for this long. A look takes less than 0.1 ms for each worker."""
SHARED_BYTES = 64 * MIB
"""Resident pages of files: code and the image. 26 MiB when it was measured."""
IDLE_CPU_S = 1.0
"""What a worker may burn between two requests. An honest one burns nothing then."""
WAITING_CPU_S = 2.0
"""What it may burn in one request while it waits for answers of its host. V8 compiles in the background meanwhile."""
MOST_THREADS = 256
"""Of one worker. One of the engine "wasmtime" has two and can make no third; V8 and Tokio stay far below this, whatever
the machine. Threads are numbers, and the machine has 32,768 of them or so for everybody."""
_STATUS_BYTES = 64 * 1024
"""Most is 2 KiB; a host of many groups has a long line of them before what is looked for."""


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

    def waited_cpu_s(self, now_s: float) -> float:
        """CPU seconds that it used in this request while it said that it waits."""
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
    return cpu_seconds(os.getpid()) is not None and footprint(os.getpid()) is not None


def cpu_seconds(pid: int) -> float | None:
    """CPU time that all threads of the process have used; None where it is gone or the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's name for the CPU clock of another process
    except OSError:
        return None


@record
class Footprint:
    """What a process takes from the machine."""

    memory_bytes: int
    """Resident, swapped out, and its page tables: the kernel counts those for no limit of a process, and pages that
    were only read fill them without being resident."""
    threads: int


def footprint(pid: int) -> Footprint | None:
    """Of the process; None where it is gone or the system does not tell."""
    try:
        text = _status(f"/proc/{pid}")
        threads = _field(text, b"Threads")
        if threads > MOST_THREADS:
            return Footprint(0, threads)
        kibibytes = _kibibytes(text)
        if kibibytes is None:
            kibibytes = _kibibytes_of_others(pid)
        return Footprint(kibibytes * 1024, threads)
    except (OSError, IndexError, ValueError):
        return None


def _kibibytes_of_others(pid: int) -> int:
    """Where the first thread has ended: any other that can still run has the memory. Some end while this looks."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            found = max(found, _kibibytes(_status(f"/proc/{pid}/task/{name}")) or 0)
    return found


def _status(folder: str) -> bytes:
    with open(f"{folder}/status", "rb") as file:
        return file.read(_STATUS_BYTES)


def _kibibytes(text: bytes) -> int | None:
    """What a thread's status says of its memory; None for one that has ended."""
    if b"\nVmRSS:" not in text:
        return None
    return sum(_field(text, name) for name in (b"VmRSS", b"VmSwap", b"VmPTE"))


def _field(text: bytes, name: bytes) -> int:
    return int(text.split(b"\n" + name + b":", 1)[1].split(None, 1)[0])


def memory_cap(limits: Limits) -> int:
    """Bytes that a worker of these limits may take from the machine."""
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
        """Watch the worker from now to its end.

        Raises:
            PoolExhausted: the system gives no thread for it. The worker is not watched.
        """
        self.add_look(_Watched(link, limits, self._busy_nice))

    def add_look(self, item: Look) -> None:
        """Look at something from now on, until it says that it was the last time. Raises as `add`."""
        with self._changed:
            if self._closed:
                return
            if self._thread is None:
                self._thread = start_thread("cloche-watch", self._run)
            self._watched[item.link] = item
            if len(self._watched) == 1:
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
        error = self._size_error(pid) or self._cpu_error(pid)
        if error is None:
            return False
        with contextlib.suppress(OSError):
            self.link.condemn(error)
        return True

    def _size_error(self, pid: int) -> ClocheError | None:
        seen = footprint(pid)
        if seen is None:
            return None
        if seen.threads > MOST_THREADS:
            return ProtocolError(f"the worker has {seen.threads} threads, an honest one never {MOST_THREADS}")
        used = seen.memory_bytes
        if used <= self._memory_cap:
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
        if self.link.waited_cpu_s(now_s) > WAITING_CPU_S:
            return ProtocolError("the worker burns CPU while it says that it waits for its host")
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
