"""The event loop of the guest: timers, ready callbacks, and the host for everything else.

Rule: it never blocks while `stepping`. The runner steps it for a cell with `await` at its top: when nothing is ready
the loop stops, the guest returns to the host, and no stack is left inside while tools run. When user code runs a loop
itself (`asyncio.run`, `run_until_complete`), its stack is there anyway and the loop waits inside the host call.

The interrupt is armed around each callback and nowhere else: it may not tear the loop's own state apart.

There are no threads and no sockets. Functions given to an executor run at once, where they are.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from .calls import Calls
from .interrupts import Interrupts

NEVER = "nothing can wake this: no tool call and no timer is pending"
_FEW = 100
_heappop = heapq.heappop


class CellLoop(asyncio.BaseEventLoop):
    """An asyncio loop over `_host.call`."""

    _ready: Any
    _scheduled: Any
    _stopping: bool
    _clock_resolution: float

    def __init__(self, calls: Calls, interrupts: Interrupts, max_tasks: int) -> None:
        super().__init__()
        self._calls = calls
        self._interrupts = interrupts
        self._max_tasks = max_tasks
        self._tasks_since_census = 0
        self._cancelled_timers = 0
        self.stepping = False
        self.is_idle = False
        """It stopped because nothing was ready."""

    @classmethod
    def uninterrupted(cls) -> tuple[Callable[..., Any], ...]:
        """Methods to `protect`: they hold callbacks and a state that must not get lost."""
        return cls.run_forever, cls._run_once, cls._run_handle

    @property
    def is_used(self) -> bool:
        """Whether it ever had a task."""
        return self._tasks_since_census > 0

    def next_timeout(self) -> float | None:
        """Seconds to the next timer; None without one."""
        while self._scheduled and self._scheduled[0]._cancelled:
            handle = _heappop(self._scheduled)
            handle._scheduled = False
        if not self._scheduled:
            return None
        when: float = self._scheduled[0]._when
        return max(0.0, when - self.time())

    def step(self) -> None:
        """Run what is ready, until `stop()` or until nothing is."""
        self.stepping, self.is_idle = True, False
        try:
            self.run_forever()
        finally:
            self.stepping = False

    def run_forever(self) -> None:
        interrupts = self._interrupts
        before, interrupts.armed = interrupts.armed, False
        try:
            super().run_forever()
        finally:
            interrupts.armed = before

    def call_at(  # type: ignore[override]  # typeshed ties `args` to the callback
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """No timer at NaN, which is never due: it would come up first for ever, and no other one after it."""
        if when != when:
            raise ValueError("the time of a timer is NaN (not a number)")
        return super().call_at(when, callback, *args, context=context)

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        if self._tasks_since_census >= self._max_tasks:
            self._tasks_since_census = len(asyncio.all_tasks(self))
            if self._tasks_since_census >= self._max_tasks:
                coro.close()
                self._calls.note_limit("tasks", self._max_tasks + 1)
                raise RuntimeError(f"{self._max_tasks} asyncio tasks are alive, no more are allowed in this sandbox")
        self._tasks_since_census += 1
        return super().create_task(coro, **kwargs)

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Calls the function here and now: there is no other thread."""
        future = self.create_future()
        try:
            result = func(*args)
        except StopIteration:
            future.set_exception(RuntimeError("the function raised StopIteration"))  # no future takes that
        except Exception as exc:  # it belongs to whoever awaits the future
            future.set_exception(exc)
        else:
            future.set_result(result)
        return future

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log, as asyncio does, but not what the loop has raised already."""
        if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
            super().default_exception_handler(context)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncio's
        """There is none."""

    def _run_once(self) -> None:
        """One turn. An interrupt that was noted is raised here, where it does no harm."""
        self._interrupts.raise_pending()
        if not self._ready and not self._stopping and not self._wait_or_stop():
            return
        end = self.time() + self._clock_resolution if self._scheduled else 0.0
        while self._scheduled and self._scheduled[0]._when < end:
            handle = _heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle._cancelled:
                self._run_handle(handle)
        handle = (
            None  # as in asyncio: an exception's traceback holds this frame, and a handle may lead to the exception
        )

    def _run_handle(self, handle: Any) -> None:
        """What `Handle._run` does. An interrupt that comes before the callback leaves it for later."""
        interrupts = self._interrupts
        try:
            interrupts.armed = True
            if interrupts.pending:
                self._ready.appendleft(handle)
                interrupts.raise_pending()
            # As in `Interrupts.call`: between the check above and the call nothing looks for signals.
            handle._context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            message = f"Exception in callback {handle._callback!r}"
            self.call_exception_handler({"message": message, "exception": exc, "handle": handle})
        finally:
            interrupts.armed = False
            handle = None  # see above

    def _wait_or_stop(self) -> bool:
        """Nothing is ready: wait in the host, or leave the loop when it is stepped. False: the loop is stopping."""
        timeout_s = self.next_timeout()
        if timeout_s == 0.0:
            return True
        if self.stepping:
            self.is_idle = self._stopping = True
            return False
        if timeout_s is None and not self._calls.any_open:
            raise RuntimeError(NEVER)
        self._calls.wait(timeout_s, any_result=True)
        return True

    def _process_events(self, event_list: object) -> None:
        """Nothing comes from a selector."""

    def _write_to_self(self) -> None:
        """Nobody else can be waiting."""

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled timers leave the heap when they come up, or together once they are the most of it."""
        self._cancelled_timers += 1
        if self._cancelled_timers < _FEW or 2 * self._cancelled_timers < len(self._scheduled):
            return
        self._cancelled_timers = 0
        for timer in self._scheduled:
            timer._scheduled = not timer._cancelled
        self._scheduled = [timer for timer in self._scheduled if timer._scheduled]
        heapq.heapify(self._scheduled)
