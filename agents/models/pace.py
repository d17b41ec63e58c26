"""`Pace`: at most so many requests a minute, spread evenly, over all tasks, threads and loops that share it."""

from __future__ import annotations

import threading
import time

import anyio

from ...runtime.errors import ConfigError


class Pace:
    """Await `wait()` before each request."""

    def __init__(self, per_minute: float | None) -> None:
        """None: no limit.

        Raises:
            ConfigError: the number cannot be.
        """
        if per_minute is not None and not per_minute > 0:
            raise ConfigError(f"requests_per_minute is above 0, not {per_minute!r}")
        self._gap_s = 60.0 / per_minute if per_minute is not None else 0.0
        self._next = 0.0
        self._gate = threading.Lock()

    async def wait(self) -> None:
        """Return when the next request may go. Whoever came first goes first; a cancelled wait uses up its turn."""
        if not self._gap_s:
            return
        delay_s = self.take(time.monotonic())
        if delay_s > 0:
            await anyio.sleep(delay_s)

    def take(self, now: float) -> float:
        """Take the next turn; seconds until then."""
        with self._gate:
            turn = max(now, self._next)
            self._next = turn + self._gap_s
        return turn - now
