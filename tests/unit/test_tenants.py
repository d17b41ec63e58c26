"""Cells of tenants take turns: which count, which wait, what ends a wait and how it says so; with scripted workers."""

from __future__ import annotations

# pyright: reportDeprecated=false, reportPossiblyUnboundVariable=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownParameterType=false, reportPrivateUsage=false
# looks into accounts
import threading

import anyio
import pytest
from tests.support.background import BOUND_S, InBackground, wait_for
from tests.support.tenants import ONE_AT_ONCE, Gate, gated, in_lane, runtime_of

from cloche import (
    AsyncRuntime,
    PoolExhausted,
    Sandbox,
    SandboxClosed,
    TenantLimits,
    TenantUse,
    TimedOut,
)
from cloche.runtime.fake_link import FakeCell, FakeSource, answer, loop_in_python
from cloche.runtime.protocol import ToolCall
from cloche.runtime.values import ValueLimits, encode


@pytest.mark.guarantee("G38")
def test_a_sandbox_knows_whose_it_is() -> None:
    with runtime_of(FakeSource()) as runtime, runtime.sandbox(tenant="acme") as box, runtime.sandbox() as ours:
        assert (box.tenant, ours.tenant) == ("acme", None)
    with runtime_of(FakeSource()) as runtime, Sandbox(tenant="acme", runtime=runtime) as box:
        assert runtime.tenants() == {"acme": TenantUse(sandboxes=1, running_cells=0, waiting=0)}


def test_cells_over_the_cap_wait_and_run_in_the_order_they_came() -> None:
    with gated() as (runtime, gate):
        boxes = [runtime.sandbox(tenant="acme") for _ in range(4)]
        runs: list[InBackground] = []
        for number, box in enumerate(boxes):
            runs.append(InBackground(lambda box=box, number=number: box.run(str(number))))  # type: ignore[misc]
            wait_for(lambda number=number: in_lane(runtime) == number + 1)  # type: ignore[misc]
        gate.wait_entered()
        assert runtime.tenants() == {"acme": TenantUse(sandboxes=4, running_cells=1, waiting=3)}
        gate.let_go.set()
        for run in runs:
            assert run.join().error is None
        assert (gate.order, gate.most) == (["0", "1", "2", "3"], 1)
        assert runtime.tenants() == {"acme": TenantUse(4, 0, 0)}


def test_the_wait_counts_in_wall_s_and_is_told_apart() -> None:
    with gated() as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        waiting = InBackground(lambda: second.run("2"))
        wait_for(lambda: runtime.tenants()["acme"].waiting == 1)
        gate.let_go.set()
        usage = waiting.join().result.usage  # type: ignore[attr-defined]  # a Cell
        assert 0 < usage.waited_s <= usage.wall_s
        assert running.join().result.usage.waited_s < usage.waited_s  # type: ignore[attr-defined]


@pytest.mark.guarantee("G31")
def test_other_tenants_and_the_host_itself_do_not_wait() -> None:
    with gated() as (runtime, gate):
        boxes = [runtime.sandbox(tenant=name) for name in ("a", "b", None, None)]
        runs = [InBackground(lambda box=box: box.run("1")) for box in boxes]  # type: ignore[misc]
        for _ in boxes:
            gate.wait_entered()
        assert gate.most == 4
        gate.let_go.set()
        assert [run.join().error for run in runs] == [None] * 4


def test_a_cell_whose_turn_does_not_come_is_refused_and_the_sandbox_stays_as_it_was() -> None:
    with gated(TenantLimits(sandboxes=8, running_cells=1, wait_s=0.02)) as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        for _ in range(2):
            with pytest.raises(PoolExhausted, match="may run 1 at once") as caught:
                second.run("2")
        error = caught.value
        assert (error.scope, error.cap, error.allowed, error.tenant) == ("tenant", "running_cells", 1, "acme")
        gate.let_go.set()
        running.join()
        assert second.run("3").value == "3"
        assert not second.closed


