"""Two threads at one sandbox at the same moment: who comes first is set by the test, and neither is forgotten."""

# pyright: reportPrivateUsage=false
# puts itself between the steps of a request
from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.support.background import BOUND_S, InBackground
from tests.support.tenants import runtime_of

from cloche import Runtime, Sandbox, SandboxClosed, TenantLimits, TenantUse
from cloche.runtime.execution import Execution
from cloche.runtime.fake_link import FakeCell, FakeLink, FakeSource, answer, loop_in_python
from cloche.runtime.protocol import ToolCall
from cloche.runtime.servers import ServerThreads
from cloche.runtime.supervisor import Supervisor
from cloche.runtime.values import ValueLimits, encode
from cloche.runtime.work import Why

NO_ARGUMENTS: list[object] = [[], {}]


def call_hang(cell: FakeCell) -> None:
    """A cell in the tool `hang`."""
    cell.ask(ToolCall(id=0, name="hang"), encode(NO_ARGUMENTS, ValueLimits()))
    cell.finish("the tool returned")


class Hanging:
    """A runtime with a sandbox whose cell is in a tool that does not return before the test ends."""

    def __init__(self) -> None:
        self.runtime = Runtime(sources={"process": FakeSource(call_hang)}, close_deadline_s=1)
        self.inside, self.returns = threading.Event(), threading.Event()
        self.box: Sandbox = self.runtime.sandbox(tools=[self.hang])
        self.run = InBackground(lambda: self.box.run("hang()"))
        assert self.inside.wait(BOUND_S)

    def hang(self) -> None:
        """Does not return."""
        self.inside.set()
        self.returns.wait(4 * BOUND_S)


def before_each_start(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something when a request of a sandbox is in flight for everybody else, and has not begun."""
    real = Execution[object].start

    def start(
        self: Execution[object], servers: ServerThreads, supervisor: Supervisor, turn: object, here: object
    ) -> None:
        action()
        real(self, servers, supervisor, turn, here)  # type: ignore[arg-type]

    monkeypatch.setattr(Execution, "start", start)


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt_before_the_cell_has_begun_ends_that_cell_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource(loop_in_python, answer("alive"))
    with Runtime(sources={"process": source}) as runtime, runtime.sandbox() as box:
        with monkeypatch.context() as patch:
            before_each_start(patch, box.interrupt)
            assert box.run("while True: pass", deadline_s=BOUND_S).interrupted
        assert box.run("1").value == "alive"
        assert source.leased[0].interrupts == 1


def test_an_interrupt_at_the_start_of_a_sandbox_does_not_wait_for_its_first_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = FakeSource(answer(1))
    real = FakeLink._serve

    def serve(self: FakeLink, cell: FakeCell) -> None:
        if cell.request.type == "start" and len(source.leased) == 2:
            box.interrupt()
        real(self, cell)

    with Runtime(sources={"process": source}) as runtime, runtime.sandbox() as box:
        monkeypatch.setattr(FakeLink, "_serve", serve)
        before_each_start(monkeypatch, box.interrupt)
        box.reset()
        monkeypatch.undo()
        assert box.run("1").value == 1
        assert [link.interrupts for link in source.leased] == [0, 0]


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("deaf_tools")
def test_a_runtime_closed_beside_a_sandbox_waits_for_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the supervisor is gone before it has ended the cell, which then hangs as long as its tool."""
    at_cancel, go_on, joined = threading.Event(), threading.Event(), threading.Event()
    real_cancel, real_join = Execution[object].cancel, Execution[object].join

    def cancel(self: Execution[object], why: Why = Why.CANCELLED) -> None:
        at_cancel.set()
        assert go_on.wait(BOUND_S)
        real_cancel(self, why)

    def join(self: Execution[object]) -> None:
        joined.set()
        real_join(self)

    at_work = Hanging()
    monkeypatch.setattr(Execution, "cancel", cancel)
    monkeypatch.setattr(Execution, "join", join)
    first = InBackground(at_work.box.close)
    assert at_cancel.wait(BOUND_S)
    second = InBackground(at_work.runtime.close)
    try:
        assert joined.wait(BOUND_S)
        go_on.set()
        assert first.join().error is None
        assert second.join().error is None
        assert isinstance(at_work.run.join().error, SandboxClosed)
        assert at_work.runtime.sandboxes == 0
    finally:
        go_on.set()
        at_work.returns.set()


@pytest.mark.usefixtures("deaf_tools")
@pytest.mark.parametrize("what", ["sandbox", "runtime"])
def test_a_tool_may_close_what_it_runs_in_while_others_close_it_too(what: str) -> None:
    closing = threading.Barrier(2, timeout=BOUND_S)

    def close() -> None:
        (box if what == "sandbox" else runtime).close()

    def hang() -> None:
        """Closes."""
        closing.wait()
        close()
        returned.set()

    returned = threading.Event()
    runtime = Runtime(sources={"process": FakeSource(call_hang)}, close_deadline_s=1)
    box = runtime.sandbox(tools=[hang])
    run = InBackground(lambda: box.run("hang()"))
    closing.wait()
    close()
    assert isinstance(run.join().error, SandboxClosed)
    assert returned.wait(BOUND_S)
    runtime.close()


@pytest.mark.parametrize("tenant", ["acme", None])
def test_a_cell_whose_sandbox_is_closed_before_it_begins_holds_no_place(
    monkeypatch: pytest.MonkeyPatch, tenant: str | None
) -> None:
    limits = TenantLimits(sandboxes=2, running_cells=1, wait_s=0.1)
    source = FakeSource(answer(1))
    with runtime_of(source, limits) as runtime, runtime.sandbox(tenant="acme") as other:
        box = runtime.sandbox(tenant=tenant)
        with monkeypatch.context() as patch:
            before_each_start(patch, lambda: InBackground(box.close).join())
            with pytest.raises(SandboxClosed):
                box.run("1")
        assert source.leased[1].served == 0
        assert runtime.tenants() == {"acme": TenantUse(sandboxes=1, running_cells=0, waiting=0)}
        assert other.run("1").value == 1
