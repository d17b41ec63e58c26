"""Workers that burn CPU for long step back: the kernel lets others go first, and gives them what is left.

The rule: it only ever goes one way, and for the rest of the worker's life. (Taking it back needs a right that an
ordinary host lacks; and a guest that could earn its way back would burn in turns.) Nobody starves: at niceness 10 a
worker that competes for a core still gets a tenth of it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ..wasm_sandbox.jail.report import Record, reason

PRIORITY = "cpu-priority"
PURPOSE = "a worker that burns CPU for long gets a lower priority than the others"
FREE_SHARE = 0.05
"""Of a core: a worker that burns no more than this is never long at it. Little, as a loop among many on a busy
machine gets little too, and that is where it matters."""
BURST_S = 1.0
"""CPU seconds that a worker may burn above its free share. A loop that has a core is there after 1.1 s."""

_ROUNDS = 5


class Burner:
    """What one worker has burnt lately: CPU seconds fill it, time drains it."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self.level_s = 0.0

    def burns_long(self, cpu_s: float, now: float) -> bool:
        """Take a look: the CPU time of the worker so far, and the monotonic time."""
        if self._last is not None:
            used, passed = cpu_s - self._last[0], now - self._last[1]
            self.level_s = max(0.0, self.level_s + used - passed * FREE_SHARE)
        self._last = cpu_s, now
        return self.level_s > BURST_S


def lower_priority(pid: int, nice: int) -> None:
    """Raise the niceness of every thread of the process; one that is nicer stays so.

    Raises:
        OSError: the system does not allow it, or the process is gone.
    """
    for _ in range(_ROUNDS):  # a thread that is made has the niceness of its maker, who may not have had his turn yet
        if not _lower_threads(pid, nice):
            return


def _lower_threads(pid: int, nice: int) -> bool:
    """Whether there was one to lower. On Linux a priority belongs to a thread."""
    found = False
    for name in os.listdir(f"/proc/{pid}/task"):
        thread = int(name)
        with suppress(ProcessLookupError):  # it has ended since; the others have not
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)
                found = True
    return found


def priority_record(pid: int) -> Record:
    """Whether this host may do so to `pid`, a process with the rights of the workers. Changes nothing."""
    if sys.platform != "linux":
        return Record(PRIORITY, False, "made for Linux")
    try:
        os.listdir(f"/proc/{pid}/task")
        # Who may not lower a priority may not set it to what it is either.
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))
    except OSError as exc:
        return Record(PRIORITY, False, f"the host may not change the priority of its workers: {reason(exc)}")
    return Record(PRIORITY, True, PURPOSE)
