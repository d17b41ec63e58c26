"""The threads that serve cells: reusable, with a stack that survives CPython's own recursion limit inside wasm.

The rule: no tool runs on its caller's thread, so that a caller can stop waiting while it still hangs. The hand-off is
one queue per thread, and two thread wake-ups: 0.1 ms of a warm cell, saved where a caller can serve until a tool comes
(execution.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from .errors import RuntimeClosed
from .threads import start_thread

STACK_BYTES = 80 * 1024 * 1024
"""Virtual, touched only as deep as guest and tools recurse: wasm frames of the guest live on this stack."""
IDLE_THREADS = 32
"""Threads kept waiting for work; more than these end when their work is done."""

Job = Callable[[], None]


class ServerThreads:
    """A pool of daemon threads that grows with the cells in flight. Safe to use from any thread."""

    def __init__(self, name: str = "cloche-server", idle_threads: int = IDLE_THREADS) -> None:
        self._name = name
        self._idle_threads = idle_threads
        self._gate = threading.Lock()
        self._idle: list[SimpleQueue[Job | None]] = []
        self._closed = False
        self._made = 0

    @property
    def idle(self) -> int:
        """Threads that wait for work."""
        return len(self._idle)

    def submit(self, job: Job) -> None:
        """Run `job` on a thread of its own, now; nothing queues behind another job. It must not raise.

        Raises:
            RuntimeClosed: the pool was closed.
            PoolExhausted: the system gives no more threads.
        """
        with self._gate:
            if self._closed:
                raise RuntimeClosed("the runtime was closed")
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = self._new_thread()
        inbox.put(job)

    def close(self) -> None:
        """End the idle threads now and each busy one after its job. Waits for none of them. Idempotent."""
        with self._gate:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _new_thread(self) -> SimpleQueue[Job | None]:
        inbox: SimpleQueue[Job | None] = SimpleQueue()
        with self._gate:
            self._made += 1
            name = f"{self._name}-{self._made}"
        start_thread(name, self._serve, inbox, stack_bytes=STACK_BYTES)
        return inbox

    def _serve(self, inbox: SimpleQueue[Job | None]) -> None:
        while (job := inbox.get()) is not None:
            job()
            del job  # a job holds its cell; an idle thread must not keep it alive
            if not self._offer(inbox):
                return

    def _offer(self, inbox: SimpleQueue[Job | None]) -> bool:
        with self._gate:
            if self._closed or len(self._idle) >= self._idle_threads:
                return False
            self._idle.append(inbox)
            return True
