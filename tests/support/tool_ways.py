"""The ways in which a tool is called: by the guest, blocking or `.aio`, and by the host directly (ToolCallingAgent).

The rule: hooks, approval, retries and events behave alike in all of them, so a test of these takes the fixture of its
module that is parametrised over `WAYS`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cloche import ToolObserver, tool
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.tool_direct import DirectCalls
from cloche.runtime.tool_loop import ToolLoop

from .cell_calls import PATIENCE_S, call, cell_of, start, wait

WAYS = ("blocking", "aio", "direct")
blocking_call = call


class Way:
    """One way to call tools: `call` gives (ok, value or [type, message])."""

    def __init__(self, call: Callable[..., tuple[bool, object]], cell: CellCalls | None) -> None:
        self.call = call
        self.cell = cell


Ways = Callable[..., Way]
"""Makes a way: `ways(*tools, observer=None, **limits)`."""


def aio_call(cell: CellCalls, name: str, *args: object, **kwargs: object) -> tuple[bool, object]:
    """An `.aio` call that is waited for at once."""
    start(cell, name, *args, **kwargs)
    news = wait(cell, PATIENCE_S)
    assert news, "nothing came in time"
    return news[0][1:]


def ways_of(name: str, loop: ToolLoop, pool: ThreadPoolExecutor) -> Ways:
    """What makes the way `name`, one of `WAYS`."""

    def make(*tools: Any, observer: ToolObserver | None = None, **limits: Any) -> Way:
        if name == "direct":
            calls = DirectCalls(tools, observer, tool_s=limits.get("tool_s", PATIENCE_S))
            ids = itertools.count()

            def direct(name: str, **kwargs: object) -> tuple[bool, object]:
                result = asyncio.run(calls.call(name, kwargs, next(ids)))
                error = result.error
                return result.ok, result.value if error is None else [error.kind, str(error)]

            return Way(direct, None)
        cell = cell_of(loop, pool, tools, observer, **limits)
        one_call = blocking_call if name == "blocking" else aio_call
        return Way(functools.partial(one_call, cell), cell)

    return make


def double(n: int) -> int:
    return 2 * n


@tool(requires_approval=lambda arguments: arguments["amount"] > 10)
def pay(amount: int) -> str:
    return f"paid {amount}"
