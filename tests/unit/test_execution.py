"""The kill ladder: whatever a worker or a tool does, a request ends, and its caller hears why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.waiting import wait_until

from cloche.runtime.cell import Cell
from cloche.runtime.errors import PoolExhausted, ProtocolError, RuntimeClosed, SandboxClosed, TimedOut, WorkerCrashed
from cloche.runtime.execution import Execution
from cloche.runtime.fake_link import KILLED, FakeCell, FakeLink, Script, answer, crash, loop_in_c, loop_in_python
from cloche.runtime.lanes import Lane
from cloche.runtime.links import FrameSink, unheard
from cloche.runtime.protocol import RunCell, parse_from_worker, render
from cloche.runtime.servers import ServerThreads
from cloche.runtime.supervisor import Supervisor
from cloche.runtime.values import ValueLimits, encode
from cloche.runtime.work import Why

BOUND_S = 30.0
REACHED_S = 3.0
"""A deadline by which the guest has come to its loop, also where the machine stands still for a while."""
"""A deadline by which a script has come to its loop, also on a slow machine."""


class Work:
    """A cell whose result is the list of frame types that came."""

    def __init__(self, on_frame: Callable[[str], None] | None = None) -> None:
        inputs = encode({}, ValueLimits())
        self.frame = render(RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0), (b"", inputs))
        self.sink = self
        self.finished = False
        self.aborted: list[Why] = []
        self.types: list[str] = []
        self._on_frame = on_frame

    def __call__(self, frame: bytes | memoryview, /) -> bytes | None:
        parsed, _ = parse_from_worker(frame, max_bytes=1000)
        self.types.append(parsed.type)
        self.finished = parsed.type == "done"
        if self._on_frame is not None:
            self._on_frame(parsed.type)
        return None

    def begin_here(self) -> None:
        """Nothing here takes long."""

    def resume(self) -> None:
        """Nothing was handed over."""

    def finish(self) -> list[str]:
        return self.types

    def partial(self) -> Cell:
        return Cell(stdout=",".join(self.types), complete=False)

    def abort(self, why: Why) -> None:
        self.aborted.append(why)

    def withdraw(self) -> str | None:
        return None


class Rig:
    """Supervisor, threads and what executions report."""

    def __init__(self) -> None:
        self.servers = ServerThreads()
        self.supervisor = Supervisor()
        self.lost: list[str | None] = []

    def begin(
        self,
        script: Script | None = None,
        *,
        allowed_s: float = BOUND_S,
        can_trap: bool = False,
        work: Work | None = None,
        link: FakeLink | None = None,
    ) -> Execution[list[str]]:
        self.link = link or FakeLink(*(() if script is None else (script,)), can_trap=can_trap)
        self.work = work or Work()
        execution = Execution(
            self.work, self.link, started=time.monotonic(), allowed_s=allowed_s, on_end=self.lost.append
        )
        execution.start(self.servers, self.supervisor)
        return execution

    def run(self, script: Script, **options: object) -> list[str]:
        execution = self.begin(script, **options)  # type: ignore[arg-type]
        execution.wait()
        return execution.result()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.servers.close()
    made.supervisor.close()


def hang_on(event: threading.Event) -> Callable[[str], None]:
    """A host tool that does not return before the event."""

    def hang(kind: str) -> None:
        if kind == "output":
            event.wait(BOUND_S)

    return hang


def test_a_request_that_ends_in_time_gives_its_result(rig: Rig) -> None:
    assert rig.run(answer(1, stdout="x")) == ["output", "result", "done"]
    assert rig.lost == [None]
    assert not rig.work.aborted


@pytest.mark.usefixtures("patient")
def test_a_guest_that_heeds_the_interrupt_keeps_its_state(rig: Rig) -> None:
    with pytest.raises(TimedOut) as caught:
        rig.run(loop_in_python, allowed_s=0.02)
    assert caught.value.state_kept
    assert caught.value.cell == Cell(stdout="result,done", complete=False)
    assert caught.value.allowed == 0.02
    assert caught.value.used >= 0.02
    assert rig.lost == [None]
    assert rig.work.aborted == [Why.DEADLINE]
    assert rig.link.exit_status is None


@pytest.mark.usefixtures("short_graces")
def test_a_guest_deaf_to_the_interrupt_is_trapped_where_the_engine_can(rig: Rig) -> None:
    with pytest.raises(TimedOut) as caught:
        rig.run(loop_in_c, allowed_s=REACHED_S, can_trap=True)
    assert not caught.value.state_kept
    assert rig.link.exit_status is None
    assert rig.lost == [f"a cell ran past its {REACHED_S:g} s and had to be killed"]


@pytest.mark.usefixtures("short_graces")
def test_a_guest_deaf_to_the_interrupt_is_killed_where_there_is_no_trap(rig: Rig) -> None:
    with pytest.raises(TimedOut) as caught:
        rig.run(loop_in_c, allowed_s=REACHED_S)
    assert not caught.value.state_kept
    assert caught.value.cell == Cell(stdout="output", complete=False)
    assert rig.link.exit_status == KILLED


@pytest.mark.usefixtures("deaf_tools")
@pytest.mark.guarantee("G30")
def test_a_tool_that_hangs_on_the_server_thread_does_not_hold_the_deadline(rig: Rig) -> None:
    returns = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        rig.run(answer(1, stdout="x"), allowed_s=REACHED_S, work=Work(hang_on(returns)))
    assert time.monotonic() - started < BOUND_S - 1
    assert not caught.value.state_kept
    assert rig.lost == [f"a tool of the host did not return (a cell ran past its {REACHED_S:g} s and had to be killed)"]
    returns.set()


@pytest.mark.usefixtures("patient")
@pytest.mark.guarantee("G25")
def test_a_result_that_comes_after_the_deadline_is_a_timeout_all_the_same(rig: Rig) -> None:
    def late(cell: FakeCell) -> None:
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            cell.link.gone.wait(0.005)
        cell.finish(1)

    with pytest.raises(TimedOut) as caught:
        rig.run(late, allowed_s=0.02)
    assert caught.value.state_kept


def test_a_worker_that_dies_by_itself_is_a_crash_and_no_timeout(rig: Rig) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        rig.run(crash(3))
    assert caught.value.exit_status == 3
    assert rig.lost == ["WorkerCrashed: the worker is gone"]


def test_a_broken_protocol_kills_the_worker(rig: Rig) -> None:
    with pytest.raises(ProtocolError):
        rig.run(lambda cell: cell.send_raw(b"\xff" * 20))
    assert rig.link.exit_status == KILLED
    assert rig.lost[0] is not None
    assert rig.lost[0].startswith("FrameTooLarge: ")


def test_an_interrupt_ends_the_cell_without_a_timeout(rig: Rig) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        loop_in_python(cell)

    execution = rig.begin(loop)
    assert running.wait(BOUND_S)
    execution.interrupt()
    execution.wait()
    assert execution.result() == ["result", "done"]
    assert rig.work.aborted == [Why.INTERRUPTED]


class LateLink(FakeLink):
    """A worker whose requests begin when the test lets them."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.asked, self.go = threading.Event(), threading.Event()

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        self.asked.set()
        assert self.go.wait(BOUND_S)
        super().request(frame, on_frame, begun)


