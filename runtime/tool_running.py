"""Where a tool runs: on the serving thread, a tool thread, or an event loop; and who waits for it there.

The rule: a plain blocking tool runs right on the serving thread, because thread wake-ups are what makes a call slow.
Everything else runs beside it, so that the deadline and the abort are heard.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from . import lazy
from .limits import Limits
from .tool_flight import OpenCall, OpenCalls
from .tool_outcome import Refused
from .tool_pipeline import Attempt, Effect, Pause, Steps, Wait, drive_async
from .tool_signature import Arguments
from .tools import Tool

if TYPE_CHECKING:
    import inspect
    from concurrent import futures
else:
    inspect = lazy.module("inspect")
    futures = lazy.module("concurrent.futures")

_AT_HAND = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict, set))
"""Results that nobody awaits, told without asking an abstract class."""


class AsyncRunner(Protocol):
    """Runs async tools on the event loop of the face: the caller's, or the portal's."""

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> futures.Future[object]:
        """Await `call()` on the loop, in `context`. Cancelling the future cancels it there; that must not block."""
        ...


class ToolThreads(Protocol):
    """A bounded pool for blocking tools that are not waited for at once, such as a ThreadPoolExecutor."""

    def submit(self, call: Callable[[], object], /) -> futures.Future[object]: ...


class CallRunner:
    """Runs the calls of one cell. The serving thread uses it."""

    def __init__(
        self,
        flight: OpenCalls,
        limits: Limits,
        context: contextvars.Context,
        runner: AsyncRunner,
        threads: Callable[[], ToolThreads],
    ) -> None:
        self._flight = flight
        self._limits = limits
        self._context = context.copy()  # a context object cannot be entered twice at once
        self._runner = runner
        self._threads = threads

    # --- blocking calls -----------------------------------------------------------------------------------------------

    def run(self, call_id: int, tool: Tool, arguments: Arguments) -> object:
        """Call the tool once and wait. A plain blocking tool runs right here, on the serving thread.

        Raises:
            Whatever the tool raises; Refused where the cell was stopped, also while its arguments were validated.
        """
        self._check_alive(None)
        if tool.is_async or tool.timeout_s is not None:
            return self._flight.result_of(self.launch(call_id, tool, arguments, 0))
        args, kwargs = arguments
        started = time.monotonic()
        try:
            result = self._context.run(tool.function, *args, **kwargs)
        finally:
            self._flight.seconds += time.monotonic() - started
        if type(result) in _AT_HAND or not inspect.isawaitable(result):
            return result
        return self._flight.result_of(self._follow(call_id, tool, 0, self._await(result)))

    def drive(self, call_id: int, tool: Tool, steps: Steps) -> object:
        """Take the steps of a guarded call on the serving thread; its result.

        Raises:
            Whatever the steps raise; Refused when the cell is stopped while a hook is awaited.
        """

        def do(effect: Effect) -> object:
            if isinstance(effect, Attempt):
                return self.run(call_id, tool, effect.arguments)
            if isinstance(effect, Wait):
                return self._flight.result_of(self._hook_call(call_id, tool, self._await(effect.awaitable)))
            return self._flight.result_of(self._hook_call(call_id, tool, _timer(effect.seconds)))

        return _drive(lambda action: self._context.run(action), steps, do)

    # --- calls beside the serving thread ------------------------------------------------------------------------------

    def launch(self, call_id: int, tool: Tool, arguments: Arguments, cost: int) -> OpenCall:
        """Start the tool beside the serving thread."""
        args, kwargs = arguments
        bound = partial(tool.function, *args, **kwargs)
        context = self._context.copy()
        if tool.is_async:
            return self._follow(call_id, tool, cost, self._runner.start(lambda: self._begun(bound), context))
        now, allowed_s = time.monotonic(), self._allowed_s(tool)
        call = OpenCall(tool, cost, now, now + allowed_s, allowed_s, futures.Future())
        call.future = self._threads().submit(lambda: context.run(self._run_on_thread, call, bound))
        self._flight.watch(call_id, call.future)
        return call

    def launch_steps(self, call_id: int, tool: Tool, steps: Steps, cost: int) -> OpenCall:
        """Take the steps of a guarded call on the event loop, or on a tool thread for a blocking tool."""
        context = self._context.copy()
        now = time.monotonic()
        call = OpenCall(tool, cost, now, math.inf, self._allowed_s(tool), futures.Future(), checked=True)
        if tool.is_async:
            check = partial(self._check_alive, call)
            call.future = self._runner.start(lambda: drive_async(steps, tool, self._allowed_s(tool), check), context)
        else:
            call.future = self._threads().submit(lambda: context.run(self._drive_on_thread, call, steps))
        self._flight.watch(call_id, call.future)
        return call

    def _drive_on_thread(self, call: OpenCall, steps: Steps) -> object:
        def do(effect: Effect) -> object:
            if isinstance(effect, Pause):
                return self._wait_inside(call, _timer(effect.seconds))
            if isinstance(effect, Wait):
                return self._wait_inside(call, self._await(effect.awaitable))
            self._check_alive(call)
            args, kwargs = effect.arguments
            call.started = time.monotonic()
            call.ends = call.started + call.allowed_s
            self._flight.poke()
            try:
                result = call.tool.function(*args, **kwargs)
                return self._wait_inside(call, self._await(result)) if inspect.isawaitable(result) else result
            finally:
                call.ends = math.inf

        return _drive(_just_do, steps, do)

    def _check_alive(self, call: OpenCall | None) -> None:
        """No tool begins after the abort or the end of the cell, however long it stood in line or a hook has taken."""
        if not self._flight.may_begin or (call is not None and call.given_up):
            raise Refused("Interrupted", "the cell was stopped", "cancelled")

    def _begun(self, bound: Callable[[], object]) -> Awaitable[object]:
        """The awaitable of an async tool, called on the loop."""
        self._check_alive(None)
        return bound()  # type: ignore[return-value]  # `is_async` says so

    def _wait_inside(self, call: OpenCall, future: futures.Future[object]) -> object:
        """Wait on a tool thread; the abort and `give_up` cancel it."""
        call.inner = future
        if self._flight.aborted or call.given_up:
            future.cancel()
        try:
            return future.result()
        finally:
            call.inner = None

    def _run_on_thread(self, call: OpenCall, bound: Callable[[], object]) -> object:
        self._check_alive(None)
        result = bound()
        return self._wait_inside(call, self._await(result)) if inspect.isawaitable(result) else result

    # --- parts --------------------------------------------------------------------------------------------------------

    def _allowed_s(self, tool: Tool) -> float:
        return self._limits.tool_s if tool.timeout_s is None else min(tool.timeout_s, self._limits.tool_s)

    def _follow(self, call_id: int, tool: Tool, cost: int, future: futures.Future[object]) -> OpenCall:
        started, allowed_s = time.monotonic(), self._allowed_s(tool)
        self._flight.watch(call_id, future)
        return OpenCall(tool, cost, started, started + allowed_s, allowed_s, future)

    def _hook_call(self, call_id: int, tool: Tool, future: futures.Future[object]) -> OpenCall:
        """A wait that only the cell's deadline bounds."""
        self._flight.watch(call_id, future)
        return OpenCall(tool, 0, time.monotonic(), math.inf, math.inf, future)

    def _await(self, awaitable: Awaitable[object]) -> futures.Future[object]:
        return self._runner.start(lambda: awaitable, self._context.copy())


def _timer(seconds: float) -> futures.Future[object]:
    """A future that is done after `seconds`, unless it is cancelled."""
    future: futures.Future[object] = futures.Future()

    def ring() -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(None)

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    future.add_done_callback(lambda _: timer.cancel())
    timer.start()
    return future


def _just_do(action: Callable[[], Effect]) -> Effect:
    return action()


def _drive(within: Callable[[Callable[[], Effect]], Effect], steps: Steps, do: Callable[[Effect], object]) -> object:
    """Take the steps, each of them `within` the caller's context; what they return."""
    try:
        effect = within(partial(next, steps))
        while True:
            try:
                sent = do(effect)
            except BaseException as exc:  # noqa: BLE001  # the steps know what it means
                effect = within(partial(steps.throw, exc))
            else:
                effect = within(partial(steps.send, sent))
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
