"""Caps of tenants: what is counted, what waits, what is refused and how it says so; with scripted workers."""

from __future__ import annotations

# pyright: reportDeprecated=false, reportPossiblyUnboundVariable=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownParameterType=false, reportPrivateUsage=false
# looks into accounts
import os
import pickle  # noqa: TID251  # errors travel between processes of the host
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest

from cloche import (
    AsyncRuntime,
    ConfigError,
    PoolExhausted,
    Runtime,
    RuntimeConfig,
    Sandbox,
    SandboxClosed,
    TenantLimits,
    TenantUse,
    TimedOut,
)
from cloche.runtime.config import config_from_environment, make_config
from cloche.runtime.fake_link import FakeCell, FakeSource, answer, loop_in_c, loop_in_python
from cloche.runtime.protocol import ToolCall
from cloche.runtime.tenants import checked_tenant, default_running_cells
from cloche.runtime.values import ValueLimits, encode

BOUND_S = 5.0
ONE_AT_ONCE = TenantLimits(sandboxes=8, running_cells=1, wait_s=BOUND_S)


def runtime_of(source: FakeSource, limits: TenantLimits = ONE_AT_ONCE, max_sandboxes: int = 1000) -> Runtime:
    return Runtime(sources={"process": source}, tenant_limits=limits, max_sandboxes=max_sandboxes)


class Gate:
    """A script that stands in its guest until it is let go, and says when it has come there."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.inside = 0
        self.most = 0
        self.order: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, cell: FakeCell) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(cell.code)
        self.entered.release()
        while not self.let_go.wait(0.005) and not cell.link.interrupted.is_set():
            cell.check_alive()
        with self._lock:
            self.inside -= 1
        cell.finish(cell.code)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=BOUND_S)


class InBackground:
    """A call on a thread of its own, and what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as exc:  # noqa: BLE001  # carried to the test
            self.error = exc

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> InBackground:
        self._thread.join(BOUND_S)
        assert self.over
        return self


@contextmanager
def gated(limits: TenantLimits = ONE_AT_ONCE) -> Iterator[tuple[Runtime, Gate]]:
    gate = Gate()
    with runtime_of(FakeSource(gate), limits) as runtime:
        try:
            yield runtime, gate
        finally:
            gate.let_go.set()


def wait_for(condition: Callable[[], bool]) -> None:
    poll = threading.Event()
    for _ in range(1000):
        if condition():
            return
        poll.wait(0.005)
    raise AssertionError("it did not happen")


def in_lane(runtime: Runtime) -> int:
    use = runtime.tenants()["acme"]
    return use.running_cells + use.waiting


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["acme", "a" * 200, "7", "Süd GmbH", "a/b:c", "../etc", "%s{0}", "租户"])
def test_a_printable_text_is_a_tenant(name: str) -> None:
    assert checked_tenant(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 200 characters, not 0"),
        ("a" * 201, "not 201"),
        ("a\nb", "cannot be shown"),
        ("\x1b[2J", "cannot be shown"),
        ("a\0", "cannot be shown"),
        ("\ud800", "cannot be shown"),
        ("safe\u202etxt", "cannot be shown"),
        (b"acme", "a name, not bytes"),
        (7, "a name, not int"),
        (True, "a name, not bool"),
        (["acme"], "a name, not list"),
    ],
)
def test_anything_else_is_refused_before_a_worker_is_asked_for(name: object, why: str) -> None:
    source = FakeSource()
    with runtime_of(source) as runtime:
        with pytest.raises(ConfigError, match=why) as caught:
            runtime.sandbox(tenant=name)  # type: ignore[arg-type]  # the test
        assert str(caught.value).isprintable()
        assert (source.leased, runtime.sandboxes, runtime.tenants()) == ([], 0, {})


