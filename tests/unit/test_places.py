"""Who gets the next worker: the line, the tenant's own cap, and the last warm one."""

from __future__ import annotations

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# moves the clock of the pool
import threading
from collections.abc import Iterator

import pytest
from tests.support.fake_maker import FakeMaker, FakeProcess
from tests.support.waiting import wait_until

from cloche.runtime import places
from cloche.runtime import pool as pool_module
from cloche.runtime.errors import PoolExhausted
from cloche.runtime.limits import Limits
from cloche.runtime.places import Places
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.tenants import Tenant

LIMITS = Limits()
BOUND_S = 30.0


def tenant(name: str, workers: int = 9) -> Tenant:
    return Tenant(name, sandboxes=9, workers=workers, running_cells=1, wait_s=1, tool_threads=1)


FLOOD, OTHER = tenant("flood"), tenant("other")


@pytest.fixture
def maker() -> Iterator[FakeMaker]:
    maker = FakeMaker()
    yield maker
    maker.close()


# --- a tenant that presses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [0, 1])
def test_workers_for_a_tenant_that_presses_step_back_and_those_of_others_do_not(
    warm: int, maker: FakeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped: list[tuple[int, int]] = []
    monkeypatch.setattr(pool_module, "lower_priority", lambda pid, nice: stepped.append((pid, nice)))
    monkeypatch.setattr(FakeProcess, "pid", 4711)
    pool = WorkerPool(lambda: maker, warm=warm, busy_nice=7)
    pressing = Tenant("p", sandboxes=9, workers=9, running_cells=1, wait_s=1, tool_threads=1, presses=lambda: True)
    for tenant in (None, OTHER):
        pool.lease(LIMITS, BOUND_S, tenant)
    wait_until(lambda: pool.stats().warm == warm)
    assert stepped == []
    pool.lease(LIMITS, BOUND_S, pressing)
    assert set(stepped) == {(4711, 7)}
    pool.close()


def test_nobody_steps_back_where_the_host_does_not_want_it(maker: FakeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "lower_priority", lambda pid, nice: pytest.fail("it did"))
    monkeypatch.setattr(FakeProcess, "pid", 4711)
    pool = WorkerPool(lambda: maker, warm=0)
    pool.lease(LIMITS, BOUND_S, Tenant("p", 9, 9, 1, 1, 1, presses=lambda: True))
    pool.close()


def test_a_system_that_forbids_it_still_gives_a_worker(maker: FakeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, nice: int) -> None:
        raise PermissionError

    monkeypatch.setattr(pool_module, "lower_priority", forbidden)
    monkeypatch.setattr(FakeProcess, "pid", 4711)
    pool = WorkerPool(lambda: maker, warm=0, busy_nice=7)
    assert pool.lease(LIMITS, BOUND_S, Tenant("p", 9, 9, 1, 1, 1, presses=lambda: True)).process is maker.made[0]
    pool.close()


# --- the tenant's own cap ---------------------------------------------------------------------------------------------


def test_a_tenant_gets_no_more_workers_than_it_may_while_others_do(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    pool.lease(LIMITS, BOUND_S, tenant("a", workers=1))
    with pytest.raises(PoolExhausted, match="tenant 'a' has 1 workers") as caught:
        pool.lease(LIMITS, 0, tenant("a", workers=1))
    error = caught.value
    assert (error.scope, error.cap, error.allowed, error.tenant) == ("tenant", "workers", 1, "a")
    pool.lease(LIMITS, 0, OTHER)
    pool.lease(LIMITS, 0)
    assert pool.stats().by_tenant == {"a": 1, "other": 1, "": 1}
    pool.close()
    assert pool.stats().by_tenant == {}


def test_a_full_pool_names_the_runtimes_cap_also_to_a_tenant(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0, max_workers=1)
    pool.lease(LIMITS, BOUND_S, OTHER)
    with pytest.raises(PoolExhausted) as caught:
        pool.lease(LIMITS, 0, FLOOD)
    error = caught.value
    assert (error.scope, error.cap, error.allowed, error.tenant) == ("runtime", "max_workers", 1, None)
    pool.close()


def test_a_tenants_worker_that_dies_makes_room_for_its_next(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    mine = tenant("a", workers=1)
    first = pool.lease(LIMITS, BOUND_S, mine)
    got: list[ProcessLink] = []
    waiter = threading.Thread(target=lambda: got.append(pool.lease(LIMITS, BOUND_S, mine)))
    waiter.start()
    first.close(1)
    waiter.join(BOUND_S)
    assert [link.process for link in got] == [maker.made[1]]
    pool.close()


def test_workers_that_die_before_they_are_ready_are_not_counted(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    maker.broken = 1
    pool.lease(LIMITS, BOUND_S, tenant("a", workers=1))
    assert pool.stats().by_tenant == {"a": 1}
    pool.close()


# --- the line ---------------------------------------------------------------------------------------------------------


def test_who_has_fewer_workers_comes_first_then_who_came_first() -> None:
    line = Places(9)
    line.count("flood", 3)
    rich, poor, later = (line.stand_in_line(who) for who in (FLOOD, OTHER, tenant("third")))
    assert [line.is_first(waiter) for waiter in (rich, poor, later)] == [False, True, False]
    line.leave_line(poor)
    assert [line.is_first(waiter) for waiter in (rich, later)] == [False, True]
    assert line.leave_line(later)
    assert line.is_first(rich)
    assert not line.leave_line(rich)


def test_a_tenant_at_its_own_cap_does_not_hold_up_the_line() -> None:
    line = Places(9)
    line.count("full", 1)
    line.count("flood", 3)
    full, rich = line.stand_in_line(tenant("full", workers=1)), line.stand_in_line(FLOOD)
    assert [line.is_first(waiter) for waiter in (full, rich)] == [False, True]


def test_a_place_that_comes_free_goes_to_the_waiting_tenant_with_the_fewest_workers(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0, max_workers=2)
    held = [pool.lease(LIMITS, BOUND_S, FLOOD) for _ in range(2)]
    got: list[tuple[str, ProcessLink]] = []

    def ask(who: Tenant) -> None:
        got.append((who.name, pool.lease(LIMITS, BOUND_S, who)))

    waiters = [threading.Thread(target=ask, args=(who,)) for who in (FLOOD, FLOOD, OTHER)]
    for number, waiter in enumerate(waiters):
        waiter.start()
        wait_until(lambda number=number: len(pool._places._line) == number + 1)  # type: ignore[misc]
    held[0].close(1)
    wait_until(lambda: len(got) == 1)
    assert got[0][0] == "other"
    held[1].close(1)
    wait_until(lambda: len(got) == 2)
    got[0][1].close(1)
    for waiter in waiters:
        waiter.join(BOUND_S)
    assert [name for name, _ in got] == ["other", "flood", "flood"]
    pool.close()


# --- warm workers -----------------------------------------------------------------------------------------------------


def test_a_flood_does_not_take_the_last_warm_worker_again_and_again(
    maker: FakeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SHARE_S", BOUND_S)
    pool = WorkerPool(lambda: maker, warm=1)
    pool.lease(LIMITS, BOUND_S, OTHER)
    wait_until(lambda: pool.stats().warm == 1)
    pool.lease(LIMITS, BOUND_S, FLOOD)
    wait_until(lambda: pool.stats().warm == 1)
    for _ in range(5):
        pool.lease(LIMITS, BOUND_S, FLOOD)  # cold, all of them
    assert (pool.stats().warm, pool.stats().leased_warm) == (1, 1)
    pool.lease(LIMITS, BOUND_S, OTHER)
    assert pool.stats().leased_warm == 2
    pool.close()


def test_a_tenant_alone_gets_every_warm_worker(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=1)
    for number in range(4):
        pool.lease(LIMITS, BOUND_S, FLOOD)
        wait_until(lambda: pool.stats().warm == 1)
        assert pool.stats().leased_warm == number
    pool.close()


def test_a_warm_worker_that_holds_the_last_place_is_given_to_whoever_asks(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=1, max_workers=3)
    pool.lease(LIMITS, BOUND_S, OTHER).close(1)
    for _ in range(3):
        wait_until(lambda: pool.stats().warm == 1)
        pool.lease(LIMITS, BOUND_S, FLOOD)
    assert pool.stats().live == 3
    pool.close()


def test_the_share_comes_back_with_time_and_names_are_forgotten() -> None:
    line = Places(9)
    line.note_lease("flood", 0.0, warm=True)
    line.note_lease("other", 0.0, warm=False)
    assert not line.may_take_last("flood", 0.5)
    assert line.may_take_last("other", 0.5)
    assert line.may_take_last("flood", places.SHARE_S + 0.1)
    for number in range(1000):
        line.note_lease(f"tenant {number}", 1.0, warm=True)
    line.may_take_last("flood", places.ALONE_AFTER_S + 2)
    assert (line._leased_at, line._warm_at) == ({}, {})