@pytest.mark.parametrize("stop", [Execution[list[str]].interrupt, Execution[list[str]].cancel])
@pytest.mark.usefixtures("patient")
def test_who_stops_a_request_that_has_not_begun_is_heard_when_it_begins(
    rig: Rig, stop: Callable[[Execution[list[str]]], None]
) -> None:
    link = LateLink(loop_in_python)
    execution = rig.begin(link=link)
    assert link.asked.wait(BOUND_S)
    stop(execution)
    wait_until(lambda: bool(rig.work.aborted), BOUND_S)
    assert link.interrupts == 0
    link.go.set()
    execution.wait()
    assert execution.result() == ["result", "done"]
    assert link.interrupts == 1


def test_an_interrupt_of_a_request_that_never_began_is_not_kept_for_the_next(rig: Rig) -> None:
    link = FakeLink(answer(1))
    never = Execution(Work(), link, started=time.monotonic(), allowed_s=BOUND_S, on_end=rig.lost.append)
    never.interrupt()
    never.cancel()
    assert never.over
    execution = rig.begin(link=link)
    execution.wait()
    assert execution.result() == ["result", "done"]
    assert link.interrupts == 0


@pytest.mark.parametrize("held", [0, 1])
def test_a_request_that_ended_before_its_start_takes_no_place_in_line(rig: Rig, held: int) -> None:
    lane = Lane(1, patience_s=BOUND_S, refusal=lambda: PoolExhausted("full", retry_after_s=1))
    if held:
        lane.turn().begin(lambda: None)
    execution = Execution(
        Work(), FakeLink(answer(1)), started=time.monotonic(), allowed_s=BOUND_S, on_end=rig.lost.append
    )
    execution.cancel(Why.CLOSED)
    execution.start(rig.servers, rig.supervisor, lane.turn())
    assert (lane.held, lane.waiting) == (held, 0)
    execution.wait()
    with pytest.raises(SandboxClosed, match="given up before it began"):
        execution.result()


