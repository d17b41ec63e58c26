"""Sandboxes of a tenant that opens many begin at a pace, but only beside others; refused callers let go of the host."""

from __future__ import annotations

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false
# looks into accounts
import threading
import time

import pytest
from tests.support.waiting import wait_until

from cloche import PoolExhausted, Runtime, TenantLimits
from cloche.runtime import runtime_core, sandbox
from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.lanes import Lane, _Books
from cloche.runtime.pace import BURST_S, PAUSE_S, PRESSES_AFTER, PRESSES_S, SHARE, Pace
from cloche.runtime.supervisor import Watched

BOUND_S = 30.0


def never_alone() -> bool:
    return False


def spend(pace: Pace, seconds: float, work_s: float) -> int:
    """Turns of `work_s` each that a tenant gets done in so much time, one after the other and without a pause of its
    own."""
    now, turns = 100.0, 0
    while now < 100.0 + seconds:
        now += pace.pause_s(now) + work_s
        pace.worked(now, work_s)
        turns += 1
    return turns


# --- the level --------------------------------------------------------------------------------------------------------


def test_a_first_stretch_runs_at_full_speed() -> None:
    pace, now = Pace(1, never_alone), 100.0
    for _ in range(int(BURST_S / 0.015)):
        assert pace.pause_s(now) == 0
        now += 0.015
        pace.worked(now, 0.015)
    assert not pace.presses(now)


def test_after_it_a_share_of_the_time_is_left_however_long_it_goes_on() -> None:
    for work_s in (0.001, 0.01, 0.018):
        turns = spend(Pace(1, never_alone), 60.0, work_s)
        assert turns * work_s == pytest.approx(60 * SHARE + BURST_S, rel=0.05)


def test_more_places_have_more_of_it() -> None:
    one, three = (spend(Pace(places, never_alone), 60.0, 0.015) for places in (1, 3))
    assert three == pytest.approx(3 * one, rel=0.1)


def test_nobody_pauses_for_longer_than_a_moment_however_long_the_work_took() -> None:
    pace = Pace(1, never_alone)
    pace.worked(100.0, 3600.0)
    assert pace.pause_s(100.0) == pytest.approx(PAUSE_S)


def test_who_is_alone_is_not_paced_and_does_not_press() -> None:
    pace = Pace(1, lambda: True)
    pace.worked(100.0, 3600.0)
    assert pace.pause_s(100.0) == 0
    assert not pace.presses(100.0)


def paused_often(pace: Pace, times: int, now: float = 100.0) -> float:
    """So many pauses in a run; the time after the last."""
    for _ in range(times):
        pace.worked(now, 3600.0)
        now += pace.pause_s(now)
    return now


def test_a_tenant_presses_after_a_run_of_pauses_and_until_a_while_after_the_last() -> None:
    pace = Pace(1, never_alone)
    now = paused_often(pace, PRESSES_AFTER)
    assert not pace.presses(now)
    now = paused_often(pace, 1, now)
    assert pace.presses(now)
    assert pace.presses(now + PRESSES_S - 0.01)
    assert not pace.presses(now + PRESSES_S + 0.01)


def test_a_few_pauses_now_and_then_are_no_pressing() -> None:
    pace, now = Pace(1, never_alone), 100.0
    for _ in range(20):
        now = paused_often(pace, 2, now) + PRESSES_S + 0.1
        assert not pace.presses(now)


# --- the lane ---------------------------------------------------------------------------------------------------------


class Alarms:
    """Keeps the alarms of a lane until the test rings."""

    def __init__(self) -> None:
        self.set: list[tuple[Watched, float]] = []

    def __call__(self, item: Watched, at: float) -> None:
        self.set.append((item, at))

    def ring(self) -> None:
        """The time has come: what had filled the pace is drained."""
        due, self.set = self.set, []
        for item, _ in due:
            assert isinstance(item, _Books)
            assert item.pace is not None
            item.pace._level_s = 0.0
            item.on_due()


def paced_lane(alarms: Alarms, places: int = 1) -> tuple[Lane, Pace]:
    pace = Pace(places, never_alone)
    lane = Lane(places, patience_s=1, refusal=lambda: PoolExhausted("full", retry_after_s=1), pace=pace, alarm=alarms)
    return lane, pace


def fill(pace: Pace, ahead_s: float = BOUND_S) -> None:
    """As much work as it counts; for so long nothing of it drains."""
    pace.worked(time.monotonic() + ahead_s, 3600.0)


def test_a_turn_waits_for_the_alarm_though_a_place_is_free_and_only_the_first_of_the_line_sets_one() -> None:
    alarms, went = Alarms(), list[str]()
    lane, pace = paced_lane(alarms)
    fill(pace)
    turns = {name: lane.turn() for name in "abc"}
    for name, turn in turns.items():
        turn.begin(lambda name=name: went.append(name))  # type: ignore[misc]  # bound here
    assert (went, lane.held, lane.waiting, len(alarms.set)) == ([], 0, 3, 1)
    alarms.ring()
    assert (went, lane.held, lane.waiting) == (["a"], 1, 2)
    fill(pace)
    turns["a"].end()
    assert (went, len(alarms.set)) == (["a"], 1)  # the next pause
    assert turns["b"].give_up()
    alarms.ring()
    assert went == ["a", "c"]
    turns["c"].end()
    assert (lane.held, lane.waiting, alarms.set) == (0, 0, [])


