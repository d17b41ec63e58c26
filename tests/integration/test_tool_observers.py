"""Observers of tool calls in whole sandboxes, of both faces and in each place."""

from __future__ import annotations

from typing import Literal

import anyio
import pytest
from tests.support.deadlines import timed_out
from tests.support.places import params, where

from cloche import (
    AsyncSandbox,
    Deny,
    Edited,
    Sandbox,
    ToolFinished,
    ToolObserver,
    ToolRequest,
    ToolStarted,
    tool,
)
from cloche.runtime.tool_hooks import ToolEvent

pytestmark = pytest.mark.wasmtime
PATIENCE_S = 20.0
CODE = """
import asyncio
def safely(call):
    try:
        return call()
    except ToolError as e:
        return e.type
async def together():
    return await asyncio.gather(*(f.aio(n) for f in (double, double_later) for n in (1, 2, 3)), return_exceptions=True)
found = [safely(lambda: f(n)) for f in (double, double_later) for n in (1, 2, 3)]
found, [getattr(r, 'type', r) for r in await together()]
"""
FOUND = [2, 20, "ToolDenied"] * 2


@tool(requires_approval=lambda arguments: arguments["n"] > 1)
def double(n: int) -> int:
    return 2 * n


@tool(requires_approval=lambda arguments: arguments["n"] > 1)
async def double_later(n: int) -> int:
    await anyio.sleep(0.001)
    return 2 * n


async def approve(request: ToolRequest) -> Edited | Deny:
    await anyio.sleep(0.01)
    return Edited({"n": 10}) if request.arguments["n"] == 2 else Deny("no")


def check(value: object, events: list[ToolEvent]) -> None:
    assert value == (FOUND, FOUND)
    starts = [event.call_id for event in events if isinstance(event, ToolStarted)]
    ends = {event.call_id: event.outcome for event in events if isinstance(event, ToolFinished)}
    assert starts == sorted(ends)
    assert len(starts) == 12
    assert [ends[call_id] for call_id in starts] == ["ok", "ok", "denied"] * 4
    assert len(events) == 24


@pytest.mark.parametrize("place", params())
def test_hooks_decide_in_a_blocking_sandbox(place: str) -> None:
    events: list[ToolEvent] = []
    with Sandbox(tools=[double, double_later], **where(place)) as box:
        cell = box.run(CODE, on_tool=ToolObserver(approve=approve, on_event=events.append))
    assert cell.error is None
    check(cell.value, events)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_hooks_decide_in_an_async_sandbox(backend: Literal["asyncio", "trio"]) -> None:
    events: list[ToolEvent] = []

    async def run() -> object:
        with anyio.fail_after(PATIENCE_S):
            async with AsyncSandbox(tools=[double, double_later], isolation="thread") as box:
                cell = await box.run(CODE, on_tool=ToolObserver(approve=approve, on_event=events.append))
        return cell.value

    check(anyio.run(run, backend=backend), events)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("place", params(sampled=False))
def test_the_deadline_of_the_cell_ends_a_wait_for_approval(place: str) -> None:
    async def never(request: ToolRequest) -> bool:
        await anyio.sleep_forever()
        return True

    runs: list[list[ToolEvent]] = []
    told: list[list[ToolEvent]] = []
    with Sandbox(tools=[double, double_later], **where(place)) as box:
        for code in ("double(2)", "await double.aio(2)", "double_later(2)", "await double_later.aio(2)"):

            def run(deadline_s: float, code: str = code) -> None:
                runs.append([])
                box.run(code, deadline_s=deadline_s, on_tool=ToolObserver(approve=never, on_event=runs[-1].append))

            assert timed_out(run, lambda _error: bool(runs[-1])).state_kept
            told.append(runs[-1])
        assert box.run("double(1)").value == 2
    assert [[type(event).__name__ for event in events] for events in told] == [["ToolStarted", "ToolFinished"]] * 4
