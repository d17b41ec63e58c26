"""The steps of a guarded tool call, in order: hook, approval, attempts, check of the result, hook.

The rule: the order stands here once, as a generator; who drives it (a serving thread, a tool thread, an event loop)
decides how to wait. It yields what has to be done, gets the outcome sent or thrown in, and returns the result.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from . import lazy
from .plain import record
from .tool_hooks import Allow, Before, Decision, Deny, Edited, ToolObserver, ToolRequest, by_name, from_names
from .tool_outcome import Denied, HookFailed, Late, Refused, tidy
from .tool_signature import Arguments, BadArguments

if TYPE_CHECKING:
    import inspect
    from concurrent import futures

    from .tools import Tool
else:
    inspect = lazy.module("inspect")
    futures = lazy.module("concurrent.futures")

MAX_PAUSE_S = 30.0
"""Longest pause between two attempts."""
_log = lazy.logger("cloche.tools")


@record
class Attempt:
    """Call the tool's function once, within the time of one attempt."""

    arguments: Arguments


@record
class Wait:
    """Await what a hook gave."""

    awaitable: Awaitable[object]


@record
class Pause:
    """Wait before the next attempt."""

    seconds: float


Effect = Attempt | Wait | Pause
Steps = Generator[Effect, object, object]
NO_HOOKS = ToolObserver()


def guarded_steps(tool: Tool, arguments: Arguments, call_id: int, observer: ToolObserver) -> Steps:
    """The steps of one call. Raises what the tool raises, or Refused."""
    named = by_name(tool, arguments)
    if observer.before is not None:
        arguments, named = yield from _decide(observer.before, tool, call_id, named, arguments, observer)
    if _needs_approval(tool, named):
        if observer.approve is None:
            raise Denied(f"{tool.name} needs approval, and nobody is here to give it", False)
        arguments, named = yield from _decide(observer.approve, tool, call_id, named, arguments, observer)
    result = tool.checked((yield from _attempts(tool, arguments)))
    if observer.after is None:
        return result
    request = ToolRequest(tool=tool, call_id=call_id, arguments=named, context=observer.context)
    changed = observer.after(request, result)
    if inspect.isawaitable(changed):
        changed = yield Wait(changed)
    return result if changed is result else tool.checked(changed)


def _needs_approval(tool: Tool, named: Mapping[str, object]) -> bool:
    needed = tool.requires_approval
    if not callable(needed):
        return needed
    try:
        return bool(needed(named))
    except Exception as exc:  # noqa: BLE001  # a hook of the host's: it fails closed
        raise HookFailed(tool.name, "requires_approval", exc) from None


def _decide(
    hook: Before,
    tool: Tool,
    call_id: int,
    named: dict[str, object],
    arguments: Arguments,
    observer: ToolObserver,
) -> Generator[Effect, object, tuple[Arguments, dict[str, object]]]:
    """Ask a hook; the arguments that the call goes on with."""
    what = "before" if hook is observer.before else "approve"
    try:
        answer: object = hook(ToolRequest(tool=tool, call_id=call_id, arguments=named, context=observer.context))
        if inspect.isawaitable(answer):
            answer = yield Wait(answer)
        decision = _decision(answer, none_allows=what == "before")
        if isinstance(decision, Edited):
            arguments = tool.bind(*from_names(tool, decision.arguments))
            named = by_name(tool, arguments)
    except (Refused, futures.CancelledError):  # the cell was stopped while the hook was awaited
        raise
    except (Exception, BadArguments) as exc:  # noqa: BLE001  # a hook of the host's: it fails closed
        raise HookFailed(tool.name, what, exc) from None
    if isinstance(decision, Deny):
        raise Denied(tidy(decision.reason), decision.end_run)
    return arguments, named


def _decision(answer: object, *, none_allows: bool) -> Decision:
    if isinstance(answer, Allow | Deny | Edited):
        return answer
    if answer is True or (answer is None and none_allows):
        return Allow()
    if answer is False:
        return Deny("not approved")
    raise TypeError(f"a hook gives Allow(), Deny(reason) or Edited(arguments), not {type(answer).__name__}")


def _attempts(tool: Tool, arguments: Arguments) -> Generator[Effect, object, object]:
    """The tool's result, or the exception of the last attempt."""
    own = {id(parameter.default): parameter.default for parameter in tool.parameters}  # its defaults are no copies
    for number in range(tool.retries + 1):
        try:
            # A tool may change what it was given; the next attempt gets what was checked and approved.
            return (yield Attempt(arguments if number == tool.retries else copy.deepcopy(arguments, dict(own))))
        except tool.retry_on as exc:
            stuck = isinstance(exc, Late) and not tool.is_async  # its thread cannot be stopped: no second one beside it
            if number == tool.retries or stuck:
                raise
            _log.info(
                "tool %s: attempt %d of %d failed: %s", tool.name, number + 1, tool.retries + 1, type(exc).__name__
            )
        yield Pause(_pause_s(tool, number))
    raise AssertionError("the loop returns or raises")


def _pause_s(tool: Tool, number: int) -> float:
    from random import uniform  # 5 ms of a process start that most never need

    return min(tool.retry_pause_s * 2.0**number, MAX_PAUSE_S) * uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


async def drive_async(
    steps: Steps, tool: Tool, allowed_s: float, may_begin: Callable[[], None] | None = None
) -> object:
    """Drive the steps on an event loop; a blocking tool runs on a thread, where nobody waits for it for ever.

    `may_begin` raises where no attempt may begin any more.
    """
    import anyio  # a loop is there, so it is loaded

    async def do(effect: Effect) -> object:
        if isinstance(effect, Attempt):
            if may_begin is not None:
                may_begin()
            return await _attempt_async(tool, effect.arguments, allowed_s)
        if isinstance(effect, Wait):
            return await effect.awaitable
        await anyio.sleep(effect.seconds)
        return None

    try:
        effect = next(steps)
        while True:
            try:
                sent = await do(effect)
            except Exception as exc:  # noqa: BLE001  # the steps know what it means
                effect = steps.throw(exc)
            else:
                effect = steps.send(sent)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


async def _attempt_async(tool: Tool, arguments: Arguments, allowed_s: float) -> object:
    import anyio
    import anyio.to_thread

    args, kwargs = arguments
    started = time.monotonic()
    scope = anyio.CancelScope(deadline=anyio.current_time() + allowed_s)
    with scope:
        if tool.is_async or tool.end_cell:  # final answers only leave a value
            result = tool.function(*args, **kwargs)
        else:
            bound = partial(tool.function, *args, **kwargs)
            result = await anyio.to_thread.run_sync(copy_context().run, bound, abandon_on_cancel=True)
        return await result if inspect.isawaitable(result) else result
    raise Late(tool.name, allowed_s, time.monotonic() - started)
