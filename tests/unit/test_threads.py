"""Threads that the system does not give: the caller hears it, nothing is changed, and the next one gets it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cloche.runtime.errors import PoolExhausted
from cloche.runtime.servers import STACK_BYTES, ServerThreads
from cloche.runtime.supervisor import Supervisor
from cloche.runtime.threads import start_thread
from cloche.runtime.watch import WorkerWatch

BOUND_S = 10.0
Refuse = Callable[[], None]


@pytest.fixture
def refuse_one(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Called, lets the next start of a thread fail as it does where no more are to be had."""
    start, refusals = threading.Thread.start, list[int]()

    def may_fail(thread: threading.Thread) -> None:
        if refusals:
            refusals.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", may_fail)
    return lambda: refusals.append(1)


def test_a_thread_runs_what_it_was_given() -> None:
    seen: list[object] = []
    thread = start_thread("cloche-test", seen.append, 5)
    thread.join(BOUND_S)
    assert (seen, thread.name, thread.daemon) == ([5], "cloche-test", True)


@pytest.mark.parametrize("stack_bytes", [0, STACK_BYTES])
def test_no_thread_is_a_typed_error_that_may_be_tried_again(refuse_one: Refuse, stack_bytes: int) -> None:
    refuse_one()
    with pytest.raises(PoolExhausted, match="no thread for cloche-test: can't start new thread") as caught:
        start_thread("cloche-test", list, stack_bytes=stack_bytes)
    assert (caught.value.scope, caught.value.retry_after_s) == ("machine", 0.5)
    start_thread("cloche-test", list, stack_bytes=stack_bytes).join(BOUND_S)


def test_a_stack_of_its_own_leaves_the_process_setting_alone(refuse_one: Refuse) -> None:
    before = threading.stack_size()
    start_thread("cloche-test", list, stack_bytes=STACK_BYTES).join(BOUND_S)
    refuse_one()
    with pytest.raises(PoolExhausted):
        start_thread("cloche-test", list, stack_bytes=STACK_BYTES)
    assert threading.stack_size() == before


class Item:
    """Is due once; is looked at once."""

    pid, serving, requests, gone, extra_resident_bytes = None, False, 0, True, 0

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.link = self

    def on_due(self) -> None:
        self.seen.set()

    def look(self) -> bool:
        self.seen.set()
        return True


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.close()


@pytest.fixture
def watch() -> Iterator[WorkerWatch]:
    made = WorkerWatch()
    yield made
    made.close()


def test_deadlines_hold_after_a_start_that_failed(supervisor: Supervisor, refuse_one: Refuse) -> None:
    refused, item = Item(), Item()
    refuse_one()
    with pytest.raises(PoolExhausted):
        supervisor.watch(refused, time.monotonic())
    supervisor.watch(item, time.monotonic())
    assert item.seen.wait(BOUND_S)
    assert not refused.seen.is_set()


def test_workers_are_looked_at_after_a_start_that_failed(watch: WorkerWatch, refuse_one: Refuse) -> None:
    refused, item = Item(), Item()
    refuse_one()
    with pytest.raises(PoolExhausted):
        watch.add_look(refused)
    watch.add_look(item)
    assert item.seen.wait(BOUND_S)
    assert not refused.seen.is_set()


def test_jobs_are_done_after_a_start_that_failed(refuse_one: Refuse) -> None:
    servers, done = ServerThreads(), threading.Event()
    refuse_one()
    with pytest.raises(PoolExhausted):
        servers.submit(done.set)
    assert not done.is_set()
    servers.submit(done.set)
    assert done.wait(BOUND_S)
    servers.close()


@pytest.mark.parametrize("make", [Supervisor, WorkerWatch])
def test_a_close_after_a_start_that_failed_ends(make: type[Supervisor] | type[WorkerWatch], refuse_one: Refuse) -> None:
    made = make()
    refuse_one()
    with pytest.raises(PoolExhausted):
        made.watch(Item(), math.inf - 1) if isinstance(made, Supervisor) else made.add_look(Item())
    made.close()
