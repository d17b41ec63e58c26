"""Where async tools run: on the caller's loop in the async face, on a loop of the runtime's own in the blocking one.

The rule: a group owns every tool's task, a serving thread never waits for the loop, and a cancelled future cancels the
task. Each tool sees the context variables of whoever called `run`. What one call raises does not end those beside it,
and whoever waits for a call hears of its end, also where a tool has ended the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import anyio

from . import lazy
from .errors import RuntimeClosed
from .loop_hook import LoopHook
from .safe_logs import logged
from .threads import start_thread

START_BOUND_S = 10.0
Call = Callable[[], Awaitable[object]]
Run = Callable[[Future[object], Call], Coroutine[object, object, None]]
StartTask = Callable[[Run, Future[object], Call], object]
"""Starts a task with a copy of the context variables of here."""
_log = lazy.logger("cloche.tools")


class LoopRunner:
    """Wakes one task of a loop from other threads, and starts async tools beside it while it serves."""

    def __init__(self, hook: LoopHook, *, carries_all: bool = False) -> None:
        """
        Args:
            hook: the loop.
            carries_all: it is no loop of the caller's, so not even a KeyboardInterrupt is for whoever runs it: all that
                a call raises goes to the thread that waits for it.
        """
        self._hook = hook
        self._carries_all = carries_all
        self._event = anyio.Event()
        self._start_task: StartTask | None = None
        self._asked: deque[tuple[Future[object], Call, contextvars.Context]] = deque()
        self._shut = False

    @property
    def is_shut(self) -> bool:
        """It starts nothing any more."""
        return self._shut

    def start(self, call: Call, context: contextvars.Context, /) -> Future[object]:
        """Await `call()` on the loop, in `context`. Any thread; never blocks.

        Raises:
            RuntimeClosed: the loop is gone, or serves no more.
        """
        future: Future[object] = Future()
        self._asked.append((future, call, context))
        if self._shut:  # read after the append, and set before the last look at what was asked: nothing is overlooked
            self._drop_asked()
            raise RuntimeClosed("the event loop for async tools takes no more calls")
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
        async with anyio.create_task_group() as group:
            try:
                with self.starting(lambda run, future, call: group.start_soon(run, future, call)):
                    await body()
            finally:
                group.cancel_scope.cancel()

    @contextmanager
    def starting(self, start_task: StartTask) -> Generator[None]:
        """Start tools this way until the block is left. What has not begun by then is cancelled, and what is asked for
        later is refused at once: whoever waits for it must not depend on a loop that may never look again."""
        self._start_task = start_task
        try:
            yield
        finally:
            self._start_task = None
            self.shut()

    def shut(self) -> None:
        """Start nothing more. Any thread."""
        self._shut = True
        self._drop_asked()

    def _drop_asked(self) -> None:
        with suppress(IndexError):  # empty; other threads take from it too
            while True:
                self._asked.popleft()[0].cancel()

    def _set_event(self) -> None:
        self._event.set()

    def _start_asked(self) -> None:
        while self._asked:
            future, call, context = self._asked.popleft()
            if self._start_task is None:
                future.cancel()
            elif not future.cancelled():
                try:
                    context.run(self._start_task, self._run, future, call)
                except BaseException:  # such as of a task factory that a tool has set
                    future.cancel()
                    raise

    async def _run(self, future: Future[object], call: Call) -> None:
        """Await the call into its future.

        What it raises stays here: let out, it would end the group and every call in it. That holds for a cancellation
        too. One that comes from outside reaches the task that holds the group by itself, and nothing follows here that
        it could still stop; any other is the call's own doing, such as awaiting a task that something has cancelled.
        """
        if future.cancelled():
            return
        cancelled = anyio.get_cancelled_exc_class()  # now: later there may be no loop to ask
        try:
            with anyio.CancelScope() as scope:
                future.add_done_callback(partial(self._stop_if_cancelled, scope))
                result = await call()
                with suppress(InvalidStateError):  # cancelled meanwhile
                    future.set_result(result)
        except BaseException as exc:
            failure = _without(exc, cancelled)
            if failure is None:
                future.cancel()
            elif self._carries_all or isinstance(failure, Exception | SystemExit):
                with suppress(InvalidStateError):
                    future.set_exception(failure)  # carried to the serving thread
            else:
                future.cancel()
                raise  # a KeyboardInterrupt on the caller's loop is the caller's

    def _stop_if_cancelled(self, scope: anyio.CancelScope, future: Future[object]) -> None:
        if future.cancelled():
            self._hook.call(scope.cancel)


def _without(exc: BaseException, cancelled: type[BaseException]) -> BaseException | None:
    """What a call has raised besides its cancellation, or its being closed with the loop that it ran on."""
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).split((cancelled, GeneratorExit))[1]
    return None if isinstance(exc, (cancelled, GeneratorExit)) else exc


class TasksApart:
    """Tasks of one asyncio loop that share nothing but the loop.

    Runs and tools of strangers live here side by side. In a task group each of them could end all: with a cancellation
    that comes in its last step, or with a cancel scope that it has left open, as one does that enters an asynchronous
    context by hand.
    """

    def __init__(self) -> None:
        self._futures: dict[asyncio.Task[None], Future[object]] = {}

    def start(self, run: Run, future: Future[object], call: Call) -> None:
        """As `StartTask`."""
        task = asyncio.get_running_loop().create_task(run(future, call))
        self._futures[task] = future
        task.add_done_callback(self._note_end)

    async def stop(self) -> None:
        """Cancel them all and wait for their ends."""
        self.abandon()
        while self._futures:
            await asyncio.wait(self._futures)

    def abandon(self) -> None:
        """Cancel all futures: all that can be done after the end of the loop. Its own thread."""
        for future in tuple(self._futures.values()):
            future.cancel()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._futures.pop(task).cancel()  # in vain, unless the task was cancelled before its first step
        if not task.cancelled():
            task.exception()  # seen, so that nobody warns


class OwnLoop:
    """A loop on a daemon thread, with a runner for it."""

    def __init__(self) -> None:
        """Start the thread and wait until the loop runs.

        Raises:
            RuntimeClosed: it did not start.
            PoolExhausted: the system gives no more threads.
        """
        self._runner: LoopRunner | None = None
        self._tasks = TasksApart()
        self._stopped = False
        ready = threading.Event()
        start_thread("cloche-tool-loop", self._live, ready)
        ready.wait(START_BOUND_S)
        if self._runner is None:
            self._stopped = True  # it may still come, and nobody would end it
            raise RuntimeClosed("the event loop for async tools did not start")
        self.runner: LoopRunner = self._runner

    @property
    def is_over(self) -> bool:
        """It takes no more calls: it was stopped, or a tool has ended it."""
        return self.runner.is_shut

    def stop(self) -> None:
        """Cancel what runs and end the loop. Any thread; does not wait."""
        self._stopped = True
        self.runner.wake()

    def _live(self, ready: threading.Event) -> None:
        try:
            anyio.run(self._main, ready)
        except BaseException as exc:  # noqa: BLE001  # a tool can stop its loop, or cancel all of its tasks
            _log.warning("the event loop for async tools was broken off", exc_info=logged(exc))
        finally:
            if self._runner is not None:
                self._runner.shut()  # the loop may have been closed before it could do that itself
            self._tasks.abandon()
            ready.set()  # where it did not even start, nobody needs to wait

    async def _main(self, ready: threading.Event) -> None:
        self._runner = runner = LoopRunner(LoopHook(), carries_all=True)
        ready.set()
        try:
            with runner.starting(self._tasks.start):
                await runner.wait_until(lambda: self._stopped)
        finally:
            await self._tasks.stop()
