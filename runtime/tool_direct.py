"""Tool calls without a sandbox, for models that call tools by JSON: the same rules, hooks and discretion.

The rule: arguments are as hostile as a guest's, and what comes out of a call is data. Only the values differ: they stay
Python objects, because nothing crosses a boundary here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextvars import copy_context

from . import lazy
from .limits import Limits
from .plain import dataclass
from .safe_logs import FailureLog
from .tool_events import EventTeller
from .tool_hooks import ToolObserver
from .tool_outcome import SHOWN, HookFailed, Late, Outcome, Refused, failure, refusal, tidy
from .tool_pipeline import NO_HOOKS, drive_async, guarded_steps
from .tool_signature import BadArguments
from .tools import Function, Tool, ToolTable
from .value_types import CrossError

_TOOL_S = Limits().tool_s
_MOST_BYTES = Limits().value_bytes
_log = lazy.logger("cloche.tools")


@dataclass(frozen=True, slots=True)
class DirectResult:
    """What a call came to."""

    value: object = None
    error: Refused | None = None
    """Why there is no value: `kind`, the message, and `outcome` ("error", "denied", "timeout", "refused")."""
    ran: bool = True
    """Whether the call was admitted: the tool exists and the arguments fit."""

    @property
    def ok(self) -> bool:
        return self.error is None


class DirectCalls:
    """The tools of one agent's run. Calls may go on side by side, on one event loop."""

    def __init__(
        self,
        tools: ToolTable | Iterable[Tool | Function],
        observer: ToolObserver | None = None,
        *,
        tool_s: float = _TOOL_S,
    ) -> None:
        """`tool_s` is above each tool's own `timeout_s`."""
        self._tools = tools if isinstance(tools, ToolTable) else ToolTable(tools)
        self._observer = observer or NO_HOOKS
        on_event = self._observer.on_event
        self._teller = None if on_event is None else EventTeller(on_event, copy_context())
        self._tool_s = tool_s
        self._failures = FailureLog(_log)

    async def call(self, name: str, arguments: Mapping[str, object] | None, call_id: int) -> DirectResult:
        """Validate, ask the hooks, run, check; `arguments` by name, None for what was no JSON object.

        A blocking tool runs on a thread. Raises nothing but cancellation.

        Args:
            call_id: tells it apart from the other calls, in what the observer hears.
        """
        since = time.monotonic()
        teller = self._teller
        try:
            tool, bound = self._admit(name, arguments)
        except Refused as refused:
            refused.outcome = "refused"
            if teller is not None:
                teller.refused(call_id, name, failure(refused), since)
            return DirectResult(error=refused, ran=False)
        if teller is None:
            return await self._run(tool, bound, call_id)
        teller.started(call_id, name, bound, since)
        try:
            result = await self._run(tool, bound, call_id)
            told = Outcome(ok=True, payload=b"") if result.error is None else failure(result.error)
            teller.finished(call_id, told)
        finally:
            teller.dropped(call_id)  # cancelled: it was not told yet
        return result

    def _admit(
        self, name: str, arguments: Mapping[str, object] | None
    ) -> tuple[Tool, tuple[tuple[object, ...], dict[str, object]]]:
        tool = self._tools.find(name)
        if tool is None:
            raise Refused("UnknownTool", f"no tool is named {tidy(name)[:100]!r} here")
        if arguments is None:
            raise Refused("InvalidArguments", "the arguments are not a JSON object")
        try:
            return tool, tool.bind((), dict(arguments))
        except BadArguments as exc:
            raise Refused("InvalidArguments", tidy(str(exc))) from None
        except Exception as exc:  # noqa: BLE001  # tool dispatch: a validator of the tool's author
            raise self._failed(tool, exc) from None

    async def _run(self, tool: Tool, bound: tuple[tuple[object, ...], dict[str, object]], call_id: int) -> DirectResult:
        allowed_s = self._tool_s if tool.timeout_s is None else min(tool.timeout_s, self._tool_s)
        try:
            steps = guarded_steps(tool, bound, call_id, self._observer)
            result = await drive_async(steps, tool, allowed_s)
            return DirectResult(result if tool.shown is None else tool.shown(result, _MOST_BYTES))
        except Refused as refused:
            if isinstance(refused, HookFailed):
                self._failures.warn(refused.what, refused.exc)
            return DirectResult(error=refused)
        except CrossError as exc:
            self._failures.warn(f"tool {tool.name} gave what no model can be shown", exc)
            return DirectResult(error=Refused("CannotCross", tidy(str(exc))))
        except Late as exc:
            return DirectResult(error=Refused("TimedOut", str(exc), "timeout"))
        # Whatever a tool raises is data. A SystemExit too: asyncio takes it out of any task and ends the whole loop.
        except (Exception, SystemExit) as exc:  # noqa: BLE001
            return DirectResult(error=self._failed(tool, exc))
        except BaseException as exc:
            if not _is_own_cancellation(exc):
                raise
            return DirectResult(error=Refused("Interrupted", "the call was cancelled", "cancelled"))

    def _failed(self, tool: Tool, exc: BaseException) -> Refused:
        if not isinstance(exc, SHOWN):
            self._failures.warn(f"tool {tool.name} failed", exc)
        return refusal(exc)


def _is_own_cancellation(exc: BaseException) -> bool:
    """Whether it is a cancellation that nobody asked for from outside: the tool awaits what something has cancelled.
    Let out, it would cancel the calls beside it."""
    import asyncio
    import math

    import anyio  # a loop is there, so both are loaded

    if not isinstance(exc, anyio.get_cancelled_exc_class()) or anyio.current_effective_deadline() == -math.inf:
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio has no other cancellation than that of a scope
        return False
    return task is not None and task.cancelling() == 0
