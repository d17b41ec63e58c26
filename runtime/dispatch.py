"""Runs the tools that one cell calls: admits each call, waits for it, and turns whatever happens into data.

The rule: nothing a tool raises or returns ends the thread that serves the sandbox, and nothing the guest asks for gets
past the grant, the schema and the caps. A call that is refused or fails is a `ToolError` in the guest; a limit is also
recorded for `Cell.limits`.

One thread serves (`call`, `start`, `cancel`, `wait`, `close`); `abort` may come from any.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from .cell import LimitHit
from .errors import ProtocolError
from .limits import Limits
from .output import escape_controls
from .protocol import ToolOutcome, Wait, Wake, render, render_tool_result
from .tool_outcome import SHOWN, Outcome, Refused, failure, message_of, tidy
from .tool_signature import Arguments, BadArguments
from .tools import Tool, ToolTable
from .values import BadValue, CrossError, ValueLimits, ValueTooLarge, decode_counted, encode

MAX_UNDELIVERED = 16_384
"""Refused `.aio` calls that may wait for the guest to ask. An honest guest has no more calls than tasks."""
MAX_WAKE_RESULTS = 256
"""Results in one `wake` frame; the guest waits again for the rest."""
OPEN_VALUES = 4
"""Arguments of all open `.aio` calls together may take this many times `value_bytes`."""
_log = logging.getLogger("cloche.tools")


class AsyncRunner(Protocol):
    """Runs async tools on the event loop of the face: the caller's, or the portal's."""

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        """Await `call()` on the loop, in `context`. Cancelling the future cancels it there; that must not block."""
        ...


class ToolThreads(Protocol):
    """A bounded pool for blocking tools that are not waited for at once, such as a ThreadPoolExecutor."""

    def submit(self, call: Callable[[], object], /) -> Future[object]: ...


@dataclass(slots=True)
class _Call:
    """An admitted `.aio` call, or a blocking one that is waited for."""

    tool: Tool
    cost: int
    started: float
    ends: float
    future: Future[object]


class CellCalls:
    """The tool calls of one cell."""

    def __init__(
        self,
        tools: ToolTable,
        limits: Limits,
        *,
        context: contextvars.Context,
        async_runner: AsyncRunner,
        threads: Callable[[], ToolThreads],
        deadline: float,
    ) -> None:
        self._tools = tools
        self._limits = limits
        self._value_limits = ValueLimits(limits.value_bytes, limits.value_depth, limits.int_digits)
        self._context = context.copy()  # a context object cannot be entered twice at once
        self._runner = async_runner
        self._threads = threads
        self._deadline = deadline
        self._events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        """Ids of calls that finished, and None for the abort: all that a waiting thread is woken for."""
        self._open: dict[int, _Call] = {}
        self._open_cost = 0
        self._ready: dict[int, Outcome | None] = {}
        """Finished and not yet told to the guest, in order. None: the outcome is still in the call's future."""
        self._last_id = -1
        self._aborted = False
        self._logged: set[tuple[str, type]] = set()
        self.hits: dict[str, LimitHit] = {}
        self.count = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.seconds = 0.0
        self.abandoned = 0
        self.ended_by: str | None = None

    # --- what the session calls ---------------------------------------------------------------------------------------

    def call(self, call_id: int, name: str, payload: memoryview) -> bytes:
        """Run a blocking call; the `tool_result` frame."""
        self._check_id(call_id)
        try:
            tool, arguments, cost = self._admit(name, payload)
            outcome = self._outcome(tool, lambda: self._run(call_id, tool, arguments, cost))
        except Refused as refused:
            outcome = failure(refused)
        return render_tool_result(call_id, outcome.ok, outcome.end_cell, outcome.payload)

    def start(self, call_id: int, name: str, payload: memoryview) -> None:
        """Begin an `.aio` call; its outcome comes with a later `wait`."""
        self._check_id(call_id)
        try:
            tool, arguments, cost = self._admit(name, payload)
            self._check_open(cost)
            self._open[call_id] = self._launch(call_id, tool, arguments, cost)
            self._open_cost += cost
        except Refused as refused:
            if len(self._ready) >= MAX_UNDELIVERED:
                raise ProtocolError("tool calls without end and nobody waits for them") from None
            self._ready[call_id] = failure(refused)

    def cancel(self, call_id: int) -> None:
        """The guest gave the call up: stop it, and never tell its outcome.

        Raises:
            ProtocolError: no such call is open.
        """
        known = call_id in self._ready
        self._ready.pop(call_id, None)
        call = self._forget(call_id)
        if call is not None:
            self._give_up(call)
        elif not known:
            raise ProtocolError("tool_cancel of a call that is not open")

    def wait(self, frame: Wait) -> bytes:
        """Block until an `.aio` call has finished, the guest's timer is up, or the abort; the `wake` frame."""
        timer = self._deadline if frame.timeout_s is None else min(self._deadline, time.monotonic() + frame.timeout_s)
        self._take_events()
        while not self._aborted:
            now = time.monotonic()
            if frame.any_result:
                self._expire(now)
            if now >= timer or (frame.any_result and self._ready):
                break
            calls = [call.ends for call in self._open.values()] if frame.any_result else []
            self._sleep(min([timer, *calls]) - now)
        return self._wake() if frame.any_result else render(Wake(results=()))

    def abort(self) -> None:
        """Every wait returns now, async tools are cancelled and no further tool runs. Any thread; never blocks."""
        self._aborted = True
        for call in tuple(self._open.values()):
            call.future.cancel()  # counted when the serving thread gives the call up
        self._events.put(None)

    def close(self) -> None:
        """Cancel what is still open. A blocking tool that runs cannot be stopped: it is counted and left alone."""
        for call_id in list(self._open):
            call = self._forget(call_id)
            if call is not None:
                self._give_up(call)
        self._ready.clear()

    # --- admission ----------------------------------------------------------------------------------------------------

    def _check_id(self, call_id: int) -> None:
        if call_id <= self._last_id:
            raise ProtocolError("ids of tool calls must rise")
        self._last_id = call_id

    def _admit(self, name: str, payload: memoryview) -> tuple[Tool, Arguments, int]:
        """The tool and its validated arguments, if the call may be made."""
        self.count += 1
        self.bytes_in += len(payload)
        if self._aborted:
            raise Refused("Interrupted", "the cell was stopped")
        if self.ended_by is not None:
            raise Refused("CellEnded", f"{self.ended_by} has ended the cell")
        self._check_budget("tool_calls", self.count, self._limits.tool_calls)
        self._check_budget("tool_bytes_in", self.bytes_in, self._limits.tool_bytes_in)
        tool = self._tools.get(name)
        if tool is None:
            raise Refused("UnknownTool", f"no tool is named {escape_controls(name)!r} here")
        try:
            value, cost = decode_counted(payload, self._value_limits, "arguments")
        except BadValue as exc:
            raise ProtocolError(f"arguments of a tool call: {exc}") from None
        except ValueTooLarge as exc:
            raise self._over(exc.limit, exc.used, exc.allowed, str(exc)) from None
        return tool, self._bind(tool, *_split_arguments(value)), cost

    def _bind(self, tool: Tool, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        try:
            return tool.bind(args, kwargs)
        except BadArguments as exc:
            raise Refused("InvalidArguments", tidy(str(exc))) from None
        except Exception as exc:  # noqa: BLE001  # tool dispatch: a validator of the tool's author
            raise self._failed(tool, exc) from None

    def _check_budget(self, limit: str, used: int, allowed: int) -> None:
        if used > allowed:
            raise self._over(limit, used, allowed, f"{limit}: one cell may have {allowed}")

    def _check_open(self, cost: int) -> None:
        allowed = self._limits.concurrent_tool_calls
        if len(self._open) >= allowed:
            text = f"concurrent_tool_calls: {allowed} may be open at once"
            raise self._over("concurrent_tool_calls", len(self._open) + 1, allowed, text)
        total, room = self._open_cost + cost, OPEN_VALUES * self._limits.value_bytes
        if total > room:
            raise self._over("value_bytes", total, room, f"arguments of the open calls take {total} bytes of {room}")

    def _over(self, limit: str, used: float, allowed: float, message: str) -> Refused:
        """Record the limit and refuse."""
        known = self.hits.get(limit)
        self.hits[limit] = LimitHit(limit, max(used, known.used if known else used), allowed)
        return Refused("LimitExceeded", message)

    # --- running ------------------------------------------------------------------------------------------------------

    def _run(self, call_id: int, tool: Tool, arguments: Arguments, cost: int) -> object:
        """Call the tool and wait. A plain blocking tool runs right here, on the serving thread."""
        if tool.is_async or tool.timeout_s is not None:
            return self._result_of(call_id, self._launch(call_id, tool, arguments, cost))
        args, kwargs = arguments
        started = time.monotonic()
        try:
            result = self._context.run(tool.function, *args, **kwargs)
        finally:
            self.seconds += time.monotonic() - started
        if not inspect.isawaitable(result):
            return result
        return self._result_of(call_id, self._follow(call_id, tool, cost, self._await(result)))

    def _launch(self, call_id: int, tool: Tool, arguments: Arguments, cost: int) -> _Call:
        """Start the tool beside the serving thread."""
        args, kwargs = arguments
        bound = partial(tool.function, *args, **kwargs)
        try:
            if tool.is_async:
                future = self._runner.start(bound, self._context.copy())  # type: ignore[arg-type]  # `is_async` says so
            else:
                context = self._context.copy()
                future = self._threads().submit(lambda: context.run(self._run_on_thread, bound))
        except Exception as exc:  # noqa: BLE001  # tool dispatch: a closed loop or pool
            raise self._failed(tool, exc) from None
        return self._follow(call_id, tool, cost, future)

    def _follow(self, call_id: int, tool: Tool, cost: int, future: Future[object]) -> _Call:
        started = time.monotonic()
        limit = self._limits.tool_s if tool.timeout_s is None else min(tool.timeout_s, self._limits.tool_s)
        future.add_done_callback(lambda _: self._events.put(call_id))
        return _Call(tool, cost, started, started + limit, future)

    def _run_on_thread(self, bound: Callable[[], object]) -> object:
        result = bound()
        return self._await(result).result() if inspect.isawaitable(result) else result

    def _await(self, awaitable: Awaitable[object]) -> Future[object]:
        return self._runner.start(lambda: awaitable, self._context.copy())

    def _result_of(self, call_id: int, call: _Call) -> object:
        """The result, once it is there; `.aio` calls that finish meanwhile are kept for the next `wait`."""
        while not call.future.done():
            now = time.monotonic()
            if self._aborted or now >= self._deadline:
                self._give_up(call)
                raise Refused("Interrupted", "the cell was stopped")
            if now >= call.ends:
                self._give_up(call)
                raise self._late(call)
            self._sleep(min(call.ends, self._deadline) - now)
        self.seconds += time.monotonic() - call.started
        return call.future.result()

    def _outcome(self, tool: Tool, run: Callable[[], object]) -> Outcome:
        """What `run` gives, as the guest will see it. This is the broad `except` of tool dispatch."""
        try:
            payload = encode(run(), self._value_limits, f"result of {tool.name}")
        except Refused as refused:
            return failure(refused)
        except ValueTooLarge as exc:
            return failure(self._over(exc.limit, exc.used, exc.allowed, str(exc)))
        except CrossError as exc:
            return failure(Refused("CannotCross", tidy(str(exc))))
        except BaseException as exc:  # noqa: BLE001  # SystemExit or a stray KeyboardInterrupt of a tool is its failure too
            return failure(self._failed(tool, exc))
        self.bytes_out += len(payload)
        if self.bytes_out > self._limits.tool_bytes_out:
            allowed = self._limits.tool_bytes_out
            message = f"tool_bytes_out: results of one cell may take {allowed} bytes"
            return failure(self._over("tool_bytes_out", self.bytes_out, allowed, message))
        if tool.end_cell:
            self.ended_by = tool.name
        return Outcome(ok=True, payload=payload, end_cell=tool.end_cell)

    def _failed(self, tool: Tool, exc: BaseException) -> Refused:
        """An exception of a tool: its type, and its message if that is meant to be seen."""
        kind = type(exc)
        if not isinstance(exc, SHOWN) and (tool.name, kind) not in self._logged:
            self._logged.add((tool.name, kind))
            _log.warning("tool %s failed", tool.name, exc_info=exc)
        return Refused(tidy(kind.__name__)[:100], message_of(exc))

    def _late(self, call: _Call) -> Refused:
        allowed = call.ends - call.started
        return self._over("tool_s", allowed, allowed, f"{call.tool.name} did not answer within {allowed:g} s")

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _sleep(self, seconds: float) -> None:
        """Until something happens, or `seconds` have passed."""
        try:
            event = self._events.get(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except queue.Empty:
            return
        self._note(event)
        self._take_events()

    def _take_events(self) -> None:
        while not self._events.empty():
            self._note(self._events.get())

    def _note(self, event: int | None) -> None:
        if event is not None and event in self._open:
            self._ready.setdefault(event, None)

    def _expire(self, now: float) -> None:
        """Calls over their time fail; what they do afterwards is nobody's concern."""
        for call_id, call in list(self._open.items()):
            if now >= call.ends and call_id not in self._ready:
                self._forget(call_id)
                self._give_up(call)
                self._ready[call_id] = failure(self._late(call))

    def _wake(self) -> bytes:
        """The `wake` frame with what has finished, as much as one frame should hold."""
        results: list[ToolOutcome] = []
        payloads: list[bytes] = []
        room = self._limits.value_bytes
        for call_id in list(self._ready):
            if len(results) >= MAX_WAKE_RESULTS or room < 0:
                break
            outcome = self._ready.pop(call_id) or self._settle(call_id)
            results.append(ToolOutcome(id=call_id, ok=outcome.ok, end_cell=outcome.end_cell))
            payloads.append(outcome.payload)
            room -= len(outcome.payload)
        return render(Wake(results=tuple(results)), tuple(payloads))

    def _settle(self, call_id: int) -> Outcome:
        call = self._forget(call_id)
        if call is None:
            raise AssertionError("a ready call is open until it is told")
        self.seconds += time.monotonic() - call.started
        if call.future.cancelled():  # by the abort, or with its loop
            return failure(Refused("Interrupted", "the call was cancelled"))
        return self._outcome(call.tool, call.future.result)

    def _forget(self, call_id: int) -> _Call | None:
        call = self._open.pop(call_id, None)
        if call is not None:
            self._open_cost -= call.cost
        return call

    def _give_up(self, call: _Call) -> None:
        self.seconds += time.monotonic() - call.started
        if not call.future.cancel() and not call.future.done():
            self.abandoned += 1


def _split_arguments(value: object) -> tuple[tuple[object, ...], dict[str, object]]:
    """`[args, kwargs]`, as every stub of ours sends it."""
    if isinstance(value, list | tuple) and len(value := cast("list[object]", value)) == 2:
        args, kwargs = value
        if isinstance(args, list | tuple) and isinstance(kwargs, dict):
            by_name = cast("dict[str, object]", kwargs)
            if all(isinstance(key, str) for key in cast("dict[object, object]", kwargs)):
                return tuple(cast("list[object]", args)), by_name
    raise ProtocolError("arguments of a tool call are not [args, kwargs]")
