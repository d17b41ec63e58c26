"""The face for `await` over a scripted worker, on asyncio and trio: same calls, same errors, the loop stays free."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest

from cloche import (
    AsyncRuntime,
    AsyncSandbox,
    ConfigError,
    PoolExhausted,
    Runtime,
    Sandbox,
    SandboxBusy,
    SandboxClosed,
    TimedOut,
    WorkerCrashed,
)
from cloche.runtime.fake_link import FakeCell, FakeSource, Script, answer, crash, loop_in_c, loop_in_python
from cloche.runtime.protocol import ToolCall, ToolResult, ToolStart, Wait, Wake
from cloche.runtime.values import ValueLimits, decode, encode

BOUND_S = 60.0
NO_ARGUMENTS: list[object] = [[], {}]
T = TypeVar("T")


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Runs an async function on a fresh loop of each kind, within a bound."""

    def runner(main: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with anyio.fail_after(BOUND_S):
                return await main()

        return anyio.run(bounded, backend=request.param)

    return runner


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def runtime_of(source: FakeSource, max_sandboxes: int = 100) -> AsyncRuntime:
    return AsyncRuntime(sources={"process": source}, max_sandboxes=max_sandboxes)


def call_tool(name: str) -> Script:
    """A cell whose value is the outcome of one blocking tool call."""

    def script(cell: FakeCell) -> None:
        answer_, parts = cell.ask(ToolCall(id=1, name=name), encode(NO_ARGUMENTS, ValueLimits()))
        assert isinstance(answer_, ToolResult)
        cell.finish([answer_.ok, decode(parts[0], ValueLimits())])

    return script


def gather_tools(name: str, count: int) -> Script:
    """A cell that has `count` `.aio` calls open at once and counts their good outcomes."""

    def script(cell: FakeCell) -> None:
        for number in range(count):
            cell.send(ToolStart(id=number, name=name), encode(NO_ARGUMENTS, ValueLimits()))
        good = 0
        while good < count:
            answer_, _ = cell.ask(Wait(timeout_s=None, any_result=True))
            assert isinstance(answer_, Wake)
            good += sum(outcome.ok for outcome in answer_.results)
        cell.finish(good)

    return script


@pytest.mark.parametrize(("blocking", "waiting"), [(Sandbox, AsyncSandbox), (Runtime, AsyncRuntime)])
def test_both_faces_have_the_same_methods_and_signatures(blocking: type, waiting: type) -> None:
    def public(face: type) -> dict[str, inspect.Signature]:
        found = inspect.getmembers(face, inspect.isfunction)
        return {
            name: inspect.signature(method).replace(return_annotation=None)
            for name, method in found
            if not name.startswith("_") or name == "__init__"
        }

    assert public(blocking) == public(waiting)


def test_a_cell_gives_its_value_and_files_go_in_and_out(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        source.scripts = (answer(42, stdout="hello"),)
        async with runtime_of(source) as runtime, runtime.sandbox() as box:
            cell = await box.run("6 * 7")
            assert (cell.value, cell.stdout) == (42, "hello")
            await box.write_file("a", b"x")
            assert await box.read_file("a") == b"x"
            assert await box.list_files() == ["a"]
            assert repr(box) == "<AsyncSandbox wasmtime/process open>"
        assert source.leased[0].closed
        assert source.closed

    run(main)


def test_the_loop_stays_free_while_a_cell_runs(run: Callable[..., object], source: FakeSource) -> None:
    go = threading.Event()

    def gated(cell: FakeCell) -> None:
        go.wait(BOUND_S)
        cell.finish("after")

    async def main() -> None:
        source.scripts = (gated,)
        async with runtime_of(source) as runtime, runtime.sandbox() as box, anyio.create_task_group() as group:

            async def release() -> None:
                with pytest.raises(SandboxBusy):
                    await box.run("2")
                go.set()

            group.start_soon(release)
            assert (await box.run("...")).value == "after"

    run(main)


def test_async_tools_run_on_the_loop_of_the_caller_with_its_context_variables(
    run: Callable[..., object], source: FakeSource
) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    threads: list[int] = []

    async def whoami() -> str:
        threads.append(threading.get_ident())
        await anyio.lowlevel.checkpoint()
        return who.get()

    async def main() -> None:
        source.scripts = (call_tool("whoami"),)
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[whoami]) as box:
            who.set("caller")
            assert (await box.run("...")).value == [True, "caller"]
        assert threads == [threading.get_ident()]

    run(main)


def test_async_tools_run_side_by_side(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        together = 0
        all_there = anyio.Event()

        async def meet() -> None:
            nonlocal together
            together += 1
            if together == 5:
                all_there.set()
            await all_there.wait()

        source.scripts = (gather_tools("meet", 5),)
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[meet]) as box:
            assert (await box.run("...")).value == 5

    run(main)


def test_an_async_tool_that_fails_is_data_and_the_loop_lives(run: Callable[..., object], source: FakeSource) -> None:
    async def broken() -> None:
        raise ValueError("no such item")

    async def main() -> None:
        source.scripts = (call_tool("broken"),)
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[broken]) as box:
            assert (await box.run("...")).value == [False, ["ValueError", "no such item"]]

    run(main)