def test_a_text_that_lies_about_itself_is_taken_for_what_it_says() -> None:
    class Liar(str):
        def __eq__(self, other: object) -> bool:
            return False

        def __hash__(self) -> int:
            return id(self)

        def __len__(self) -> int:
            return 1

    with runtime_of(FakeSource(), TenantLimits(sandboxes=1)) as runtime, runtime.sandbox(tenant=Liar("acme")) as box:
        assert type(box.tenant) is str
        with pytest.raises(PoolExhausted):
            runtime.sandbox(tenant=Liar("acme"))


def test_a_tenant_needs_a_process() -> None:
    with Runtime(sources={"thread": FakeSource()}) as runtime, pytest.raises(ConfigError, match="a process each"):
        runtime.sandbox(tenant="acme", isolation="thread")


@pytest.mark.guarantee("G38")
def test_a_sandbox_knows_whose_it_is() -> None:
    with runtime_of(FakeSource()) as runtime, runtime.sandbox(tenant="acme") as box, runtime.sandbox() as ours:
        assert (box.tenant, ours.tenant) == ("acme", None)
    with runtime_of(FakeSource()) as runtime, Sandbox(tenant="acme", runtime=runtime) as box:
        assert runtime.tenants() == {"acme": TenantUse(sandboxes=1, running_cells=0, waiting=0)}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_tenant_may_have_a_quarter_of_the_runtime_if_nothing_else_was_said() -> None:
    tenant = RuntimeConfig(max_sandboxes=1000, max_workers=256).caps().named("acme")
    assert (tenant.sandboxes, tenant.workers, tenant.running_cells) == (64, 64, default_running_cells())
    assert RuntimeConfig(max_sandboxes=10).caps().named("acme").sandboxes == 2
    assert RuntimeConfig(max_workers=1).caps().named("acme").sandboxes == 1


@pytest.mark.parametrize(("cores", "cells"), [(1, 1), (2, 1), (3, 2), (64, 63)])
def test_one_core_is_left_to_the_others(cores: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_running_cells() == cells


def test_a_tenant_can_have_caps_of_its_own() -> None:
    own = {"big": TenantLimits(sandboxes=3, running_cells=7)}
    caps = RuntimeConfig(tenant_limits=TenantLimits(sandboxes=1), tenants=own).caps()
    own.clear()
    assert (caps.named("big").sandboxes, caps.named("big").running_cells) == (3, 7)
    assert caps.named("small").sandboxes == 1


@pytest.mark.parametrize(
    "options",
    [
        {"tenant_limits": {"sandboxes": 1}},
        {"tenants": ["acme"]},
        {"tenants": {"": TenantLimits()}},
        {"tenants": {"acme": 3}},
        {"tenants": {7: TenantLimits()}},
    ],
)
def test_settings_of_tenants_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_config(options)


@pytest.mark.parametrize("wrong", [{"sandboxes": 0}, {"running_cells": 0}, {"wait_s": -1}, {"workers": 1.5}])
def test_caps_have_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"TenantLimits.{next(iter(wrong))}"):
        TenantLimits(**wrong)


def test_the_environment_sets_the_caps_of_tenants() -> None:
    config = config_from_environment({"CLOCHE_TENANT_SANDBOXES": "5", "CLOCHE_TENANT_WAIT_S": "0.5"})
    assert config.tenant_limits == TenantLimits(sandboxes=5, wait_s=0.5)


def test_a_config_with_tenants_can_still_be_hashed_and_compared() -> None:
    first, second = (RuntimeConfig(tenants={"acme": TenantLimits(sandboxes=n)}) for n in (1, 2))
    assert hash(first) == hash(second)
    assert first != second


# --- sandboxes --------------------------------------------------------------------------------------------------------