def test_a_deadline_ends_the_wait_too_and_nothing_ran() -> None:
    with gated() as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        with pytest.raises(PoolExhausted):
            second.run("2", deadline_s=0.02)
        gate.let_go.set()
        running.join()
        assert second.run("3").value == "3"


def test_a_runaway_frees_its_place_at_its_deadline() -> None:
    entered = threading.Event()

    def runaway(cell: FakeCell) -> None:
        entered.set()
        loop_in_python(cell)

    source = FakeSource(runaway)
    with runtime_of(source) as runtime:
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1", deadline_s=3))
        assert entered.wait(BOUND_S)
        source.leased[1]._scripts = (answer(2),)  # a fake of ours
        assert second.run("2").value == 2
        assert isinstance(running.join().error, TimedOut)
        assert runtime.tenants()["acme"].running_cells == 0


def test_closing_a_sandbox_whose_cell_waits_ends_the_wait() -> None:
    with gated() as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        waiting = InBackground(lambda: second.run("2"))
        wait_for(lambda: runtime.tenants()["acme"].waiting == 1)
        second.close()
        assert isinstance(waiting.join().error, SandboxClosed)
        assert runtime.tenants() == {"acme": TenantUse(1, 1, 0)}
        gate.let_go.set()
        running.join()


def test_an_interrupt_ends_the_wait() -> None:
    with gated() as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        waiting = InBackground(lambda: second.run("2"))
        wait_for(lambda: runtime.tenants()["acme"].waiting == 1)
        second.interrupt()
        assert isinstance(waiting.join().error, PoolExhausted)
        gate.let_go.set()
        running.join()
        assert second.run("3").value == "3"


def test_closing_the_runtime_ends_a_long_line() -> None:
    gate = Gate()
    runtime = runtime_of(FakeSource(gate), TenantLimits(sandboxes=300, running_cells=1, wait_s=60))
    boxes = [runtime.sandbox(tenant="acme") for _ in range(200)]
    runs = [InBackground(lambda box=box: box.run("1")) for box in boxes]  # type: ignore[misc]
    gate.wait_entered()
    wait_for(lambda: runtime.tenants()["acme"].waiting == 199)
    runtime.close()
    assert {type(run.join().error) for run in runs} == {SandboxClosed}
    assert runtime.tenants() == {}


def test_a_cell_does_not_count_while_a_tool_works_for_it() -> None:
    """Or an agent whose tool asks another agent of the same tenant would wait for itself."""

    def ask_another(question: str) -> str:
        """What the other sandbox says."""
        return str(inner.run(question).value)

    def call_tool(cell: FakeCell) -> None:
        arguments = encode([["42"], {}], ValueLimits())
        cell.ask(ToolCall(id=0, name="ask_another"), arguments)
        cell.finish("asked")

    source = FakeSource(call_tool)
    with runtime_of(source) as runtime:
        outer = runtime.sandbox(tenant="acme", tools=[ask_another])
        source.scripts = (answer(7),)
        inner = runtime.sandbox(tenant="acme")
        cell = outer.run("ask")
        assert (cell.value, cell.usage.tool_calls, source.leased[1].served) == ("asked", 1, 1)
        assert runtime.tenants() == {"acme": TenantUse(2, 0, 0)}


@pytest.mark.usefixtures("patient")
def test_a_cell_past_its_deadline_hears_of_it_even_when_no_place_is_free() -> None:
    entered = threading.Event()

    def slow() -> None:
        """Takes until another cell has taken the place."""
        blocker.append(InBackground(lambda: other.run("1")))
        assert entered.wait(BOUND_S)

    def block(cell: FakeCell) -> None:
        entered.set()
        cell.wait_for_interrupt()
        cell.finish(error=None)

    def call_tool(cell: FakeCell) -> None:
        cell.ask(ToolCall(id=0, name="slow"), encode([[], {}], ValueLimits()))
        assert cell.link.interrupted.is_set()
        cell.finish("heard")

    blocker: list[InBackground] = []
    source = FakeSource(call_tool)
    with runtime_of(source) as runtime:
        box = runtime.sandbox(tenant="acme", tools=[slow])
        source.scripts = (block,)
        other = runtime.sandbox(tenant="acme")
        with pytest.raises(TimedOut) as caught:
            box.run("x", deadline_s=3)  # the other cell has its place before
        assert caught.value.state_kept
        other.interrupt()
        assert blocker[0].join().error is None
        assert runtime.tenants() == {"acme": TenantUse(2, 0, 0)}


