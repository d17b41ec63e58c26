"""A worker's process, as its link sees it, and how its end is told.

The rule: what a dead worker said about its end is hostile text by the time it comes here, cut and printable.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from ..wasm_sandbox.fork_protocol import EXIT_TEXTS

SIGXCPU, SIGSYS = (getattr(signal, name, 0) for name in ("SIGXCPU", "SIGSYS"))  # not on Windows


class WorkerProcess(Protocol):
    """A process that somebody else started and reaps."""

    @property
    def pid(self) -> int | None:
        """None until it is known, or if there never was a process."""
        ...

    @property
    def exit_status(self) -> int | None:
        """Exit code, negative for a signal; None while it lives or where nobody could see it."""
        ...

    @property
    def exited(self) -> bool: ...

    @property
    def failure(self) -> str | None:
        """Why it never ran, if so."""
        ...

    def kill(self) -> None:
        """SIGKILL. Any thread, any time, never blocks."""
        ...

    def cap_memory(self, mebibytes: int, timeout_s: float) -> str | None:
        """Cap its writable memory for good, and wait until that holds: None, or why it does not. Once in its life."""
        ...

    def allow_cpu(self, seconds: int) -> bool:
        """Ask for the CPU time after which the kernel ends it. Never waits; False if nobody could be asked."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait for its death; False if it still lives."""
        ...

    def wait_birth(self, timeout_s: float) -> bool:
        """Wait until its pid is known, or it is that it will never be; False if nobody has told in time."""
        ...

    def wait_pid(self, timeout_s: float) -> int | None:
        """Its pid, once it is known; None if it never ran or nobody heard of it in time."""
        ...

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once it is dead and reaped, or now; it must neither raise nor block."""
        ...


def how_it_ended(status: int | None, last_words: str) -> str:
    """For people. `status`: as of `WorkerProcess.exit_status`."""
    if status is None:
        reason = "nobody saw how it ended"
    elif status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        reason = f"it was ended by {name}"
        if status == -signal.SIGKILL:
            reason += ", from outside or for lack of memory"
        if status == -SIGSYS:
            reason += " for a system call that its jail forbids"
    else:
        reason = EXIT_TEXTS.get(status, f"it exited with code {status}")
    return f"{reason} (it said: {last_words})" if last_words else reason
