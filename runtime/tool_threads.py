"""Threads for blocking tools that nobody waits for at once: `.aio` calls, and tools with a time of their own.

The rule: bounded, and never waited for. A tool that hangs keeps its place until it returns, but neither a deadline nor
the end of the process waits for it (`ThreadPoolExecutor` joins its threads at exit).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from . import lazy
from .servers import ServerThreads

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = lazy.module("concurrent.futures")

Call = Callable[[], object]


class BoundedThreads:
    """Runs calls on server threads, `max_running` at once; the others queue. Safe to use from any thread."""

    def __init__(self, servers: ServerThreads, max_running: int) -> None:
        self._servers = servers
        self._max_running = max_running
        self._gate = threading.Lock()
        self._waiting: deque[tuple[futures.Future[object], Call]] = deque()
        self._running = 0

    @property
    def running(self) -> int:
        """Calls that hold a place now."""
        return self._running

    def submit(self, call: Call, /) -> futures.Future[object]:
        """Run the call as soon as a place is free. The future can be cancelled until then.

        Raises:
            RuntimeClosed: the runtime was closed.
            PoolExhausted: the system gives no more threads.
        """
        future: futures.Future[object] = futures.Future()
        with self._gate:
            if self._running >= self._max_running:
                self._waiting.append((future, call))
                return future
            self._running += 1
        try:
            self._servers.submit(partial(self._work, future, call))
        except BaseException as exc:
            self._give_back(exc)
            raise
        return future

    def _give_back(self, exc: BaseException) -> None:
        """A place that got no thread: whoever was queued behind it would wait for nobody."""
        with self._gate:
            self._running -= 1
            waiting = tuple(self._waiting) if not self._running else ()
            if waiting:
                self._waiting.clear()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)

    def _work(self, future: futures.Future[object], call: Call) -> None:
        while True:
            run_into(future, call)
            with self._gate:
                if not self._waiting:
                    self._running -= 1
                    return
                future, call = self._waiting.popleft()


def run_into(future: futures.Future[object], call: Call) -> None:
    """Run the call and put what it gives, or raises, into the future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as exc:  # noqa: BLE001  # carried to whoever reads the future
        future.set_exception(exc)
    else:
        future.set_result(result)
