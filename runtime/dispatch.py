"""Runs the tools that one cell calls: admits each call, waits for it, and turns whatever happens into data.

The rule: nothing a tool raises or returns ends the thread that serves the sandbox, and nothing the guest asks for gets
past the grant, the schema and the caps. A call that is refused or fails is a `ToolError` in the guest; a limit is also
recorded for `Cell.limits`.

One thread serves (`call`, `start`, `cancel`, `wait`, `close`); `abort` may come from any.
"""

from __future__ import annotations

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# decoded values are of any type; each is looked at by its own
import contextvars
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import lazy
from .cell import LimitHit
from .errors import ProtocolError
from .limits import Limits
from .output import escape_controls
from .protocol import ToolOutcome, Wait, Wake, render, render_tool_result
from .safe_logs import FailureLog
from .tool_events import EventTeller
from .tool_flight import OpenCall, OpenCalls
from .tool_hooks import ToolObserver
from .tool_outcome import SHOWN, Denied, HookFailed, Late, Outcome, Refused, failure, refusal, tidy
from .tool_pipeline import NO_HOOKS, guarded_steps
from .tool_running import AsyncRunner, CallRunner, ToolThreads
from .tool_signature import Arguments, BadArguments
from .tools import Tool, ToolTable
from .values import BadValue, CrossError, ValueLimits, ValueTooLarge, decode_counted, encode

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = lazy.module("concurrent.futures")

__all__ = ["AsyncRunner", "CellCalls", "ToolThreads"]

MAX_UNDELIVERED = 16_384
"""Outcomes of `.aio` calls that may wait for the guest to ask when one more is refused; more where `Limits.tasks` is
more, since each task of an honest guest may have one."""
MAX_WAKE_RESULTS = 256
"""Results in one `wake` frame; the guest waits again for the rest."""
OPEN_VALUES = 4
"""Arguments of all open `.aio` calls together may take this many times `value_bytes`."""
_log = lazy.logger("cloche.tools")


