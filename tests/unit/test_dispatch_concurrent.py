"""Tool calls of one cell that run side by side, and what an abort does to them."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import pytest
from tests.support.cell_calls import (
    HIDDEN,
    PATIENCE_S,
    VALUES,
    call,
    cell_of,
    read,
    sent,
    start,
    wait,
    wait_for,
)

from cloche.runtime.dispatch import CellCalls
from cloche.runtime.errors import ProtocolError
from cloche.runtime.protocol import Wait, Wake
from cloche.runtime.values import encode

Make = Callable[..., CellCalls]


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_later(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


# --- concurrent calls -------------------------------------------------------------------------------------------------


def test_calls_side_by_side_are_told_as_they_finish(calls_of: Make) -> None:
    gate = asyncio.Event()

    async def slow() -> str:
        await asyncio.wait_for(gate.wait(), PATIENCE_S)
        return "slow"

    async def let_go() -> None:
        gate.set()

    calls = calls_of(slow, let_go, add_later, add)
    a, b, c = start(calls, "slow"), start(calls, "add_later", 1), start(calls, "add", 2)

    assert sorted(wait_for(calls, 2)) == [(b, True, 2), (c, True, 3)]
    call(calls, "let_go")
    assert wait_for(calls, 1) == [(a, True, "slow")]


def test_a_call_that_finishes_during_a_blocking_call_is_told_at_the_next_wait(calls_of: Make) -> None:
    calls = calls_of(add, add_later)
    started = start(calls, "add", 1)

    assert call(calls, "add_later", 5) == (True, 6)
    assert wait_for(calls, 1) == [(started, True, 2)]


def test_failures_of_concurrent_calls_are_told_like_those_of_blocking_ones(calls_of: Make) -> None:
    async def fail() -> None:
        raise ValueError("no")

    calls = calls_of(fail, add)
    a, b, c = start(calls, "fail"), start(calls, "add", "x"), start(calls, "nothing")

    assert sorted(wait_for(calls, 3)) == [
        (a, False, ["ValueError", "no"]),
        (b, False, ["InvalidArguments", "add(): a: Input should be a valid integer"]),
        (c, False, ["UnknownTool", "no tool is named 'nothing' here"]),
    ]


def test_a_cancelled_async_call_is_cancelled_on_the_loop_and_never_told(calls_of: Make) -> None:
    running, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        running.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    calls = calls_of(hang)
    call_id = start(calls, "hang")
    assert running.wait(PATIENCE_S)
    calls.cancel(call_id)

    assert cancelled.wait(PATIENCE_S)
    assert wait(calls, 0) == []
    assert calls.abandoned == 0


def test_a_blocking_call_that_runs_cannot_be_stopped_and_is_counted(calls_of: Make) -> None:
    running, gate = threading.Event(), threading.Event()

    def hang() -> None:
        running.set()
        gate.wait(PATIENCE_S)

    calls = calls_of(hang)
    start(calls, "hang")
    assert running.wait(PATIENCE_S)
    calls.close()
    gate.set()

    assert calls.abandoned == 1
    assert wait(calls, 0) == []


def test_an_outcome_can_be_cancelled_before_it_is_told_but_not_after(calls_of: Make) -> None:
    calls = calls_of(add)
    refused, done = start(calls, "nothing"), start(calls, "add", 1)
    calls.cancel(refused)
    assert wait_for(calls, 1) == [(done, True, 2)]

    for call_id in (refused, done, 99):
        with pytest.raises(ProtocolError, match="tool_cancel of a call that is not open"):
            calls.cancel(call_id)


@pytest.mark.parametrize("again", [0, 5])
def test_ids_must_rise_over_both_kinds_of_call(calls_of: Make, again: int) -> None:
    calls = calls_of(add)
    calls.call(5, "add", sent(1))

    with pytest.raises(ProtocolError, match="ids of tool calls must rise"):
        calls.start(again, "add", sent(1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0N",
        encode([1, 2], VALUES),
        encode([[], {1: 2}], VALUES),
        encode([[], {}, 1], VALUES),
        encode([[]], VALUES),
    ],
)
def test_arguments_in_another_form_than_stubs_send_are_a_protocol_error(calls_of: Make, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        calls_of(add).call(0, "add", memoryview(payload))


# --- stopping ---------------------------------------------------------------------------------------------------------


def run_and_abort(calls: CellCalls, action: Callable[[], object], when: threading.Event | None) -> object:
    """Do something that waits, on another thread; abort when it waits; what it gave."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(action)
        assert when is None or when.wait(PATIENCE_S)
        calls.abort()
        return future.result(PATIENCE_S)


def test_an_abort_wakes_a_wait_at_once_and_cancels_what_is_open(calls_of: Make) -> None:
    running, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        running.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cancelled.set()

    calls = calls_of(hang, deadline_s=1000)
    start(calls, "hang")
    before = time.monotonic()

    run_and_abort(calls, lambda: calls.wait(Wait(timeout_s=None, any_result=True)), running)

    assert time.monotonic() - before < PATIENCE_S / 2
    assert cancelled.wait(PATIENCE_S)


def test_an_abort_wakes_a_sleep(calls_of: Make) -> None:
    calls = calls_of(deadline_s=1000)

    answer = run_and_abort(calls, lambda: calls.wait(Wait(timeout_s=900.0, any_result=False)), None)

    assert read(cast("bytes", answer)) == (Wake(results=()), [])


def test_an_abort_wakes_a_blocking_call_of_an_async_tool(calls_of: Make) -> None:
    running = threading.Event()

    async def hang() -> None:
        running.set()
        await asyncio.sleep(PATIENCE_S)

    calls = calls_of(hang, deadline_s=1000)

    assert run_and_abort(calls, lambda: call(calls, "hang"), running) == (
        False,
        ["Interrupted", "the cell was stopped"],
    )


def test_after_an_abort_no_tool_runs_and_nothing_waits(calls_of: Make) -> None:
    calls = calls_of(add)
    calls.abort()

    assert call(calls, "add", 1) == (False, ["Interrupted", "the cell was stopped"])
    call_id = start(calls, "add", 1)
    assert wait(calls, PATIENCE_S) == [(call_id, False, ["Interrupted", "the cell was stopped"])]
    assert wait(calls) == []


def test_a_closed_loop_is_the_tools_failure_and_not_the_hosts(
    calls_of: Make, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    class Closed:
        def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
            raise RuntimeError("Event loop is closed")

    calls = cell_of(Closed(), pool, [add_later])

    assert call(calls, "add_later", 1) == (False, ["RuntimeError", HIDDEN])