@pytest.mark.usefixtures("patient")
def test_a_deadline_cancels_an_async_tool_and_keeps_the_state(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        cancelled = anyio.Event()

        async def hang() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        source.scripts = (call_tool("hang"), answer("alive"))
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[hang]) as box:
            with pytest.raises(TimedOut) as caught:
                await box.run("hang()", deadline_s=3)  # the tool begins before
            assert caught.value.state_kept
            assert cancelled.is_set()
            assert (await box.run("1")).value == "alive"

    run(main)


async def cancelled_once_it_runs(box: AsyncSandbox, source: FakeSource) -> bool:
    """Run a cell in a scope that is cancelled when the worker serves it; whether the cell saw the cancellation."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                while not source.leased[0].served:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            group.start_soon(cancel)
            await box.run("...")
    return scope.cancelled_caught


@pytest.mark.usefixtures("patient")
def test_cancelling_the_task_interrupts_the_guest_and_the_sandbox_lives(
    run: Callable[..., object], source: FakeSource
) -> None:
    async def main() -> None:
        source.scripts = (loop_in_python, answer("alive"))
        async with runtime_of(source) as runtime, runtime.sandbox() as box:
            assert await cancelled_once_it_runs(box, source)
            assert source.leased[0].interrupts == 1
            assert (await box.run("1")).value == "alive"

    run(main)


@pytest.mark.usefixtures("short_graces")
def test_cancelling_the_task_kills_a_guest_that_is_deaf_to_it(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        source.scripts = (loop_in_c,)
        async with runtime_of(source) as runtime, runtime.sandbox() as box:
            assert await cancelled_once_it_runs(box, source)
            assert source.leased[0].gone.is_set()
            with pytest.raises(SandboxClosed, match="cancelled"):
                await box.run("1")

    run(main)


def test_interrupt_from_another_task_is_data(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        source.scripts = (loop_in_python,)
        async with runtime_of(source) as runtime, runtime.sandbox() as box, anyio.create_task_group() as group:

            async def stop() -> None:
                while not source.leased[0].served:
                    await anyio.lowlevel.checkpoint()
                box.interrupt()

            group.start_soon(stop)
            cell = await box.run("while True: pass")
            assert cell.error is not None
            assert cell.error.type == "KeyboardInterrupt"

    run(main)


def test_a_crash_is_raised_and_reset_revives(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        source.scripts = (crash(9),)
        async with runtime_of(source) as runtime, runtime.sandbox() as box:
            with pytest.raises(WorkerCrashed):
                await box.run("1")
            source.scripts = (answer("new"),)
            await box.reset()
            assert (await box.run("1")).value == "new"

    run(main)


def test_many_tasks_share_a_runtime(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        source.scripts = (answer(1),)
        seen: list[object] = []
        async with runtime_of(source) as runtime:

            async def work() -> None:
                async with runtime.sandbox() as box:
                    seen.extend([(await box.run("1")).value for _ in range(5)])

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(work)
            assert runtime.sandboxes == 0
        assert seen == [1] * 100

    run(main)


def test_errors_of_the_call_are_raised_bare_and_not_in_a_group(run: Callable[..., object], source: FakeSource) -> None:
    def noop() -> None:
        return None

    async def main() -> None:
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[noop]) as box:
            with pytest.raises(ConfigError, match="deadline_s"):
                await box.run("1", deadline_s=-1)

    run(main)


def test_a_sandbox_that_was_not_entered_says_so(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        async with runtime_of(source) as runtime:
            box = runtime.sandbox()
            with pytest.raises(SandboxClosed, match="async with"):
                await box.run("1")
            await box.close()

    run(main)


def test_a_full_runtime_refuses_to_enter(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        async with runtime_of(source, max_sandboxes=1) as runtime, runtime.sandbox():
            with pytest.raises(PoolExhausted):
                async with runtime.sandbox():
                    raise AssertionError("entered")
            assert runtime.sandboxes == 1

    run(main)


def test_the_image_is_prepared_beside_the_loop_before_the_first_sandbox(
    run: Callable[..., object], source: FakeSource
) -> None:
    threads: list[int] = []

    class Cold(FakeSource):
        def prepare(self) -> None:
            threads.append(threading.get_ident())
            self.prepared = True

    async def main() -> None:
        cold = Cold()
        cold.prepared = False
        async with runtime_of(cold) as runtime:
            async with runtime.sandbox() as box:
                assert (await box.run("1")).ok
            async with runtime.sandbox() as box:
                assert (await box.run("1")).ok
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()

    run(main)


def test_an_async_tool_is_cancelled_when_the_worker_dies(run: Callable[..., object], source: FakeSource) -> None:
    async def main() -> None:
        ended = anyio.Event()
        started = threading.Event()

        async def endless() -> None:
            started.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

        def dies(cell: FakeCell) -> None:
            cell.send(ToolStart(id=1, name="endless"), encode(NO_ARGUMENTS, ValueLimits()))
            assert started.wait(BOUND_S)
            raise WorkerCrashed("the worker is gone", exit_status=-9)

        source.scripts = (dies,)
        async with runtime_of(source) as runtime, runtime.sandbox(tools=[endless]) as box:
            with pytest.raises(WorkerCrashed):
                await box.run("never mind")
            with anyio.fail_after(BOUND_S):
                await ended.wait()

    run(main)
