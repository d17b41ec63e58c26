"""Where the standard library expects an operating system, it finds the host's wait or a sentence that says what to do.

Rule: only names that would hang, busy-wait or fail without a reason are replaced, and all before any user code runs.
"""

from __future__ import annotations

import _sitebuiltins
import asyncio
import builtins
import io
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from operator import index as _index
from typing import Any, NoReturn, SupportsIndex

from .calls import Calls, ToolError
from .loop import CellLoop

_monotonic = time.monotonic
_LONGEST_SLEEP_S = 1e9
MOST_RECURSION = 250_000
"""Frames of Python on top of one another. They take no native stack, but freeing the chain that a traceback or
`sys._getframe` leaves does, where CPython's guard does not see it: from 325 000 links on it ended the sandbox."""
_NO_THREADS = "this sandbox has no threads: call the function directly; `await tool.aio(...)` runs tools concurrently"
_NO_INPUT = (
    "input() has nobody to ask: a cell has no stdin. Ask for data with a tool, or pass it as an input of the cell"
)


def install(calls: Calls, current_loop: Callable[[], CellLoop], new_loop: Callable[[], CellLoop]) -> None:
    """Patch this interpreter, once."""
    time.sleep = _sleep(calls)  # type: ignore[assignment]  # takes anything that float() takes
    builtins.input = _input
    builtins.help = _sitebuiltins._Helper()  # pyright: ignore[reportPrivateUsage]
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # `site`, which is not run, has these three
    builtins.ToolError = ToolError  # type: ignore[attr-defined]  # cells use it without an import
    sys.setrecursionlimit = _limit_recursion(sys.setrecursionlimit)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # type: ignore[misc]
    threading.Thread.start = _no_thread  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign, assignment]
    _use_loop(current_loop, new_loop)


def _sleep(calls: Calls) -> Callable[[float], None]:
    def sleep(seconds: float, /) -> None:
        """Wait in the host. The interrupt ends it."""
        left = seconds if type(seconds) is float else float(seconds)
        if not left >= 0.0:
            raise ValueError("sleep length must be non-negative")
        if left > _LONGEST_SLEEP_S:
            raise OverflowError("sleep length is too large")
        end = _monotonic() + left
        while left > 0.0:
            calls.wait(left, any_result=False)
            left = end - _monotonic()

    return sleep


def _limit_recursion(set_limit: Callable[[int], None]) -> Callable[[SupportsIndex], None]:
    def setrecursionlimit(limit: SupportsIndex, /) -> None:
        """Set the maximum depth of the Python interpreter stack to n; a higher n than 250 000 means that."""
        set_limit(min(_index(limit), MOST_RECURSION))

    return setrecursionlimit


def _input(prompt: object = "", /) -> NoReturn:
    """Raises EOFError: a cell has no stdin."""
    raise EOFError(_NO_INPUT)


def _no_thread(self: threading.Thread) -> NoReturn:
    """Raises RuntimeError: there are no threads here."""
    raise RuntimeError(_NO_THREADS)


def _submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Runs the function here and now, so that code written for a pool works, one call after the other."""
    if self._shutdown:
        raise RuntimeError("cannot schedule new futures after shutdown")
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    try:
        future.set_result(fn(*args, **kwargs))
    except Exception as exc:  # it belongs to whoever asks the future
        future.set_exception(exc)
    return future


def _use_loop(current_loop: Callable[[], CellLoop], new_loop: Callable[[], CellLoop]) -> None:
    """Make `CellLoop` what asyncio makes, and the sandbox's own loop the current one where none is set."""
    events = asyncio.events
    base: Any = getattr(events, "_BaseDefaultEventLoopPolicy", None) or events.BaseDefaultEventLoopPolicy
    # The public name is deprecated in 3.14.
    set_policy: Any = getattr(events, "_set_event_loop_policy", None) or events.set_event_loop_policy  # pyright: ignore[reportDeprecated]

    class CellPolicy(base):  # type: ignore[misc]
        """Loops of this sandbox."""

        def new_event_loop(self) -> CellLoop:
            return new_loop()

        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            loop: asyncio.AbstractEventLoop | None = self._local._loop
            return current_loop() if loop is None or loop.is_closed() else loop

    set_policy(CellPolicy())
    # `set_event_loop_policy(None)`, common in test suites, makes one of the second (3.14) or the first
    for owner, name in ((asyncio, "DefaultEventLoopPolicy"), (asyncio.unix_events, "_DefaultEventLoopPolicy")):
        if name in vars(owner):
            setattr(owner, name, CellPolicy)
    for name in ("EventLoop", "SelectorEventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, new_loop)
