"""CPU time of a guest that runs on a thread of this process: what the watch reads in thread isolation.

The rule: only the guest's own time counts. While the host works on the same thread (a frame, a tool) the meter stands.
One thread starts and stops it; any other may read it.

A thread's CPU clock costs ten times a wall clock, and a guest comes and goes with every tool call. So the CPU clock is
read a millisecond apart at most often; in between, the guest's share is what passed on the wall while it ran, and never
more than the thread used.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Protocol

from .errors import ClocheError
from .limits import Limits
from .watch import cpu_exceeded

LOOK_S = 0.001
_now = time.perf_counter


_State = tuple[float, float, float, float, float | None]
"""CPU seconds of the guest up to the last look at the thread's clock; when that look was, on the wall clock and on the
CPU clock; seconds since that look in which the guest ran, before it went on for the last time; when that was, None
while the host works. A plain tuple, replaced as a whole: another thread never sees half of a change, and it is cheap.
"""


class GuestMeter:
    """One request at a time. Where other threads have no clock (macOS, Windows) it shows what was last noted."""

    def __init__(self) -> None:
        self._clock: int | None = None
        self._state: _State = (0.0, 0.0, 0.0, 0.0, None)

    def begin(self) -> None:
        """A request begins, on this thread."""
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        self._clock = None if clock_of is None else clock_of(threading.get_ident())
        now = _now()
        self._state = (0.0, now, time.thread_time(), 0.0, now)

    def stop(self) -> None:
        """The host takes over; also at the end, twice if need be."""
        used, look_at, look_cpu, wall, since = self._state
        if since is not None:
            now = _now()
            wall += now - since
            self._state = (used, look_at, look_cpu, wall, None)
            if now - look_at >= LOOK_S:
                self._look(now, None)

    def go_on(self) -> None:
        """Back to the guest."""
        used, look_at, look_cpu, wall, _ = self._state
        now = _now()
        self._state = (used, look_at, look_cpu, wall, now)
        if now - look_at >= LOOK_S:
            self._look(now, now)

    def _look(self, now: float, since: float | None) -> None:
        """Read the thread's clock: the guest's share is what passed while it ran, at most what the thread used."""
        used, _, look_cpu, wall, _ = self._state
        cpu = time.thread_time()
        self._state = (used + min(wall, cpu - look_cpu), now, cpu, 0.0, since)

    def used_s(self) -> float:
        """CPU seconds of the guest in this request so far. Any thread."""
        clock, (used, _, look_cpu, wall, since) = self._clock, self._state
        if since is None or clock is None:
            return used + wall
        with contextlib.suppress(OSError):  # the thread has ended
            cpu = time.clock_gettime(clock) - look_cpu
            return used + max(0.0, min(cpu, wall + _now() - since))
        return used + wall


class Metered(Protocol):
    """An instance in this process, as far as the watch needs it."""

    meter: GuestMeter

    @property
    def gone(self) -> bool: ...

    def condemn(self, error: ClocheError) -> None:
        """Stop the guest; its request raises `error`. Never blocks."""
        ...


class MeteredLook:
    """What the watch looks at, for one instance."""

    def __init__(self, link: Metered, limits: Limits) -> None:
        self.link = link
        self._allowed_s = limits.cpu_s

    def look(self) -> bool:
        """One look; True when it was the last."""
        if self.link.gone:
            return True
        used = self.link.meter.used_s()
        if used <= self._allowed_s:
            return False
        self.link.condemn(cpu_exceeded(used, self._allowed_s))
        return True
