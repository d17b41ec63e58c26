"""Async tools on the caller's loop, on asyncio and trio: how their serving ends, and what comes out of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.support.waiting import wait_until

from cloche import AsyncRuntime
from cloche.runtime.async_runner import LoopRunner
from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.fake_link import FakeCell, FakeSource, Script
from cloche.runtime.loop_hook import LoopHook
from cloche.runtime.protocol import ToolCall, ToolResult, ToolStart
from cloche.runtime.values import ValueLimits, decode, encode

BOUND_S = 10.0
NO_ARGUMENTS: list[object] = [[], {}]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def runner(main: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            with anyio.fail_after(BOUND_S):
                await main()

        anyio.run(bounded, backend=request.param)

    return runner


async def nothing() -> None:
    """For who must not begin."""


def test_after_the_end_of_its_serving_nothing_waits_for_the_callers_loop(run: Callable[..., None]) -> None:
    async def main() -> None:
        runner = LoopRunner(LoopHook())
        await runner.serve(anyio.lowlevel.checkpoint)
        with pytest.raises(RuntimeClosed):
            runner.start(nothing, copy_context())

    run(main)


class Asked(deque[Any]):
    """The serving ends just before an entry, or just after."""

    def __init__(self, runner: LoopRunner, *, before: bool) -> None:
        super().__init__()
        self.runner = runner
        self.before = before
        self.seen: list[Future[object]] = []

    def append(self, entry: tuple[Future[object], object, object]) -> None:
        if self.before:
            self.runner.shut()
        super().append(entry)
        self.seen.append(entry[0])
        if not self.before:
            self.runner.shut()


@pytest.mark.parametrize("before", [True, False])
def test_what_is_asked_for_while_the_serving_ends_is_cancelled(run: Callable[..., None], before: bool) -> None:
    async def main() -> None:
        runner = LoopRunner(LoopHook())
        runner._asked = asked = Asked(runner, before=before)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(RuntimeClosed):
            runner.start(nothing, copy_context())
        assert [future.cancelled() for future in asked.seen] == [True]

    run(main)


class Odd(BaseException):
    """Of a library that knows no better."""


async def odd() -> None:
    raise Odd


def test_what_is_no_failure_of_a_tool_still_comes_out_on_the_callers_loop(run: Callable[..., None]) -> None:
    """Such as the KeyboardInterrupt of a Ctrl-C, which comes wherever the main thread is."""

    async def main() -> None:
        runner = LoopRunner(LoopHook())
        futures: list[Future[object]] = []

        async def body() -> None:
            futures.append(runner.start(odd, copy_context()))
            await runner.wait_until(lambda: False)

        with pytest.raises(BaseExceptionGroup) as raised:
            await runner.serve(body)
        assert raised.group_contains(Odd)
        assert futures[0].cancelled()

    run(main)


# --- in sandboxes -----------------------------------------------------------------------------------------------------


def calls_of(*names: str) -> Script:
    """A cell whose value is what its calls of these tools gave, one after the other."""

    def script(cell: FakeCell) -> None:
        told: list[object] = []
        for number, name in enumerate(names):
            answer, parts = cell.ask(ToolCall(id=number, name=name), encode(NO_ARGUMENTS, ValueLimits()))
            assert isinstance(answer, ToolResult)
            told.append(decode(parts[0], ValueLimits()))
        cell.finish(told)

    return script


def runtime_of(script: Script) -> AsyncRuntime:
    return AsyncRuntime(sources={"process": FakeSource(script)})


def test_a_tool_that_lets_out_a_cancellation_of_its_own_ends_no_cell(run: Callable[..., None]) -> None:
    async def stray() -> None:
        """As one that awaits a task which something else has cancelled."""
        kept: list[BaseException] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except anyio.get_cancelled_exc_class() as exc:
                kept.append(exc)
                raise
        raise kept[0]

    async def fine() -> str:
        return "fine"

    async def main() -> None:
        async with runtime_of(calls_of("stray", "fine")) as runtime, runtime.sandbox(tools=[stray, fine]) as box:
            cell = await box.run("...")
            assert (cell.value, cell.interrupted) == ([["Interrupted", "the call was cancelled"], "fine"], False)

    run(main)


def test_cancelling_the_task_passes_through_its_tools(run: Callable[..., None]) -> None:
    async def main() -> None:
        ended: list[str] = []

        async def hang() -> None:
            scope.cancel()
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("tool")

        async with runtime_of(calls_of("hang")) as runtime, runtime.sandbox(tools=[hang]) as box:
            with anyio.CancelScope() as scope:
                await box.run("...")
                ended.append("cell")
            assert scope.cancelled_caught
            assert ended == ["tool"]

    run(main)


def test_a_tools_thread_is_free_when_it_has_something_to_await_after_the_end_of_its_cell(
    run: Callable[..., None],
) -> None:
    class Never:
        def __await__(self) -> Generator[object, object, None]:
            raise AssertionError("awaited")

    running, go_on = threading.Event(), threading.Event()

    def slow() -> object:
        running.set()
        assert go_on.wait(BOUND_S)
        return Never()

    def leaves_it(cell: FakeCell) -> None:
        cell.send(ToolStart(id=0, name="slow"), encode(NO_ARGUMENTS, ValueLimits()))
        assert running.wait(BOUND_S)
        cell.finish()

    async def main() -> None:
        async with runtime_of(leaves_it) as runtime, runtime.sandbox(tools=[slow]) as box:
            assert (await box.run("...")).usage.tools_abandoned == 1
            go_on.set()
            wait_until(lambda: runtime.core.tool_threads.running == 0, BOUND_S / 2)  # without the loop

    run(main)
