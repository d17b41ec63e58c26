"""What an observer is told of each call, whichever way it is made, and calls that are given up."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tests.support.cell_calls import PATIENCE_S, cell_of, sent
from tests.support.tool_ways import Ways, aio_call, blocking_call, double, pay

from cloche import Tool, ToolFinished, ToolObserver, ToolStarted
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.limits import Limits
from cloche.runtime.tool_direct import DirectCalls
from cloche.runtime.tool_hooks import MAX_PREVIEW, ToolEvent, by_name, from_names
from cloche.runtime.tool_loop import ToolLoop
from cloche.runtime.tool_signature import Arguments
from cloche.runtime.tools import ToolTable


def test_each_call_is_told_once_at_its_start_and_once_at_its_end(way: Ways) -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    events: list[ToolEvent] = []
    here = way(double, fail, pay, observer=ToolObserver(on_event=events.append))
    here.call("double", n=4)
    here.call("fail")
    here.call("pay", amount=50)
    here.call("double", n="four")
    here.call("nobody")
    starts = [event for event in events if isinstance(event, ToolStarted)]
    ends = [event for event in events if isinstance(event, ToolFinished)]
    assert len(events) == len(starts) + len(ends) == 10
    assert [event.tool for event in starts] == ["double", "fail", "pay", "double", "nobody"]
    assert starts[0].arguments in ("4", "n=4")
    assert [event.call_id for event in starts] == [event.call_id for event in ends]
    assert [(event.outcome, event.error_type) for event in ends] == [
        ("ok", None),
        ("error", "ValueError"),
        ("denied", "ToolDenied"),
        ("refused", "InvalidArguments"),
        ("refused", "UnknownTool"),
    ]
    assert ends[1].error_message == "no such thing"
    assert all(0 <= event.duration_s < PATIENCE_S for event in ends)


def test_a_call_over_its_time_and_one_that_is_given_up_are_told(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    async def hang() -> None:
        await asyncio.sleep(PATIENCE_S)

    events: list[ToolEvent] = []
    cell = cell_of(loop, pool, (Tool(hang, timeout_s=0.05),), ToolObserver(on_event=events.append))
    aio_call(cell, "hang")
    cell.start(1, "hang", sent())
    cell.cancel(1)
    cell.start(2, "hang", sent())
    cell.close()
    cell.close()
    assert [event.outcome for event in events if isinstance(event, ToolFinished)] == [
        "timeout",
        "cancelled",
        "cancelled",
    ]


def test_what_an_observer_raises_changes_nothing_and_is_logged_once(
    way: Ways, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: ToolEvent) -> None:
        raise RuntimeError("observer broke")

    here = way(double, observer=ToolObserver(on_event=broken))
    with caplog.at_level(logging.WARNING):
        assert here.call("double", n=1) == (True, 2)
        assert here.call("double", n=2) == (True, 4)
    assert [record.getMessage() for record in caplog.records] == ["on_event of a tool observer failed"]


def test_a_preview_is_bounded_and_harmless(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    def take(*things: object, **named: object) -> None: ...

    events: list[ToolEvent] = []
    cell = cell_of(loop, pool, (take,), ToolObserver(on_event=events.append))
    things = ["\x1b[2J" * 1000, b"x" * 100_000, list(range(10_000)), {"a": "b" * 5000}, 10**4000]
    assert blocking_call(cell, "take", *things, **{"k" * 1000: 1}) == (True, None)
    assert isinstance(events[0], ToolStarted)
    assert len(events[0].arguments) <= MAX_PREVIEW
    assert "\x1b" not in events[0].arguments


# --- arguments by name ------------------------------------------------------------------------------------------------


def test_arguments_go_to_names_and_back() -> None:
    def many(a: int, /, b: int, c: int = 3, *rest: int, d: int = 4, **more: int) -> None: ...

    every = Tool(many)
    arguments: Arguments = ((1, 2, 30, 31), {"d": 5, "e": 6})
    named = by_name(every, arguments)
    assert named == {"a": 1, "b": 2, "c": 30, "rest": (31,), "d": 5, "more": {"e": 6}}
    assert from_names(every, named) == arguments
    assert every.bind(*from_names(every, {"a": 1, "b": 2, "d": 7})) == ((1, 2), {"c": 3, "d": 7})
    with pytest.raises(ValueError, match="many has no parameter 'x'"):
        from_names(every, {"x": 1})


def test_cancelling_a_direct_call_is_told_and_passes_on() -> None:
    events: list[ToolEvent] = []
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.sleep(PATIENCE_S)

    async def run() -> None:
        calls = DirectCalls([hang], ToolObserver(on_event=events.append))
        task = asyncio.ensure_future(calls.call("hang", {}, 0))
        await asyncio.wait_for(began.wait(), PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [getattr(event, "outcome", "started") for event in events] == ["started", "cancelled"]


def test_a_future_of_the_pool_that_never_began_can_be_given_up(loop: ToolLoop) -> None:
    class NoPlace:
        def submit(self, call: Callable[[], object], /) -> Future[object]:
            return Future()

    cell = CellCalls(
        ToolTable([double]),
        Limits(),
        context=contextvars.copy_context(),
        async_runner=loop,
        threads=NoPlace,
        deadline=time.monotonic() + PATIENCE_S,
        observer=ToolObserver(before=lambda request: None),
    )
    cell.start(0, "double", sent(1))
    cell.close()
    assert cell.abandoned == 0