def test_one_sandbox_too_many_says_whose_cap_it_is_and_when_to_come_again() -> None:
    with runtime_of(FakeSource(), TenantLimits(sandboxes=2)) as runtime:
        boxes = [runtime.sandbox(tenant="acme") for _ in range(2)]
        with pytest.raises(PoolExhausted, match="tenant 'acme' has 2 sandboxes open") as caught:
            runtime.sandbox(tenant="acme")
        error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
        assert (error.scope, error.cap, error.allowed, error.tenant) == ("tenant", "sandboxes", 2, "acme")
        assert error.retry_after_s > 0
        with runtime.sandbox(tenant="other"), runtime.sandbox():
            pass
        boxes.pop().close()
        runtime.sandbox(tenant="acme").close()
        boxes.pop().close()
        assert runtime.tenants() == {}


def test_a_full_runtime_says_that_it_is_the_runtime() -> None:
    with runtime_of(FakeSource(), TenantLimits(sandboxes=5), max_sandboxes=1) as runtime, runtime.sandbox(tenant="a"):
        with pytest.raises(PoolExhausted) as caught:
            runtime.sandbox(tenant="b")
        error = caught.value
        assert (error.scope, error.cap, error.allowed, error.tenant) == ("runtime", "max_sandboxes", 1, None)
        assert list(runtime.tenants()) == ["a"]


def test_a_lost_sandbox_counts_until_it_is_closed_and_reset_does_not_count_twice() -> None:
    source = FakeSource(loop_in_c)
    with runtime_of(source, TenantLimits(sandboxes=1, running_cells=1)) as runtime:
        box = runtime.sandbox(tenant="acme")
        with pytest.raises(TimedOut):
            box.run("x", deadline_s=0.01)
        with pytest.raises(PoolExhausted):
            runtime.sandbox(tenant="acme")
        for _ in range(3):
            box.reset()
        assert runtime.tenants() == {"acme": TenantUse(1, 0, 0)}
        box.close()
        box.close()
        assert runtime.tenants() == {}


def test_a_start_that_fails_leaves_nothing_on_the_account() -> None:
    class NoWorkers(FakeSource):
        def lease(self, *_: object) -> object:  # type: ignore[override]  # never returns
            raise PoolExhausted("no worker", retry_after_s=1)

    with runtime_of(NoWorkers(), TenantLimits(sandboxes=1)) as runtime:
        for _ in range(3):
            with pytest.raises(PoolExhausted, match="no worker"):
                runtime.sandbox(tenant="acme")
        assert (runtime.sandboxes, runtime.tenants()) == (0, {})


def test_a_sandbox_that_is_closed_while_it_is_admitted_leaves_nothing_on_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with runtime_of(FakeSource()) as runtime:
        core = runtime.core
        real = core.admit

        def admit_late(sandbox: Sandbox, tenant: str | None = None) -> object:
            sandbox.close()
            return real(sandbox, tenant)

        monkeypatch.setattr(core, "admit", admit_late)
        with pytest.raises(SandboxClosed):
            runtime.sandbox(tenant="acme")
        assert (runtime.sandboxes, runtime.tenants()) == (0, {})


def test_many_threads_that_open_at_once_never_get_more_than_the_cap() -> None:
    got: list[Sandbox] = []
    refused: list[PoolExhausted] = []
    with runtime_of(FakeSource(), TenantLimits(sandboxes=5, running_cells=2)) as runtime:

        def ask() -> None:
            try:
                got.append(runtime.sandbox(tenant="acme"))
            except PoolExhausted as exc:
                refused.append(exc)

        for thread in [InBackground(ask) for _ in range(40)]:
            thread.join()
        assert (len(got), len(refused)) == (5, 35)
        assert {error.cap for error in refused} == {"sandboxes"}


# --- running cells ----------------------------------------------------------------------------------------------------


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
    source = FakeSource(loop_in_python)
    with runtime_of(source) as runtime:
        first, second = runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme")
        running = InBackground(lambda: first.run("1", deadline_s=0.05))
        wait_for(lambda: runtime.tenants()["acme"].running_cells == 1)
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
            box.run("x", deadline_s=0.3)
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