def test_an_interrupt_after_the_end_reaches_nobody(rig: Rig) -> None:
    execution = rig.begin(answer(1))
    execution.wait()
    execution.interrupt()
    execution.cancel()
    assert rig.link.interrupts == 0
    assert rig.work.aborted == []


@pytest.mark.usefixtures("patient")
def test_a_cancelled_request_goes_down_the_ladder_and_may_keep_its_state(rig: Rig) -> None:
    execution = rig.begin(loop_in_python)
    execution.cancel()
    execution.wait()
    assert execution.result() == ["result", "done"]
    assert rig.lost == [None]


def test_closing_skips_the_interrupt(rig: Rig) -> None:
    execution = rig.begin(loop_in_c)
    execution.cancel(Why.CLOSED)
    execution.wait()
    with pytest.raises(SandboxClosed):
        execution.result()
    assert rig.link.interrupts == 0
    assert rig.link.exit_status == KILLED


def test_every_callback_hears_of_the_end_once_early_or_late(rig: Rig) -> None:
    heard: list[str] = []
    go = threading.Event()

    def gated(cell: FakeCell) -> None:
        go.wait(BOUND_S)
        cell.finish(1)

    execution = rig.begin(gated)
    execution.add_done_callback(lambda: heard.append("early"))
    go.set()
    execution.wait()
    execution.add_done_callback(lambda: heard.append("late"))
    poll = threading.Event()
    while len(heard) < 2:  # early callbacks run just after waiters are woken
        poll.wait(0.001)
    assert sorted(heard) == ["early", "late"]


def test_the_sandbox_is_free_again_before_anybody_is_woken(rig: Rig) -> None:
    order: list[str] = []
    execution = Execution(
        Work(),
        FakeLink(answer(1)),
        started=time.monotonic(),
        allowed_s=BOUND_S,
        on_end=lambda _lost: order.append("free"),
    )
    execution.add_done_callback(lambda: order.append("woken"))
    execution.start(rig.servers, rig.supervisor)
    execution.wait()
    poll = threading.Event()
    while len(order) < 2:
        poll.wait(0.001)
    assert order == ["free", "woken"]


def test_who_asks_to_be_called_while_it_ends_is_called_when_it_is_over(rig: Rig) -> None:
    ends, asked, called = threading.Event(), threading.Event(), threading.Event()

    def free(_lost: str | None) -> None:
        ends.set()
        asked.wait(BOUND_S)

    def look() -> None:
        seen.append(execution.over)
        called.set()

    seen: list[bool] = []
    execution = Execution(Work(), FakeLink(answer(1)), started=time.monotonic(), allowed_s=BOUND_S, on_end=free)
    execution.start(rig.servers, rig.supervisor)
    assert ends.wait(BOUND_S)
    execution.add_done_callback(look)
    asked.set()
    assert called.wait(BOUND_S)
    assert seen == [True], "an event loop that looks too soon is never woken again"


def test_a_request_of_a_closed_runtime_ends_at_once(rig: Rig) -> None:
    rig.servers.close()
    with pytest.raises(RuntimeClosed):
        rig.begin(answer(1))
    assert rig.lost == [None]


@pytest.mark.usefixtures("short_graces")
def test_a_failing_rung_does_not_stop_the_ladder(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Work):
        def abort(self, why: Why) -> None:
            raise RuntimeError("broken")

    with pytest.raises(TimedOut):
        rig.run(loop_in_c, allowed_s=0.02, work=Broken())
    assert rig.link.exit_status == KILLED
    assert "rung 0" in caplog.text
