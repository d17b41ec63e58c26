"""Hooks around tool calls, and approval: on the serving thread, beside it, without a sandbox."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.cell_calls import PATIENCE_S, cell_of, sent
from tests.support.tool_ways import Ways, blocking_call, double, pay

from cloche import Allow, Deny, Edited, Tool, ToolFinished, ToolObserver, ToolRequest, tool
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.protocol import ToolResult, parse_to_worker
from cloche.runtime.tool_hooks import ToolEvent
from cloche.runtime.tool_loop import ToolLoop

NOBODY = "needs approval, and nobody is here to give it"


async def double_later(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


DOUBLES = (double, double_later)
NAMES = ("double", "double_later")


# --- before and after -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [None, True, Allow()])
def test_a_hook_before_the_call_sees_what_it_is_and_lets_it_pass(way: Ways, name: str, answer: Any) -> None:
    seen: list[ToolRequest] = []

    def before(request: ToolRequest) -> Any:
        seen.append(request)
        return answer

    here = way(*DOUBLES, observer=ToolObserver(before=before, context="run 7"))
    assert here.call(name, n=4) == (True, 8)
    (request,) = seen
    assert (request.tool.name, dict(request.arguments), request.context) == (name, {"n": 4}, "run 7")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Edited({"n": 100}), (True, 200)),
        (Deny("not today"), (False, ["ToolDenied", "not today"])),
        (False, (False, ["ToolDenied", "not approved"])),
        (Edited({"n": "text"}), (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
        (Edited({"m": 1}), (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
        ("yes", (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
    ],
)
def test_a_hook_may_edit_or_deny_and_fails_closed(way: Ways, name: str, answer: Any, outcome: Any) -> None:
    for hook in (lambda request: answer, asynchronous(lambda request: answer)):
        ok, value = way(*DOUBLES, observer=ToolObserver(before=hook)).call(name, n=1)
        expected = outcome[1] if outcome[0] else [text.format(name) for text in outcome[1]]
        assert (ok, value) == (outcome[0], expected)


def asynchronous(hook: Callable[..., object]) -> Callable[..., Awaitable[Any]]:
    async def later(*args: object) -> object:
        await asyncio.sleep(0)
        return hook(*args)

    return later


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_raises_denies_the_call_and_its_message_stays_here(
    way: Ways, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def before(request: ToolRequest) -> None:
        raise RuntimeError("secret of the host")

    ok, value = way(*DOUBLES, observer=ToolObserver(before=before)).call(name, n=1)
    assert (ok, value) == (False, ["ToolDenied", f"{name} could not be approved; the reason stays on the host"])
    assert "secret of the host" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_after_the_call_may_change_the_result_within_its_type(way: Ways, name: str) -> None:
    for make in (lambda hook: hook, asynchronous):
        plus = way(*DOUBLES, observer=ToolObserver(after=make(lambda request, result: result + request.arguments["n"])))
        assert plus.call(name, n=1) == (True, 3)
        wrong = way(*DOUBLES, observer=ToolObserver(after=make(lambda request, result: str(result))))
        ok, value = wrong.call(name, n=1)
        assert not ok
        assert isinstance(value, list)
        assert value[0] == "InvalidResult"


def test_a_hook_waits_without_a_thread_hop_when_it_answers_at_once(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    threads: list[threading.Thread] = []
    observer = ToolObserver(before=lambda request: threads.append(threading.current_thread()))
    assert blocking_call(cell_of(loop, pool, DOUBLES, observer), "double", 2) == (True, 4)
    assert threads == [threading.current_thread()]


# --- approval ---------------------------------------------------------------------------------------------------------


@tool(requires_approval=True, destructive=True)
async def wipe(path: str = "/") -> str:
    return f"wiped {path}"


def test_without_a_hook_what_needs_approval_is_denied(way: Ways) -> None:
    here = way(pay, wipe)
    assert here.call("pay", amount=10) == (True, "paid 10")
    assert here.call("pay", amount=11) == (False, ["ToolDenied", f"pay {NOBODY}"])
    assert here.call("wipe") == (False, ["ToolDenied", f"wipe {NOBODY}"])


@pytest.mark.parametrize("make", [lambda hook: hook, asynchronous], ids=["sync", "async"])
def test_approval_is_asked_for_the_calls_that_need_it_and_only_a_yes_is_one(
    way: Ways, make: Callable[..., Any]
) -> None:
    answers: dict[int, object] = {11: True, 12: Allow(), 13: Edited({"amount": 5}), 14: None, 15: False, 16: Deny("no")}
    asked: list[object] = []

    def approve(request: ToolRequest) -> object:
        asked.append(request.arguments["amount"])
        return answers[int(str(request.arguments["amount"]))]

    here = way(pay, observer=ToolObserver(approve=make(approve)))
    results = [here.call("pay", amount=amount) for amount in range(10, 17)]
    assert asked == [11, 12, 13, 14, 15, 16]
    assert results == [
        (True, "paid 10"),
        (True, "paid 11"),
        (True, "paid 12"),
        (True, "paid 5"),
        (False, ["ToolDenied", "pay could not be approved; the reason stays on the host"]),
        (False, ["ToolDenied", "not approved"]),
        (False, ["ToolDenied", "no"]),
    ]


def test_a_predicate_that_fails_denies(way: Ways) -> None:
    careless = Tool(double, requires_approval=lambda arguments: arguments["m"] > 1)
    ok, value = way(careless, observer=ToolObserver(approve=lambda request: True)).call("double", n=1)
    assert (ok, value) == (False, ["ToolDenied", "double could not be approved; the reason stays on the host"])


def test_arguments_that_do_not_fit_reach_no_hook(way: Ways) -> None:
    asked: list[ToolRequest] = []

    def note(request: ToolRequest) -> bool:
        asked.append(request)
        return True

    ok, value = way(pay, observer=ToolObserver(before=note, approve=note)).call("pay", amount="all")
    assert not ok
    assert isinstance(value, list)
    assert value[0] == "InvalidArguments"
    assert asked == []


def test_a_denial_may_end_the_run_and_then_no_tool_runs(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    events: list[ToolEvent] = []
    observer = ToolObserver(on_event=events.append, approve=lambda request: Deny("stop", end_run=True))
    cell = cell_of(loop, pool, (pay, double), observer)
    parsed, _ = parse_to_worker(cell.call(0, "pay", sent(20)), max_bytes=10**9)
    assert isinstance(parsed, ToolResult)
    assert (parsed.ok, parsed.end_cell, cell.ended_by) == (False, True, "pay")
    assert blocking_call(cell, "double", 1) == (False, ["CellEnded", "pay has ended the cell"])
    ends = [event for event in events if isinstance(event, ToolFinished)]
    assert [(event.outcome, event.ends_run) for event in ends] == [("denied", True), ("refused", False)]


def test_an_abort_wakes_a_call_that_waits_for_approval(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    asked = threading.Event()

    async def approve(request: ToolRequest) -> bool:
        asked.set()
        await asyncio.sleep(PATIENCE_S)
        return True

    observer = ToolObserver(approve=approve)
    cell = cell_of(loop, pool, (pay,), observer)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(blocking_call(cell, "pay", 20)))
    thread.start()
    assert asked.wait(PATIENCE_S)
    cell.abort()
    thread.join(PATIENCE_S)
    assert results == [(False, ["Interrupted", "the cell was stopped"])]


def test_no_tool_begins_after_an_abort_that_came_while_a_hook_decided(loop: ToolLoop) -> None:
    ran: list[object] = []
    noting = Tool(lambda: ran.append(1), name="noting")

    def stop_and_allow(request: ToolRequest) -> bool:
        cell.abort()
        decided.set()
        return True

    for call in (blocking_call, lambda cell, name: cell.start(0, name, sent())):
        decided = threading.Event()
        with ThreadPoolExecutor(1) as own:
            cell = cell_of(loop, own, (noting,), ToolObserver(before=stop_and_allow))
            call(cell, "noting")
            assert decided.wait(PATIENCE_S)
            cell.close()
    assert ran == []


def test_an_aio_call_that_waits_for_approval_holds_no_thread_after_the_cell(loop: ToolLoop) -> None:
    asked = threading.Event()

    async def approve(request: ToolRequest) -> bool:
        asked.set()
        await asyncio.sleep(PATIENCE_S)
        return True

    for stop in (CellCalls.abort, CellCalls.close):
        asked.clear()
        with ThreadPoolExecutor(1) as pool:  # leaving it waits for its thread
            started = time.monotonic()
            cell = cell_of(loop, pool, (pay,), ToolObserver(approve=approve))
            cell.start(0, "pay", sent(20))
            assert asked.wait(PATIENCE_S)
            stop(cell)
            cell.close()
        assert time.monotonic() - started < PATIENCE_S
        assert cell.abandoned == 0