def test_an_alarm_that_finds_the_pace_filled_again_sets_the_next() -> None:
    alarms, went = Alarms(), list[str]()
    lane, pace = paced_lane(alarms)
    fill(pace)
    turn = lane.turn()
    turn.begin(lambda: went.append("a"))
    lane._books.on_due()  # early
    assert (went, len(alarms.set)) == ([], 2)
    alarms.ring()
    assert went == ["a"]
    turn.end()


def test_an_alarm_for_a_line_that_everybody_has_left_does_nothing() -> None:
    alarms, went = Alarms(), list[str]()
    lane, pace = paced_lane(alarms)
    fill(pace)
    turn = lane.turn()
    turn.begin(lambda: went.append("a"))
    turn.end()
    alarms.ring()
    assert (went, lane.held, lane.waiting) == ([], 0, 0)


# --- a tenant ---------------------------------------------------------------------------------------------------------


def pressing(runtime: Runtime) -> bool:
    account = runtime.core._accounts._accounts["acme"]
    return account.tenant.presses()


def worn_out(runtime: Runtime, ahead_s: float = 0.0) -> None:
    """The tenant has begun as much as it may for now."""
    pace = runtime.core._accounts._accounts["acme"].starts._books.pace
    assert pace is not None
    fill(pace, ahead_s)


def test_starts_pause_beside_others_and_come_to_their_turn_by_themselves() -> None:
    limits = TenantLimits(sandboxes=8, running_cells=1, wait_s=BOUND_S)
    with Runtime(sources={"process": FakeSource()}, tenant_limits=limits) as runtime, runtime.sandbox(tenant="other"):
        first = runtime.sandbox(tenant="acme")
        turns = 0
        while not pressing(runtime):
            assert turns < 10 * PRESSES_AFTER
            turns += 1
            started = time.monotonic()
            worn_out(runtime)
            runtime.sandbox(tenant="acme").close()
            assert time.monotonic() - started > PAUSE_S / 2
        assert turns > PRESSES_AFTER  # more where the machine stood still for as long as a pause takes
        first.close()


def test_a_tenant_that_has_the_runtime_for_itself_does_not_pause() -> None:
    limits = TenantLimits(sandboxes=8, running_cells=1, wait_s=0)  # a pause would refuse it
    with Runtime(sources={"process": FakeSource()}, tenant_limits=limits) as runtime, runtime.sandbox(tenant="acme"):
        worn_out(runtime)
        for _ in range(3):
            runtime.sandbox(tenant="acme").close()
        assert not pressing(runtime)


def test_the_neighbours_starts_do_not_pause() -> None:
    limits = TenantLimits(sandboxes=8, running_cells=1, wait_s=0)
    with Runtime(sources={"process": FakeSource()}, tenant_limits=limits) as runtime, runtime.sandbox(tenant="acme"):
        worn_out(runtime)
        for _ in range(3):
            runtime.sandbox(tenant="other").close()
            runtime.sandbox().close()


def test_closing_the_runtime_ends_a_pause() -> None:
    limits = TenantLimits(sandboxes=8, running_cells=1, wait_s=BOUND_S)
    found: list[BaseException] = []
    runtime = Runtime(sources={"process": FakeSource()}, tenant_limits=limits)
    kept = [runtime.sandbox(tenant=name) for name in ("other", "acme")]
    worn_out(runtime, BOUND_S)
    runtime.core._accounts._accounts["acme"].starts._books._alarm = lambda item, at: None  # it never comes

    def open_one() -> None:
        try:
            runtime.sandbox(tenant="acme")
        except BaseException as exc:  # noqa: BLE001  # carried to the test
            found.append(exc)

    thread = threading.Thread(target=open_one, daemon=True)
    thread.start()
    wait_until(lambda: runtime.tenants()["acme"].waiting == 1)
    runtime.close()
    thread.join(BOUND_S)
    assert [type(exc).__name__ for exc in found] == ["SandboxClosed"]
    assert all(box.closed for box in kept)


def test_an_alarm_after_the_close_is_nobodys_error() -> None:
    runtime = Runtime(sources={"process": FakeSource()})
    lane, _ = paced_lane(Alarms())
    runtime.close()
    with pytest.raises(RuntimeClosed):
        runtime.core.supervisor.watch(lane._books, 0.0)
    runtime_core._set_alarm(runtime.core.supervisor, lane._books, 0.0)


# --- refused callers --------------------------------------------------------------------------------------------------


def test_a_refused_caller_lets_go_of_the_host_before_it_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with Runtime(sources={"process": FakeSource()}, tenant_limits=TenantLimits(sandboxes=1)) as runtime:
        with runtime.sandbox(tenant="acme"):
            assert slept == []
            with pytest.raises(PoolExhausted):
                runtime.sandbox(tenant="acme")
        assert slept == [sandbox.REFUSED_PAUSE_S]
