"""Instances of thread isolation that wait for their sandbox, rehearsed: what a fresh one touches is in place already.

The rule: a spare is nobody's until it is taken, is taken once and never comes back. It is made a moment after a sandbox
was opened, on a thread of its own, so that it does not compete with that sandbox's first cell. Without a spare the
taker makes its own instance; nobody ever waits for one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from ..wasm_sandbox.instance import Trapped
from .errors import PoolExhausted
from .servers import STACK_BYTES
from .threads import start_thread

FILL_FROM_TAKE = 2
"""As in the pool of workers: a script with one sandbox pays for one, unless the number was set by hand."""
REFILL_AFTER_S = 0.02
"""Takes in between do not move this."""
CLOSE_DEADLINE_S = 5.0


class Instance(Protocol):
    """What a spare is: a `relay.GuestHost`, or a stand-in of tests."""

    def rehearse(self) -> None:
        """Touch what a first request needs. Raises Trapped when it is lost."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


InstanceT = TypeVar("InstanceT", bound=Instance)


class ThreadSpares(Generic[InstanceT]):
    """Keeps some instances ready. Safe to use from any thread; starts its own at the first need."""

    def __init__(self, make: Callable[[], InstanceT], count: int | None) -> None:
        """
        Args:
            make: a fresh instance; called on the thread that takes it, or on the one that keeps the spares.
            count: spares kept from the first take on. None: one, from the second take on.
        """
        self._make = make
        self._count = 1 if count is None else count
        self._fill_from = FILL_FROM_TAKE if count is None else 1
        self._changed = threading.Condition()
        """Guards all below. Notified at each take and at the close."""
        self._ready: deque[InstanceT] = deque()
        self._taken = 0
        self._paused = False
        """The last one could not be made; the next take tries again, and tells its taker why if it fails too."""
        self._refill_at = 0.0
        self._refiller: threading.Thread | None = None
        self._closed = False

    @property
    def ready(self) -> int:
        """Spares that could be taken now."""
        return len(self._ready)

    @property
    def closed(self) -> bool:
        return self._closed

    def take(self) -> InstanceT:
        """A spare, or a fresh instance where none is ready. The caller closes it."""
        with self._changed:
            host = self._ready.popleft() if self._ready else None
            self._after_take()
        return self._make() if host is None else host

    def close(self) -> None:
        """Free the spares. Idempotent."""
        with self._changed:
            self._closed = True
            ready, refiller = list(self._ready), self._refiller
            self._ready.clear()
            self._changed.notify()
        for host in ready:
            host.close()
        if refiller is not None:
            refiller.join(CLOSE_DEADLINE_S)

    def _after_take(self) -> None:
        self._taken += 1
        self._paused = False
        if self._closed or self._count == 0 or self._taken < self._fill_from:
            return
        now = time.monotonic()
        if now >= self._refill_at:
            self._refill_at = now + REFILL_AFTER_S
        if self._refiller is None:
            with suppress(PoolExhausted):  # the next one that is taken tries again
                # A rehearsal runs Python in wasm, so it needs the stack for that.
                self._refiller = start_thread("cloche-spares", self._refill, stack_bytes=STACK_BYTES)
        else:
            self._changed.notify()

    def _refill(self) -> None:
        while self._wait_until_wanted():
            host = self._rehearsed()
            with self._changed:
                self._paused = host is None
                if host is not None and not self._closed:
                    self._ready.append(host)
                    host = None
            if host is not None:
                host.close()

    def _wait_until_wanted(self) -> bool:
        """False at the close."""
        with self._changed:
            while not self._closed:
                wanted = len(self._ready) < self._count and not self._paused
                pause_s = self._refill_at - time.monotonic()
                if wanted and pause_s <= 0:
                    return True
                self._changed.wait(pause_s if wanted else None)
            return False

    def _rehearsed(self) -> InstanceT | None:
        """A spare, or None if there is no room for one now."""
        try:
            host = self._make()
        except Exception:  # noqa: BLE001  # whatever it was: the next taker makes its own, and gets the reason
            return None
        try:
            host.rehearse()
        except Trapped:
            host.close()
            return None
        return host
