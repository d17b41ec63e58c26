"""The loop that tools and runs of one process share: what one of them does there is its own misfortune."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing
from contextvars import copy_context
from typing import Any

import anyio
import pytest
from tests.support.waiting import wait_until

from cloche.runtime import async_runner
from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.tool_loop import ToolLoop

BOUND_S = 10.0


@pytest.fixture
def loop() -> Iterator[ToolLoop]:
    with closing(ToolLoop()) as made:
        yield made


class Neighbour:
    """A call that goes on beside another, until it is told to end."""

    def __init__(self, loop: ToolLoop) -> None:
        self._loop = loop
        self._over: anyio.Event | None = None
        begun = threading.Event()
        self.future = started(loop, lambda: self._wait(begun))
        assert begun.wait(BOUND_S)

    async def _wait(self, begun: threading.Event) -> str:
        self._over = anyio.Event()
        begun.set()
        await self._over.wait()
        return "undisturbed"

    async def _end(self) -> None:
        assert self._over is not None
        self._over.set()

    def result(self) -> object:
        """Ends it."""
        started(self._loop, self._end).result(BOUND_S)
        return self.future.result(BOUND_S)


def started(loop: ToolLoop, call: Callable[[], Awaitable[object]]) -> Future[object]:
    return loop.start(call, copy_context())


async def thread() -> threading.Thread:
    """Which the loop runs on."""
    return threading.current_thread()


async def awaits_what_was_cancelled() -> None:
    task = asyncio.ensure_future(anyio.sleep_forever())
    task.cancel()
    await task


async def cancels_itself() -> None:
    current().cancel()
    await anyio.sleep_forever()


async def cancels_itself_in_its_last_step() -> str:
    current().cancel()
    return "done"


async def leaves_a_cancel_scope_open() -> str:
    anyio.CancelScope().__enter__()
    return "done"


def raises(exc: BaseException) -> Callable[[], Awaitable[object]]:
    async def tool() -> None:
        raise exc

    return tool


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


class Odd(BaseException):
    """Of a library that knows no better."""


@pytest.mark.parametrize(
    ("call", "end"),
    [
        (awaits_what_was_cancelled, CancelledError),
        (cancels_itself, CancelledError),
        (cancels_itself_in_its_last_step, "done"),
        (leaves_a_cancel_scope_open, "done"),
        (raises(KeyboardInterrupt()), KeyboardInterrupt),
        (raises(SystemExit(1)), SystemExit),
        (raises(GeneratorExit()), CancelledError),
        (raises(Odd()), Odd),
        (raises(StopIteration(1)), RuntimeError),
        (raises(StopAsyncIteration()), StopAsyncIteration),
        (raises(BaseExceptionGroup("", [asyncio.CancelledError()])), CancelledError),
        (raises(BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()])), ExceptionGroup),
        (raises(BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])), BaseExceptionGroup),
    ],
)
def test_whatever_comes_out_of_a_call_the_loop_and_the_calls_beside_it_go_on(
    loop: ToolLoop, call: Callable[[], Awaitable[object]], end: object
) -> None:
    neighbour = Neighbour(loop)
    before = started(loop, thread).result(BOUND_S)
    try:
        outcome: object = started(loop, call).result(BOUND_S)
    except BaseException as exc:  # noqa: BLE001  # what a call raised is what is looked at
        outcome = type(exc)
    assert outcome == end
    assert neighbour.result() == "undisturbed"
    assert started(loop, thread).result(BOUND_S) is before


def test_a_future_that_is_cancelled_cancels_its_call_alone(loop: ToolLoop) -> None:
    neighbour, other = Neighbour(loop), Neighbour(loop)
    other.future.cancel()
    assert neighbour.result() == "undisturbed"


async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await anyio.sleep_forever()


async def stops_the_loop_twice() -> None:
    """Also while the loop ends: nothing that runs on it is told."""
    try:
        await stops_the_loop()
    finally:
        asyncio.get_running_loop().stop()


async def cancels_all_there_is() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await anyio.sleep_forever()


async def exits_in_a_task_of_its_own() -> None:
    async def leave() -> None:
        sys.exit()

    await asyncio.ensure_future(leave())


async def breaks_the_making_of_tasks() -> None:
    def broken(_: object, coroutine: Any, **__: Any) -> asyncio.Task[Any]:
        coroutine.close()
        raise RuntimeError("no task today")

    asyncio.get_running_loop().set_task_factory(broken)


@pytest.mark.parametrize("end", [stops_the_loop, cancels_all_there_is, exits_in_a_task_of_its_own])
def test_where_a_call_ends_the_loop_all_who_wait_are_told_and_the_next_call_has_another(
    loop: ToolLoop, end: Callable[[], Awaitable[object]]
) -> None:
    neighbour = Neighbour(loop)
    before = started(loop, thread).result(BOUND_S)
    ending = started(loop, end)
    for future in (ending, neighbour.future):
        with pytest.raises((CancelledError, SystemExit)):
            future.result(BOUND_S)
    wait_until(lambda: over(loop))
    assert started(loop, thread).result(BOUND_S) is not before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of tasks that are thrown away
def test_who_waits_for_what_a_loop_has_thrown_away_is_told(loop: ToolLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps log records, those the traceback, and that the tasks: they would go in the middle of another test.
    monkeypatch.setattr(async_runner, "_log", logging.Logger("nobody", logging.CRITICAL))
    neighbour = Neighbour(loop)
    gone = started(loop, thread).result(BOUND_S)
    started(loop, stops_the_loop_twice)
    with pytest.raises(CancelledError):
        neighbour.future.result(BOUND_S)
    assert isinstance(gone, threading.Thread)
    gone.join(BOUND_S)
    assert started(loop, thread).result(BOUND_S) is not gone
    gc.collect()


def over(loop: ToolLoop) -> bool:
    own = loop._loop  # pyright: ignore[reportPrivateUsage]
    return own is not None and own.is_over


def test_a_call_that_no_task_can_be_made_for_is_told_so(loop: ToolLoop) -> None:
    started(loop, breaks_the_making_of_tasks).result(BOUND_S)
    with pytest.raises(CancelledError):
        started(loop, thread).result(BOUND_S)
    wait_until(lambda: over(loop))
    assert started(loop, thread).result(BOUND_S)


class Made:
    """Makes tasks that are cancelled before their first step."""

    def __init__(self) -> None:
        self.one = asyncio.Event()

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        task.cancel()
        self.one.set()
        return task


def test_a_call_that_was_cancelled_before_its_first_step_is_told_so(loop: ToolLoop) -> None:
    late: list[Future[object]] = []
    made: list[Made] = []

    async def cancels_all_others() -> None:
        late.append(started(loop, thread))
        made.append(Made())
        asyncio.get_running_loop().set_task_factory(made[0])
        await made[0].one.wait()

    started(loop, cancels_all_others).result(BOUND_S)
    with pytest.raises(CancelledError):
        late[0].result(BOUND_S)


def test_a_loop_that_cannot_start_is_not_waited_for(loop: ToolLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptors(*_: object) -> None:
        raise OSError(24, "Too many open files")

    before = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(async_runner, "START_BOUND_S", 2 * BOUND_S)
        patch.setattr(anyio, "run", no_descriptors)
        with pytest.raises(RuntimeClosed, match="did not start"):
            started(loop, thread)
    assert time.monotonic() < before + BOUND_S
    assert started(loop, thread).result(BOUND_S)


def test_a_closed_loop_starts_no_other(loop: ToolLoop) -> None:
    neighbour = Neighbour(loop)
    loop.close()
    with pytest.raises(CancelledError):
        neighbour.future.result(BOUND_S)
    with pytest.raises(RuntimeClosed, match="the runtime was closed"):
        started(loop, thread)
