"""The pool's rules, with workers that are sockets and flags instead of processes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.support.fake_maker import FakeMaker, FakeProcess
from tests.support.waiting import wait_until as wait_for

from cloche.runtime.errors import PoolExhausted, RuntimeClosed, UsedAfterFork, WorkerCrashed
from cloche.runtime.limits import Limits
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import Hello
from cloche.runtime.tenants import Tenant

LIMITS = Limits()
BOUND_S = 30.0


@pytest.fixture
def maker() -> Iterator[FakeMaker]:
    maker = FakeMaker()
    yield maker
    maker.close()


def tenant(name: str) -> Tenant:
    return Tenant(name, sandboxes=9, workers=9, running_cells=1, wait_s=1, tool_threads=1)


def wait_until(pool: WorkerPool, *, warm: int) -> None:
    """Let the refiller work until that many are warm."""
    wait_for(lambda: pool.stats().warm == warm)


def test_one_sandbox_costs_one_worker(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker)
    pool.lease(LIMITS, BOUND_S)
    assert len(maker.made) == 1
    assert pool.stats().warm == 0
    pool.close()


def test_the_second_sandbox_starts_a_spare_and_the_third_takes_it(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker)
    pool.lease(LIMITS, BOUND_S)
    pool.lease(LIMITS, BOUND_S)
    wait_until(pool, warm=1)
    assert len(maker.made) == 3
    third = pool.lease(LIMITS, BOUND_S)
    assert third.process is maker.made[2]
    assert pool.stats().leased_warm == 1
    pool.close()


def test_a_number_of_warm_workers_set_by_hand_counts_from_the_first_sandbox(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=3)
    pool.lease(LIMITS, BOUND_S)
    wait_until(pool, warm=3)
    assert pool.stats().live == 4
    pool.close()


def test_no_warm_workers_means_none(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    for _ in range(3):
        pool.lease(LIMITS, BOUND_S)
    assert (pool.stats().warm, len(maker.made)) == (0, 3)
    pool.close()


def test_a_full_pool_says_when_to_come_again(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0, max_workers=2)
    pool.lease(LIMITS, BOUND_S)
    pool.lease(LIMITS, BOUND_S)
    with pytest.raises(PoolExhausted, match="all 2 workers are in use") as caught:
        pool.lease(LIMITS, 0)
    assert caught.value.retry_after_s > 0
    pool.close()


def test_a_waiting_lease_gets_the_place_of_a_worker_that_dies(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0, max_workers=1)
    first = pool.lease(LIMITS, BOUND_S)
    got: list[ProcessLink] = []
    waiter = threading.Thread(target=lambda: got.append(pool.lease(LIMITS, BOUND_S)))
    waiter.start()
    first.close(1)
    waiter.join(BOUND_S)
    assert [link.process for link in got] == [maker.made[1]]
    pool.close()


def test_a_spare_never_takes_the_last_place_twice(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=5, max_workers=2)
    pool.lease(LIMITS, BOUND_S)
    wait_until(pool, warm=1)
    pool.lease(LIMITS, BOUND_S)
    assert pool.stats().live == 2
    pool.close()


def test_a_dead_spare_is_not_leased_and_a_new_one_comes(maker: FakeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloche.runtime.pool.YOUNG_S", BOUND_S)  # its death is no reason to make another at once
    pool = WorkerPool(lambda: maker, warm=1)
    pool.lease(LIMITS, BOUND_S)
    wait_until(pool, warm=1)
    maker.made[1].die(-9)
    assert pool.stats().warm == 0
    link = pool.lease(LIMITS, BOUND_S)
    assert link.process is maker.made[2]
    wait_until(pool, warm=1)
    pool.close()


def test_a_spare_that_dies_as_it_gets_ready_is_not_kept(maker: FakeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool hears of its death between its hello and its place among the warm ones; `exited` comes later."""
    real = ProcessLink.wait_hello
    dying: list[FakeProcess] = []

    def wait_hello(link: ProcessLink, timeout_s: float) -> Hello:
        hello = real(link, timeout_s)
        if len(maker.made) == 2:
            dying.append(maker.made[1])
            dying[0].tell()
        return hello

    monkeypatch.setattr(ProcessLink, "wait_hello", wait_hello)
    pool = WorkerPool(lambda: maker, warm=1)
    first = pool.lease(LIMITS, 1, tenant("a"))
    wait_for(lambda: bool(dying) and pool.stats().live == 1)
    assert pool.stats().warm == 0
    second = pool.lease(LIMITS, 1, tenant("b"))
    assert second.process is maker.made[2]
    wait_until(pool, warm=1)
    first.close(1)
    second.close(1)
    assert (pool.stats().by_tenant, pool.stats().live) == ({}, 1)
    pool.close()