class CellCalls:
    """The tool calls of one cell."""

    def __init__(  # noqa: PLR0913  # what one cell is given, each thing by name
        self,
        tools: ToolTable,
        limits: Limits,
        *,
        context: contextvars.Context,
        async_runner: AsyncRunner,
        threads: Callable[[], ToolThreads],
        deadline: float,
        observer: ToolObserver | None = None,
    ) -> None:
        self._tools = tools
        self._limits = limits
        self._value_limits = ValueLimits(limits.value_bytes, limits.value_depth, limits.int_digits)
        self._flight = OpenCalls(deadline)
        self._runner = CallRunner(self._flight, limits, context, async_runner, threads)
        self._observer = observer or NO_HOOKS
        self._always_guarded = self._observer.decides
        on_event = self._observer.on_event
        self._teller = None if on_event is None else EventTeller(on_event, context)
        self._last_id = -1
        self._max_undelivered = max(MAX_UNDELIVERED, limits.tasks)
        self._failures = FailureLog(_log)
        self.hits: dict[str, LimitHit] = {}
        self.count = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.ended_by: str | None = None

    @property
    def seconds(self) -> float:
        """Spent in tools."""
        return self._flight.seconds

    @property
    def abandoned(self) -> int:
        """Blocking tools that still ran when nobody waited for them any more."""
        return self._flight.abandoned

    # --- what the session calls ---------------------------------------------------------------------------------------

    def call(self, call_id: int, name: str, payload: memoryview) -> bytes:
        """Run a blocking call; the `tool_result` frame."""
        self._check_id(call_id)
        teller = self._teller
        since = 0.0 if teller is None else time.monotonic()
        try:
            tool, arguments, _ = self._admit(name, payload)
        except Refused as refused:
            outcome = failure(refused)
            self._tell_refused(call_id, name, outcome, since)
        else:
            if teller is not None:
                teller.started(call_id, name, arguments, since)
            outcome = self._outcome(tool, partial(self._run, call_id, tool, arguments))
            if teller is not None:
                teller.finished(call_id, outcome)
        return render_tool_result(call_id, outcome.ok, outcome.end_cell, outcome.payload)

    def start(self, call_id: int, name: str, payload: memoryview) -> None:
        """Begin an `.aio` call; its outcome comes with a later `wait`."""
        self._check_id(call_id)
        flight, teller = self._flight, self._teller
        since = 0.0 if teller is None else time.monotonic()
        try:
            tool, arguments, cost = self._admit(name, payload)
            self._check_open(cost)
        except Refused as refused:
            if len(flight.ready) >= self._max_undelivered:
                raise ProtocolError("tool calls without end and nobody waits for them") from None
            flight.ready[call_id] = outcome = failure(refused)
            self._tell_refused(call_id, name, outcome, since)
            return
        if teller is not None:
            teller.started(call_id, name, arguments, since)
        try:
            call = self._launch(call_id, tool, arguments, cost)
        except Refused as refused:
            flight.ready[call_id] = failure(refused)
            return
        flight.add(call_id, call)
        if teller is not None:
            teller.watch(call_id, call.future)

    def cancel(self, call_id: int) -> None:
        """The guest gave the call up: stop it, and never tell its outcome.

        Raises:
            ProtocolError: no such call is open.
        """
        known = call_id in self._flight.ready
        self._flight.ready.pop(call_id, None)
        call = self._flight.forget(call_id)
        if call is not None:
            self._flight.give_up(call)
        elif not known:
            raise ProtocolError("tool_cancel of a call that is not open")
        if self._teller is not None:
            self._teller.dropped(call_id)

    def wait(self, frame: Wait) -> bytes:
        """Block until an `.aio` call has finished, the guest's timer is up, or the abort; the `wake` frame."""
        flight = self._flight
        deadline = flight.deadline
        timer = deadline if frame.timeout_s is None else min(deadline, time.monotonic() + frame.timeout_s)
        flight.take_events()
        while not flight.aborted:
            now = time.monotonic()
            if frame.any_result:
                self._expire(now)
            if now >= timer or (frame.any_result and flight.ready):
                break
            calls = [call.ends for call in flight.open.values()] if frame.any_result else []
            flight.sleep(min([timer, *calls]) - now)
        return self._wake() if frame.any_result else render(Wake(results=()))

    def abort(self) -> None:
        """Every wait returns now, async tools are cancelled and no further tool runs. Any thread; never blocks."""
        self._flight.abort()

    def close(self) -> None:
        """Cancel what is still open. A blocking tool that runs cannot be stopped: it is counted and left alone."""
        flight = self._flight
        for call_id in list(flight.open):
            call = flight.forget(call_id)
            if call is not None:
                flight.give_up(call)
        flight.ready.clear()
        if self._teller is not None:
            self._teller.close()

    # --- admission ----------------------------------------------------------------------------------------------------

    def _check_id(self, call_id: int) -> None:
        if call_id <= self._last_id:
            raise ProtocolError("ids of tool calls must rise")
        self._last_id = call_id

    def _admit(self, name: str, payload: memoryview) -> tuple[Tool, Arguments, int]:
        """The tool and its validated arguments, if the call may be made."""
        self.count += 1
        self.bytes_in += len(payload)
        if self._flight.aborted:
            raise Refused("Interrupted", "the cell was stopped")
        if self.ended_by is not None:
            raise Refused("CellEnded", f"{self.ended_by} has ended the cell")
        limits = self._limits
        if self.count > limits.tool_calls or self.bytes_in > limits.tool_bytes_in:
            self._check_budget("tool_calls", self.count, limits.tool_calls)
            self._check_budget("tool_bytes_in", self.bytes_in, limits.tool_bytes_in)
        tool = self._tools.find(name)
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
        if len(self._flight.open) >= allowed:
            text = f"concurrent_tool_calls: {allowed} may be open at once"
            raise self._over("concurrent_tool_calls", len(self._flight.open) + 1, allowed, text)
        total, room = self._flight.cost + cost, OPEN_VALUES * self._limits.value_bytes
        if total > room:
            raise self._over("value_bytes", total, room, f"arguments of the open calls take {total} bytes of {room}")

    def _over(self, limit: str, used: float, allowed: float, message: str) -> Refused:
        """Record the limit and refuse."""
        known = self.hits.get(limit)
        self.hits[limit] = LimitHit(limit, max(used, known.used if known else used), allowed)
        return Refused("LimitExceeded", message)

    # --- running ------------------------------------------------------------------------------------------------------

    def _run(self, call_id: int, tool: Tool, arguments: Arguments) -> object:
        if tool.guarded or self._always_guarded:
            steps = guarded_steps(tool, arguments, call_id, self._observer)
            return self._runner.drive(call_id, tool, steps)
        result = self._runner.run(call_id, tool, arguments)
        return result if tool.check is None else tool.check(result)

    def _launch(self, call_id: int, tool: Tool, arguments: Arguments, cost: int) -> OpenCall:
        try:
            if tool.guarded or self._always_guarded:
                steps = guarded_steps(tool, arguments, call_id, self._observer)
                return self._runner.launch_steps(call_id, tool, steps, cost)
            return self._runner.launch(call_id, tool, arguments, cost)
        except Exception as exc:  # noqa: BLE001  # tool dispatch: a closed loop or pool
            raise self._failed(tool, exc) from None

    def _outcome(self, tool: Tool, run: Callable[[], object]) -> Outcome:
        """What `run` gives, as the guest will see it. This is the broad `except` of tool dispatch."""
        try:
            result = run()
            if tool.shown is not None:
                result = tool.shown(result, self._value_limits.size)
            payload = encode(result, self._value_limits, f"result of {tool.name}")
        except Refused as refused:
            return self._refused(tool, refused)
        except ValueTooLarge as exc:
            return failure(self._over(exc.limit, exc.used, exc.allowed, str(exc)))
        except CrossError as exc:
            self._failures.warn(f"tool {tool.name} gave what no sandbox can take", exc)
            return failure(Refused("CannotCross", tidy(str(exc))))
        except Late as exc:
            return failure(self._late(tool, exc))
        except futures.CancelledError:  # what a hook or a pause waited for, by the abort
            return failure(Refused("Interrupted", "the call was cancelled", "cancelled"))
        except BaseException as exc:  # noqa: BLE001  # SystemExit or a stray KeyboardInterrupt of a tool is its failure too
            return failure(self._failed(tool, exc))
        self.bytes_out += len(payload)
        if self.bytes_out > self._limits.tool_bytes_out:
            allowed = self._limits.tool_bytes_out
            message = f"tool_bytes_out: results of one cell may take {allowed} bytes"
            return failure(self._over("tool_bytes_out", self.bytes_out, allowed, message))
        if tool.end_cell:
            self._end(tool)
        return Outcome(ok=True, payload=payload, end_cell=tool.end_cell)

    def _refused(self, tool: Tool, refused: Refused) -> Outcome:
        if isinstance(refused, HookFailed):
            self._failures.warn(refused.what, refused.exc)
        if isinstance(refused, Denied) and refused.end_run:
            self._end(tool)
        return failure(refused)

    def _end(self, tool: Tool) -> None:
        """The cell is over for the host: whatever the guest does, no call is admitted and none that waits begins."""
        self.ended_by = tool.name
        self._flight.ended = True

    def _failed(self, tool: Tool, exc: BaseException) -> Refused:
        if not isinstance(exc, SHOWN):
            self._failures.warn(f"tool {tool.name} failed", exc)
        return refusal(exc)

    def _late(self, tool: Tool, exc: Late) -> Refused:
        refused = self._over("tool_s", exc.used_s, exc.allowed_s, str(exc))
        refused.outcome = "timeout"
        return refused

    def _tell_refused(self, call_id: int, name: str, outcome: Outcome, since: float) -> None:
        if self._teller is not None:
            self._teller.refused(call_id, name, outcome, since)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        """Calls over their time fail; what they do afterwards is nobody's concern."""
        flight = self._flight
        for call_id, call in list(flight.open.items()):
            if now >= call.ends and call_id not in flight.ready:
                flight.forget(call_id)
                flight.give_up(call)
                late = Late(call.tool.name, call.allowed_s, now - call.started)
                flight.ready[call_id] = failure(self._late(call.tool, late))

    def _wake(self) -> bytes:
        """The `wake` frame with what has finished, as much as one frame should hold."""
        results: list[ToolOutcome] = []
        payloads: list[bytes] = []
        room, ready = self._limits.value_bytes, self._flight.ready
        for call_id in list(ready):
            if len(results) >= MAX_WAKE_RESULTS or room < 0:
                break
            outcome = ready.pop(call_id) or self._settle(call_id)
            if self._teller is not None:
                self._teller.finished(call_id, outcome)
            results.append(ToolOutcome(id=call_id, ok=outcome.ok, end_cell=outcome.end_cell))
            payloads.append(outcome.payload)
            room -= len(outcome.payload)
        return render(Wake(results=tuple(results)), tuple(payloads))

    def _settle(self, call_id: int) -> Outcome:
        call = self._flight.forget(call_id)
        if call is None:
            raise AssertionError("a ready call is open until it is told")
        self._flight.seconds += time.monotonic() - call.started
        if call.future.cancelled():  # by the abort, or with its loop
            return failure(Refused("Interrupted", "the call was cancelled", "cancelled"))
        return self._outcome(call.tool, partial(self._result_of, call))

    def _result_of(self, call: OpenCall) -> object:
        result = call.future.result()
        if call.checked or call.tool.check is None:
            return result
        return call.tool.check(result)


_SEQUENCES = (list, tuple)


def _split_arguments(value: Any) -> tuple[tuple[object, ...], dict[str, object]]:
    """`[args, kwargs]`, as every stub of ours sends it."""
    if type(value) in _SEQUENCES and len(value) == 2:
        args, kwargs = value
        if type(args) in _SEQUENCES and type(kwargs) is dict:
            for key in kwargs:
                if type(key) is not str:
                    break
            else:
                return tuple(args), kwargs
    raise ProtocolError("arguments of a tool call are not [args, kwargs]")
