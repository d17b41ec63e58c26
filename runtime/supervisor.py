"""One thread per runtime that keeps the deadlines of everything in flight.

The rule: a due item is asked for its next step until it says that none is left, and no step may block. The thread
sleeps until the earliest deadline that it knows; a later one never wakes it, so a stream of short cells costs nothing.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from .errors import RuntimeClosed
from .threads import start_thread


class Watched(Protocol):
    """Something with a deadline. Hashable by identity."""

    def on_due(self) -> float | None:
        """Take the next step, without blocking or raising; when (monotonic seconds) to come again, None if never."""
        ...


class Supervisor:
    """Calls `on_due` of each watched item at its time, from its own thread. Safe to use from any thread."""

    def __init__(self, name: str = "cloche-supervisor") -> None:
        self._name = name
        self._gate = threading.Lock()
        """Guards all below. Taken by itself: a KeyboardInterrupt inside `Condition.__exit__` would leave it shut."""
        self._changed = threading.Condition(self._gate)
        self._watched: dict[Watched, float] = {}
        self._wake_at = math.inf
        self._thread: threading.Thread | None = None
        self._closed = False
        self.wake_ups = 0
        """How often its thread was woken, for whoever looks where time goes."""

    def watch(self, item: Watched, due_at: float) -> None:
        """Call `item.on_due()` at `due_at` (monotonic seconds); replaces what was planned for this item.

        Raises:
            RuntimeClosed: the supervisor was closed.
            PoolExhausted: the system gives no thread for it. Nothing is planned.
        """
        with self._gate:
            if self._closed:
                raise RuntimeClosed("the runtime was closed")
            if self._thread is None:
                self._thread = start_thread(self._name, self._run)
            self._watched[item] = due_at
            if due_at < self._wake_at:
                self._wake_at = due_at
                self._changed.notify()

    def forget(self, item: Watched) -> None:
        """Drop the item. A step that runs at this moment is not waited for."""
        with self._gate:
            self._watched.pop(item, None)

    def close(self) -> None:
        """Stop; nothing is due any more. Does not wait for the thread. Idempotent."""
        with self._gate:
            self._closed = True
            self._watched.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (due := self._next_due()) is not None:
            for item in due:
                again_at = item.on_due()
                if again_at is not None:
                    self._watch_again(item, again_at)

    def _next_due(self) -> list[Watched] | None:
        """Waits for items to be due and takes them out; None once closed."""
        with self._gate:
            while not self._closed:
                now = time.monotonic()
                due = [item for item, at in self._watched.items() if at <= now]
                for item in due:
                    del self._watched[item]
                if due:
                    return due
                self._wake_at = min(self._watched.values(), default=math.inf)
                # A lock waits 292 years at most; a day is as good as for ever here.
                self._changed.wait(min(self._wake_at - now, 86_400.0))
                self.wake_ups += 1
            return None

    def _watch_again(self, item: Watched, due_at: float) -> None:
        with self._gate:
            if not self._closed:
                # An item that was cancelled meanwhile has planned an earlier time itself.
                self._watched[item] = min(due_at, self._watched.get(item, math.inf))