def test_a_worker_that_dies_before_it_is_ready_is_replaced_once(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    maker.broken = 1
    assert pool.lease(LIMITS, BOUND_S).process is maker.made[1]
    maker.broken = 2
    with pytest.raises(WorkerCrashed, match="its own side of the bridge failed"):
        pool.lease(LIMITS, BOUND_S)
    assert pool.stats().live == 1
    pool.close()


def test_a_silent_worker_is_killed_at_the_deadline_and_gives_its_place_back(maker: FakeMaker) -> None:
    class Silent(FakeMaker):
        def start_worker(self) -> ProcessLink:
            frames, far = socket.socketpair()
            control, far_control = socket.socketpair()
            self.far_ends += [far, far_control]
            self.made.append(FakeProcess())
            return ProcessLink(frames, control, self.made[-1])

    silent = Silent()
    pool = WorkerPool(lambda: silent, warm=0, max_workers=1)
    with pytest.raises(PoolExhausted, match="no worker was ready in time"):
        pool.lease(LIMITS, 0.05)
    assert (silent.living, pool.stats().live) == (0, 0)
    pool.close()


def test_a_worker_of_whose_birth_nobody_told_is_not_leased(maker: FakeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has said hello; but nobody could look at it from outside."""

    def untold(_process: FakeProcess, _timeout_s: float) -> bool:
        return False

    monkeypatch.setattr(FakeProcess, "wait_birth", untold)
    pool = WorkerPool(lambda: maker, warm=0)
    with pytest.raises(WorkerCrashed, match="the worker was not ready within"):
        pool.lease(LIMITS, 60)
    assert (maker.living, pool.stats().live) == (0, 0)
    pool.close()


def test_a_dead_fork_server_is_started_again(maker: FakeMaker) -> None:
    second = FakeMaker()
    makers = iter([maker, second])
    pool = WorkerPool(lambda: next(makers), warm=0)
    first = pool.lease(LIMITS, BOUND_S)
    maker.alive = False
    pool.lease(LIMITS, BOUND_S)
    first.close(1)
    assert (len(second.made), pool.stats().maker_starts) == (1, 2)
    pool.close()
    second.close()


def test_close_kills_every_worker_and_a_second_close_does_nothing(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=2)
    pool.lease(LIMITS, BOUND_S)
    wait_until(pool, warm=2)
    pool.close()
    assert (maker.living, maker.alive, pool.stats().live) == (0, False, 0)
    pool.close()
    with pytest.raises(RuntimeClosed):
        pool.lease(LIMITS, BOUND_S)


def test_close_wakes_whoever_waits_for_a_place(maker: FakeMaker) -> None:
    pool = WorkerPool(lambda: maker, warm=0, max_workers=1)
    pool.lease(LIMITS, BOUND_S)
    errors: list[Exception] = []

    def wait_for_place() -> None:
        try:
            pool.lease(LIMITS, BOUND_S)
        except (RuntimeClosed, PoolExhausted) as exc:
            errors.append(exc)

    waiter = threading.Thread(target=wait_for_place)
    waiter.start()
    pool.close()
    waiter.join(BOUND_S)
    assert [type(error) for error in errors] == [RuntimeClosed]


def test_a_pool_refuses_to_work_in_a_forked_child_and_leaves_the_workers_alone(
    maker: FakeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(lambda: maker, warm=0)
    link = pool.lease(LIMITS, BOUND_S)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(UsedAfterFork):
            pool.lease(LIMITS, BOUND_S)
        link.close(1)
        pool.close()
        assert maker.living == 1
    pool.close()
    assert maker.living == 0
