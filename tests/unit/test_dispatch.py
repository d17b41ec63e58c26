"""Tool calls of one cell: admission, running, failing, caps and time."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import asyncio
import contextvars
import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import cast

import pytest
from pydantic import BaseModel
from tests.support.cell_calls import (
    HIDDEN,
    PATIENCE_S,
    LoopRunner,
    call,
    read,
    sent,
    start,
    wait,
    wait_for,
)

from cloche.runtime.cell import LimitHit
from cloche.runtime.dispatch import MAX_UNDELIVERED, CellCalls
from cloche.runtime.errors import ProtocolError
from cloche.runtime.protocol import ToolResult, Wait, Wake
from cloche.runtime.tools import Tool, ToolError

REACHED_S = 2.0
"""A time by which a tool has begun, also where the machine stands still for a while."""
TOO_LATE = ["LimitExceeded", f"hang did not answer within {REACHED_S:g} s"]
"""A time within which a tool has begun, also on a slow machine."""
Make = Callable[..., CellCalls]
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_later(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@dataclasses.dataclass
class Row:
    item: str


class Order(BaseModel):
    rows: list[Row]


# --- blocking calls ---------------------------------------------------------------------------------------------------


def test_a_blocking_tool_runs_on_the_serving_thread_in_the_callers_context(calls_of: Make) -> None:
    seen: list[object] = []

    def look() -> str:
        seen.append(threading.current_thread())
        return where.get()

    token = where.set("here")
    calls = calls_of(look)
    where.reset(token)

    assert call(calls, "look") == (True, "here")
    assert seen == [threading.current_thread()]


def test_an_async_tool_called_in_the_blocking_way_runs_on_the_loop_in_the_callers_context(
    calls_of: Make, runner: LoopRunner
) -> None:
    async def look() -> list[object]:
        return [where.get(), asyncio.get_running_loop() is runner.loop]

    token = where.set("here")
    calls = calls_of(look)
    where.reset(token)

    assert call(calls, "look") == (True, ["here", True])


def test_a_sync_function_that_returns_an_awaitable_is_awaited(calls_of: Make) -> None:
    calls = calls_of(Tool(lambda a: add_later(a), name="add"), Tool(lambda a: add_later(a), name="slow", timeout_s=5))

    assert call(calls, "add", 1) == (True, 2)
    assert call(calls, "slow", 1) == (True, 2)


def test_records_are_built_for_the_tool_and_come_back_as_dicts(calls_of: Make) -> None:
    def order(row: Row) -> Order:
        assert isinstance(row, Row)
        return Order(rows=[row, row])

    assert call(calls_of(order), "order", {"item": "tea"}) == (True, {"rows": [{"item": "tea"}, {"item": "tea"}]})


@pytest.mark.guarantee("G20")
def test_arguments_that_do_not_fit_never_reach_the_tool(calls_of: Make) -> None:
    seen: list[object] = []

    def take(a: int) -> None:
        seen.append(a)

    ok, value = call(calls_of(take), "take", "3")

    assert (ok, value) == (False, ["InvalidArguments", "take(): a: Input should be a valid integer"])
    assert seen == []


@pytest.mark.guarantee("G19")
def test_only_granted_tools_exist(calls_of: Make) -> None:
    calls = calls_of(add)

    for name in ("remove", "ADD", "add ", "__init__", "add\x1b[2J"):
        ok, value = call(calls, name, 1)
        assert not ok
        assert cast("list[str]", value)[0] == "UnknownTool"
        assert "\x1b" not in cast("list[str]", value)[1]


class Unspeakable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no")


class SoldOut(ToolError):
    pass


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("no such item: 'tee'"), ["ValueError", "no such item: 'tee'"]),
        (KeyError("tee"), ["KeyError", "'tee'"]),
        (ToolError("sold out"), ["ToolError", "sold out"]),
        (SoldOut("no tea"), ["SoldOut", "no tea"]),
        (ZeroDivisionError("division by zero"), ["ZeroDivisionError", "division by zero"]),
        (ValueError("a\x1b[31mb\u202e\ud800\nc"), ["ValueError", "a\\x1b[31mb\\u202e\\ud800\nc"]),
        (ValueError("x" * 5000), ["ValueError", "x" * 1997 + "..."]),
        (Unspeakable(), ["Unspeakable", "(its message cannot be shown)"]),
        (FileNotFoundError(2, "No such file", "/srv/secrets/key"), ["FileNotFoundError", HIDDEN]),
        (RuntimeError("token=abc"), ["RuntimeError", HIDDEN]),
        (SystemExit(3), ["SystemExit", HIDDEN]),
        (KeyboardInterrupt(), ["KeyboardInterrupt", HIDDEN]),
        (asyncio.CancelledError(), ["CancelledError", HIDDEN]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.guarantee("G08")
def test_a_failing_tool_gives_its_type_and_a_safe_message(
    calls_of: Make, raised: BaseException, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    def fail() -> None:
        raise raised

    calls = calls_of(fail)
    assert call(calls, "fail") == (False, told)
    assert calls.hits == {}


def test_a_hidden_message_is_logged_once_per_kind(calls_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("token=abc")

    calls = calls_of(fail)
    for _ in range(5):
        call(calls, "fail")

    assert [(record.name, record.getMessage()) for record in caplog.records] == [("cloche.tools", "tool fail failed")]


def test_validation_errors_inside_a_tool_do_not_quote_its_data(calls_of: Make) -> None:
    def parse() -> Order:
        return Order.model_validate({"rows": [{"item": 12345678}]})

    assert call(calls_of(parse), "parse") == (
        False,
        ["ValidationError", "rows.0.item: Input should be a valid string"],
    )


def test_a_result_that_cannot_cross_fails_with_the_place(calls_of: Make) -> None:
    def give() -> object:
        return {"rows": [object()]}

    assert call(calls_of(give), "give") == (False, ["CannotCross", "result of give['rows'][0]: object cannot cross"])


def test_final_answers_end_the_cell_and_no_tool_runs_after(calls_of: Make) -> None:
    calls = calls_of(add, Tool(lambda x: x, name="answer", end_cell=True))

    parsed, values = read(calls.call(0, "answer", sent(42)))

    assert (parsed, values) == (ToolResult(id=0, ok=True, end_cell=True, attachments=(6,)), [42])
    assert calls.ended_by == "answer"
    assert call(calls, "add", 1) == (False, ["CellEnded", "answer has ended the cell"])


def test_a_final_answer_that_fails_does_not_end_the_cell(calls_of: Make) -> None:
    calls = calls_of(add, Tool(lambda x: object(), name="answer", end_cell=True))

    assert call(calls, "answer", 1)[0] is False
    assert call(calls, "add", 1) == (True, 2)


# --- caps -------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G35")
def test_the_cap_on_calls_counts_refused_ones_too_and_is_told(calls_of: Make) -> None:
    calls = calls_of(add, tool_calls=2)

    assert [call(calls, name, 1)[0] for name in ("add", "nothing", "add", "add")] == [True, False, False, False]
    assert calls.hits == {"tool_calls": LimitHit("tool_calls", 4, 2)}
    assert calls.count == 4


@pytest.mark.parametrize(
    ("limits", "argument", "hit"),
    [
        ({"tool_bytes_in": 50}, "x" * 100, "tool_bytes_in"),
        ({"tool_bytes_out": 50}, "x" * 100, "tool_bytes_out"),
        ({"value_bytes": 1024}, ["x"] * 30, "value_bytes"),
        ({"value_depth": 5}, [[[[[[]]]]]], "value_depth"),
        ({"int_digits": 20}, 10**50, "int_digits"),
    ],
)
def test_a_value_over_a_cap_is_a_tool_error_and_a_limit_of_the_cell(
    calls_of: Make, limits: dict[str, object], argument: object, hit: str
) -> None:
    calls = calls_of(Tool(lambda x: x, name="echo"), **limits)

    ok, value = call(calls, "echo", argument)

    assert (ok, cast("list[str]", value)[0], list(calls.hits)) == (False, "LimitExceeded", [hit])
    assert calls.hits[hit].used > calls.hits[hit].allowed


def test_a_result_over_a_cap_is_a_tool_error_and_a_limit_of_the_cell(calls_of: Make) -> None:
    calls = calls_of(Tool(lambda: "x" * 5000, name="big"), value_bytes=1024)

    ok, value = call(calls, "big")

    assert (ok, cast("list[str]", value)[0], list(calls.hits)) == (False, "LimitExceeded", ["value_bytes"])


@pytest.mark.guarantee("G35")
def test_open_calls_are_capped_in_number_and_in_the_size_of_their_arguments(calls_of: Make) -> None:
    gate = threading.Event()

    def hold(data: str = "") -> None:
        gate.wait(PATIENCE_S)

    calls = calls_of(hold, concurrent_tool_calls=3, value_bytes=1024)
    ids = [start(calls, "hold") for _ in range(4)]
    gate.set()
    outcomes = {call_id: ok for call_id, ok, _ in wait_for(calls, 4)}
    assert outcomes == dict(zip(ids, (True, True, True, False), strict=True))
    assert calls.hits == {"concurrent_tool_calls": LimitHit("concurrent_tool_calls", 4, 3)}

    gate.clear()
    calls = calls_of(hold, concurrent_tool_calls=100, value_bytes=1024)
    ids = [start(calls, "hold", "x" * 700) for _ in range(6)]
    assert [ok for _, ok, _ in wait(calls)] == [False, False]
    assert list(calls.hits) == ["value_bytes"]
    gate.set()
    calls.close()


def test_refusals_that_nobody_waits_for_end_in_a_protocol_error(calls_of: Make) -> None:
    calls = calls_of(tool_calls=0)
    for call_id in range(MAX_UNDELIVERED):
        calls.start(call_id, "x", sent())

    with pytest.raises(ProtocolError):
        calls.start(MAX_UNDELIVERED, "x", sent())


def test_as_many_refusals_may_wait_as_the_guest_may_have_tasks(calls_of: Make) -> None:
    calls = calls_of(tool_calls=0, tasks=MAX_UNDELIVERED + 5)
    for call_id in range(MAX_UNDELIVERED + 5):
        calls.start(call_id, "x", sent())

    with pytest.raises(ProtocolError):
        calls.start(MAX_UNDELIVERED + 5, "x", sent())


def test_many_outcomes_come_in_frames_of_bounded_size(calls_of: Make) -> None:
    calls = calls_of(tool_calls=0)
    ids = [start(calls, "x") for _ in range(1000)]

    sizes: list[int] = []
    found: list[int] = []
    while len(found) < 1000:
        news = wait(calls, PATIENCE_S)
        sizes.append(len(news))
        found += [call_id for call_id, _, _ in news]
    assert found == ids
    assert max(sizes) == 256


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G35")
def test_an_async_tool_over_its_time_is_cancelled_and_told(calls_of: Make) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cancelled.set()

    calls = calls_of(hang, tool_s=REACHED_S)

    assert call(calls, "hang") == (False, TOO_LATE)
    assert cancelled.wait(PATIENCE_S)
    assert list(calls.hits) == ["tool_s"]


def test_a_blocking_tool_with_its_own_timeout_is_left_behind(calls_of: Make) -> None:
    gate = threading.Event()
    calls = calls_of(Tool(lambda: gate.wait(PATIENCE_S), name="hang", timeout_s=REACHED_S))

    ok, value = call(calls, "hang")
    gate.set()

    assert (ok, value) == (False, TOO_LATE)
    assert calls.abandoned == 1


def test_a_concurrent_call_over_its_time_fails_at_the_wait(calls_of: Make) -> None:
    async def hang() -> None:
        await asyncio.sleep(PATIENCE_S)

    calls = calls_of(hang, tool_s=REACHED_S)
    call_id = start(calls, "hang")

    assert wait(calls) == [(call_id, False, TOO_LATE)]


def test_a_timer_ends_the_wait_and_a_sleep_hears_no_results(calls_of: Make) -> None:
    calls = calls_of(add)
    call_id = start(calls, "add", 1)

    assert read(calls.wait(Wait(timeout_s=REACHED_S, any_result=False))) == (Wake(results=()), [])
    assert wait(calls, 0) == [(call_id, True, 2)]
    assert wait(calls, 0.001) == []


@pytest.mark.parametrize("timeout_s", [None, 1e300, 1e9])
def test_no_wait_outlasts_the_deadline(calls_of: Make, timeout_s: float | None) -> None:
    calls = calls_of(deadline_s=0.02)

    assert wait(calls, timeout_s) == []


def test_usage_is_counted(calls_of: Make) -> None:
    calls = calls_of(add)
    call(calls, "add", 1)
    call(calls, "add", 1)

    assert (calls.count, calls.bytes_in, calls.bytes_out) == (2, 2 * len(sent(1)), 2 * 6)
    assert calls.seconds > 0
