"""Where async tools run: on the caller's loop in the async face, on a loop of the runtime's own in the blocking one.

The rule: a task group owns every tool's task, a serving thread never waits for the loop, and a cancelled future cancels
the task. Each tool sees the context variables of whoever called `run`.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup

from .errors import RuntimeClosed
from .loop_hook import LoopHook

START_BOUND_S = 10.0
Call = Callable[[], Awaitable[object]]


class LoopRunner:
    """Wakes one task of a loop from other threads, and starts async tools beside it while its task group is open."""

    def __init__(self, hook: LoopHook) -> None:
        self._hook = hook
        self._event = anyio.Event()
        self._group: TaskGroup | None = None
        self._asked: deque[tuple[Future[object], Call, contextvars.Context]] = deque()

    def start(self, call: Call, context: contextvars.Context, /) -> Future[object]:
        """Await `call()` on the loop, in `context`. Any thread; never blocks.

        Raises:
            RuntimeClosed: the loop is gone.
        """
        future: Future[object] = Future()
        self._asked.append((future, call, context))
        if not self.wake():
            raise RuntimeClosed("the event loop for async tools is gone")
        return future

    def wake(self) -> bool:
        """Let `wait_until` look again. False when the loop is gone. Any thread; never blocks."""
        return self._hook.call(self._set_event)

    async def wait_until(self, over: Callable[[], bool]) -> None:
        """Return once `over()` is true, which is asked after each `wake`; start what tools are asked for meanwhile."""
        while not over():
            await self._event.wait()
            self._event = anyio.Event()
            self._start_asked()

    async def serve(self, body: Callable[[], Awaitable[None]]) -> None:
        """Hold the task group open around `body()`, then cancel what still runs in it and wait for that.

        A tool that refuses to be cancelled keeps its caller here: it is the caller's own code, on the caller's loop.
        """
        async with anyio.create_task_group() as self._group:
            try:
                await body()
            finally:
                group, self._group = self._group, None
                group.cancel_scope.cancel()
                self._start_asked()

    def _set_event(self) -> None:
        self._event.set()

    def _start_asked(self) -> None:
        while self._asked:
            future, call, context = self._asked.popleft()
            if self._group is None:
                future.cancel()
            elif not future.cancelled():
                context.run(self._group.start_soon, self._run, future, call)

    async def _run(self, future: Future[object], call: Call) -> None:
        with anyio.CancelScope() as scope:
            future.add_done_callback(partial(self._stop_if_cancelled, scope))
            try:
                result = await call()
            except (Exception, SystemExit) as exc:  # noqa: BLE001  # carried to the serving thread
                with suppress(InvalidStateError):
                    future.set_exception(exc)
                return
            except BaseException:
                future.cancel()
                raise
            with suppress(InvalidStateError):  # cancelled meanwhile
                future.set_result(result)

    def _stop_if_cancelled(self, scope: anyio.CancelScope, future: Future[object]) -> None:
        if future.cancelled():
            self._hook.call(scope.cancel)


class OwnLoop:
    """A loop on a daemon thread, with a runner for it."""

    def __init__(self) -> None:
        """Start the thread and wait until the loop runs.

        Raises:
            RuntimeClosed: it did not start.
        """
        self._runner: LoopRunner | None = None
        self._stopped = False
        ready = threading.Event()
        threading.Thread(target=anyio.run, args=(self._main, ready), name="cloche-tool-loop", daemon=True).start()
        ready.wait(START_BOUND_S)
        if self._runner is None:
            raise RuntimeClosed("the event loop for async tools did not start")
        self.runner: LoopRunner = self._runner

    def stop(self) -> None:
        """Cancel what runs and end the loop. Any thread; does not wait."""
        self._stopped = True
        self.runner.wake()

    async def _main(self, ready: threading.Event) -> None:
        self._runner = runner = LoopRunner(LoopHook())
        ready.set()
        await runner.serve(partial(runner.wait_until, lambda: self._stopped))
