"""A run seen from outside while it goes on: iterate over its events, cancel it, read its result.

Both classes start the run when they are made. Dropping one, or leaving its `with` block early, ends the run and closes
its sandbox; `cancel()` ends it in order, with a last `RunFinished`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

import anyio

from ..runtime.errors import ConfigError, RuntimeClosed
from ..runtime.loop_hook import LoopHook
from .events import Emit, Event, RunFinished
from .loop import Run
from .result import RunResult

if TYPE_CHECKING:
    from typing import Self

ABANDON_S: Final = 10.0
"""A dropped run closes its sandbox within the kill ladder's half a second; the rest is for a busy machine."""

MakeRun = Callable[[Emit | None], Run]
StartCall = Callable[[Callable[[], Awaitable[object]], Context], "Future[object]"]
"""Awaits a call on the loop of another thread, in a context; cancelling the future cancels it there."""


class RunInThread:
    """A run on a loop of another thread, for blocking callers."""

    def __init__(self, start: StartCall, make: MakeRun, emit: Emit | None = None) -> None:
        self.run = make(emit)
        self._start = start
        self._over: anyio.Event | None = None
        self.future = cast("Future[RunResult]", start(self._drive, copy_context()))

    async def _drive(self) -> RunResult:
        self._over = anyio.Event()
        try:
            return await self.run.drive()
        finally:
            self._over.set()

    def wait(self) -> RunResult:
        """The result. A KeyboardInterrupt while waiting abandons the run, closes its sandbox, then goes on."""
        try:
            return result_of(self.future)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """End the run if it still goes on, and wait until its sandbox is closed."""
        if self.future.cancel() or self.future.cancelled():
            with suppress(TimeoutError, RuntimeClosed, CancelledError):
                self._start(self._until_over, copy_context()).result(ABANDON_S)

    async def _until_over(self) -> None:
        """The loop takes calls in order: if the run has not begun by now, it never will."""
        if self._over is not None:
            await self._over.wait()


def wait_for(start: StartCall, call: Callable[[], Awaitable[None]]) -> None:
    """Await a call on the loop of another thread; blocks."""
    start(call, copy_context()).result()


def result_of(future: Future[RunResult]) -> RunResult:
    """Blocks; a KeyboardInterrupt comes out of here."""
    return future.result()


def _state(over: bool, result: RunResult | None) -> str:
    if result is not None:
        return f"ended: {result.stop_reason}"
    return "ended" if over else "running"


class EventStream:
    """Events of a run, for blocking code: `for event in agent.stream(task): ...`."""

    def __init__(self, start: StartCall, make: MakeRun) -> None:
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._running = RunInThread(start, make, self._queue.put)
        self._running.future.add_done_callback(_Ender(self._queue))
        self._ended = False
        self._result: RunResult | None = None

    @property
    def result(self) -> RunResult | None:
        """The result, once `RunFinished` was seen."""
        return self._result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_state(self._running.future.done(), self._result)}>"

    def cancel(self) -> None:
        """End the run in order, from any thread; its `RunFinished` still comes."""
        self._running.run.cancel()

    def close(self) -> None:
        """Drop the run. Idempotent; nothing happens after its end."""
        self._ended = True
        self._running.abandon()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event; waits for it.

        Raises:
            ClocheError: what ended the run, after its last event.
        """
        event = None if self._ended else self._queue.get()
        if event is None:
            if not self._ended:
                self._ended = True
                self._running.future.result()
            raise StopIteration
        if isinstance(event, RunFinished):
            self._result = event.result
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None:
            running.future.cancel()


class _Ender:
    """Puts the end mark. A class, not a closure over the stream: the future must not keep a dropped stream alive."""

    def __init__(self, queue: SimpleQueue[Event | None]) -> None:
        self._queue = queue

    def __call__(self, future: Future[RunResult]) -> None:
        self._queue.put(None)


class _Channel:
    """Events on their way to a task; any thread may put."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.wake = asyncio.Event()
        self._hook = LoopHook()

    def put(self, event: Event) -> None:
        self.events.append(event)
        self._hook.call(self.wake.set)

    def drop(self, task: asyncio.Task[RunResult]) -> None:
        """Cancel a task whose stream nobody holds any more. From a finalizer: any thread, loop maybe gone."""
        self._hook.call(task.cancel)


class AsyncEventStream:
    """Events of a run, for async code on asyncio: `async for event in agent.astream(task): ...`."""

    def __init__(self, make: MakeRun) -> None:
        """Starts the run as a task of the running loop.

        Raises:
            ConfigError: no asyncio loop runs here.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError("astream() needs a running asyncio loop; blocking code uses stream()") from None
        self._channel = _Channel()
        self._run = make(self._channel.put)
        self._task = asyncio.create_task(self._run.drive())
        self._task.add_done_callback(_Waker(self._channel))
        self._result: RunResult | None = None

    @property
    def result(self) -> RunResult | None:
        """The result, once `RunFinished` was seen."""
        return self._result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_state(self._task.done(), self._result)}>"

    def cancel(self) -> None:
        """End the run in order, from any thread; its `RunFinished` still comes."""
        self._run.cancel()

    async def aclose(self) -> None:
        """Drop the run and wait until its sandbox is closed. Idempotent; nothing happens after its end."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=ABANDON_S)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # seen, so that nobody warns

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; waits for it.

        Raises:
            ClocheError: what ended the run, after its last event.
        """
        channel = self._channel
        while not channel.events:
            if self._task.done():
                if self._task.cancelled():
                    raise StopAsyncIteration
                self._task.result()
                raise StopAsyncIteration
            await channel.wake.wait()
            channel.wake.clear()
        event = channel.events.popleft()
        if isinstance(event, RunFinished):
            self._result = event.result
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.done():
            self._channel.drop(task)


class _Waker:
    """Wakes the reader at the end of the task, without keeping the stream alive."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def __call__(self, task: asyncio.Task[RunResult]) -> None:
        self._channel.wake.set()
