"""The tool calls of one cell without a sandbox: they are made as a guest makes them, and read as a guest reads them.

The rule: no wait of these helpers lasts longer than `PATIENCE_S`, and none of a good run comes near it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

from cloche import ToolObserver
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import ToolResult, Wait, Wake, parse_to_worker
from cloche.runtime.tools import ToolTable
from cloche.runtime.values import ValueLimits, decode, encode

VALUES = ValueLimits()
PATIENCE_S = 10.0
HIDDEN = "the tool failed; its message stays on the host (a tool raises ToolError to pass one on)"


class LoopRunner:
    """An event loop on its own thread, as a face has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        async def awaited() -> object:
            return await call()

        return context.run(asyncio.run_coroutine_threadsafe, awaited(), self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()


def cell_of(
    runner: Any,
    pool: Executor,
    tools: Iterable[Any],
    observer: ToolObserver | None = None,
    *,
    deadline_s: float = PATIENCE_S,
    **limits: Any,
) -> CellCalls:
    """The calls of a cell that has these tools; async ones run on `runner`, `.aio` calls of sync ones in `pool`."""
    return CellCalls(
        ToolTable(tools),
        Limits(**limits),
        context=contextvars.copy_context(),
        async_runner=runner,
        threads=lambda: pool,
        deadline=time.monotonic() + deadline_s,
        observer=observer,
    )


def sent(*args: object, **kwargs: object) -> memoryview:
    """Arguments as a stub of the guest sends them."""
    return memoryview(encode([list(args), kwargs], VALUES))


def read(frame: bytes) -> tuple[object, list[object]]:
    """A frame for the guest, and the values that came with it."""
    parsed, parts = parse_to_worker(frame, max_bytes=10**9)
    return parsed, [decode(part, VALUES) for part in parts]


def call(calls: CellCalls, name: str, *args: object, **kwargs: object) -> tuple[bool, object]:
    """A blocking call: whether it worked, and its value or [type, message]."""
    parsed, (value,) = read(calls.call(calls.count, name, sent(*args, **kwargs)))
    assert isinstance(parsed, ToolResult)
    return parsed.ok, value


def start(calls: CellCalls, name: str, *args: object, **kwargs: object) -> int:
    """Begins an `.aio` call; its id."""
    call_id = calls.count
    calls.start(call_id, name, sent(*args, **kwargs))
    return call_id


def wait(calls: CellCalls, timeout_s: float | None = None) -> list[tuple[int, bool, object]]:
    """What the guest hears of its `.aio` calls at one wait: id, whether it worked, value or [type, message]."""
    parsed, values = read(calls.wait(Wait(timeout_s=timeout_s, any_result=True)))
    assert isinstance(parsed, Wake)
    return [(result.id, result.ok, value) for result, value in zip(parsed.results, values, strict=True)]


def wait_for(calls: CellCalls, count: int) -> list[tuple[int, bool, object]]:
    """Waits until so many `.aio` calls are told; in the order in which they were."""
    found: list[tuple[int, bool, object]] = []
    while len(found) < count:
        news = wait(calls, PATIENCE_S)
        assert news, "nothing came in time"
        found += news
    return found