def test_files_can_be_read_while_cells_of_the_tenant_run() -> None:
    with gated() as (runtime, gate):
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1"))
        gate.wait_entered()
        second.write_file("a", b"1")
        assert second.read_file("a") == b"1"
        third = runtime.sandbox(tenant="acme")
        third.close()
        gate.let_go.set()
        running.join()


@pytest.mark.guarantee("G35")
def test_tools_that_hang_take_the_threads_of_their_own_tenant_only() -> None:
    with runtime_of(FakeSource(), TenantLimits(tool_threads=1)) as runtime:
        hang, done = threading.Event(), threading.Event()
        a, b = runtime.sandbox(tenant="a"), runtime.sandbox(tenant="b")
        accounts = [runtime.core._open[box._core] for box in (a, b)]  # what the dispatcher is given
        assert accounts[0] is not None
        assert accounts[1] is not None
        accounts[0].tool_threads.submit(hang.wait)
        behind = accounts[0].tool_threads.submit(lambda: None)
        accounts[1].tool_threads.submit(done.set)
        assert done.wait(BOUND_S)
        assert not behind.done()
        a.close()
        with runtime.sandbox(tenant="a") as again:
            account = runtime.core._open[again._core]
            assert account is accounts[0], "coming back must not bring new threads"
        hang.set()
        behind.result(BOUND_S)
        wait_for(lambda: accounts[0].tool_threads.running == 0)  # type: ignore[union-attr]  # asserted above
        b.close()
        assert runtime.tenants() == {}


def test_the_async_face_has_the_same_caps() -> None:
    async def main() -> None:
        source = FakeSource(answer(1))
        async with AsyncRuntime(sources={"process": source}, tenant_limits=TenantLimits(sandboxes=1)) as runtime:
            async with runtime.sandbox(tenant="acme") as box:
                assert box.tenant == "acme"
                assert (await box.run("1")).value == 1
                assert runtime.tenants() == {"acme": TenantUse(1, 0, 0)}
                with pytest.raises(PoolExhausted):
                    async with runtime.sandbox(tenant="acme"):
                        pass
            assert runtime.tenants() == {}

    anyio.run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_start_that_was_refused_is_refused_again_and_not_let_in_uncounted(backend: str) -> None:
    async def main() -> None:
        source = FakeSource(answer(1))
        async with AsyncRuntime(sources={"process": source}, tenant_limits=TenantLimits(sandboxes=1)) as runtime:
            late = runtime.sandbox(tenant="acme")
            async with runtime.sandbox(tenant="acme"):
                for _ in range(2):
                    with pytest.raises(PoolExhausted):
                        await late.reset()
                assert runtime.tenants() == {"acme": TenantUse(1, 0, 0)}
            for _ in range(2):  # counted once, however often it starts
                await late.reset()
                assert runtime.tenants() == {"acme": TenantUse(1, 0, 0)}
            assert (await late.run("1")).value == 1
            await late.close()
            assert runtime.tenants() == {}

    anyio.run(main, backend=backend)


def test_a_cancelled_task_leaves_the_line() -> None:
    async def main() -> None:
        gate = Gate()
        source = FakeSource(gate)
        async with (
            AsyncRuntime(sources={"process": source}, tenant_limits=ONE_AT_ONCE) as runtime,
            runtime.sandbox(tenant="acme") as first,
            runtime.sandbox(tenant="acme") as second,
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(first.run, "1")
                await anyio.to_thread.run_sync(gate.wait_entered)
                with anyio.move_on_after(0.05) as scope:
                    await second.run("2")
                assert scope.cancelled_caught
                assert runtime.tenants() == {"acme": TenantUse(2, 1, 0)}
                gate.let_go.set()
            assert (await second.run("3")).value == "3"

    anyio.run(main)
