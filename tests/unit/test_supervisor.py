"""Deadlines: each item gets its steps, in time and no sooner, and a stream of short ones wakes nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.supervisor import Supervisor

BOUND_S = 30.0


class Steps:
    """Takes `count` steps, `gap_s` apart."""

    def __init__(self, count: int = 1, gap_s: float = 0.0) -> None:
        self.left = count
        self.gap_s = gap_s
        self.at: list[float] = []
        self.threads: set[int] = set()
        self.over = threading.Event()

    def on_due(self) -> float | None:
        self.at.append(time.monotonic())
        self.threads.add(threading.get_ident())
        self.left -= 1
        if self.left:
            return time.monotonic() + self.gap_s
        self.over.set()
        return None


class Held:
    """Keeps the supervisor's thread until it is let go: nothing else is due meanwhile."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def on_due(self) -> None:
        self.began.set()
        self.go_on.wait(BOUND_S)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.close()


def test_an_item_is_due_at_its_time_and_not_before(supervisor: Supervisor) -> None:
    due_at = time.monotonic() + 0.02
    steps = Steps()
    supervisor.watch(steps, due_at)
    assert steps.over.wait(BOUND_S)
    assert steps.at[0] >= due_at


def test_an_item_is_asked_again_until_it_says_that_nothing_is_left(supervisor: Supervisor) -> None:
    steps = Steps(3, gap_s=0.005)
    supervisor.watch(steps, time.monotonic())
    assert steps.over.wait(BOUND_S)
    assert len(steps.at) == 3
    assert all(later - earlier >= 0.005 for earlier, later in zip(steps.at, steps.at[1:], strict=False))


def test_an_earlier_deadline_overtakes_a_later_one(supervisor: Supervisor) -> None:
    late, early = Steps(), Steps()
    supervisor.watch(late, time.monotonic() + 60)
    supervisor.watch(early, time.monotonic() + 0.01)
    assert early.over.wait(BOUND_S)
    assert not late.at


def test_a_second_watch_moves_the_deadline(supervisor: Supervisor) -> None:
    steps = Steps()
    supervisor.watch(steps, time.monotonic() + 60)
    supervisor.watch(steps, time.monotonic())
    assert steps.over.wait(BOUND_S)


def test_a_forgotten_item_is_never_due(supervisor: Supervisor) -> None:
    forgotten, marker, held = Steps(), Steps(), Held()
    supervisor.watch(held, time.monotonic())
    assert held.began.wait(BOUND_S)
    supervisor.watch(forgotten, time.monotonic())
    supervisor.forget(forgotten)
    supervisor.watch(marker, time.monotonic())
    held.go_on.set()
    assert marker.over.wait(BOUND_S)
    assert not forgotten.at


def test_all_items_share_one_thread(supervisor: Supervisor) -> None:
    items = [Steps(2) for _ in range(50)]
    for item in items:
        supervisor.watch(item, time.monotonic() + 0.005)
    assert all(item.over.wait(BOUND_S) for item in items)
    assert len({thread for item in items for thread in item.threads}) == 1


def test_later_deadlines_do_not_wake_the_thread(supervisor: Supervisor) -> None:
    supervisor.watch(Steps(), time.monotonic() + 30)
    for _ in range(200):
        steps = Steps()
        supervisor.watch(steps, time.monotonic() + 30.1)
        supervisor.forget(steps)
    marker = Steps()
    supervisor.watch(marker, time.monotonic())
    assert marker.over.wait(BOUND_S)
    assert supervisor.wake_ups <= 3  # for the first, for the marker, and one to spare


def test_a_closed_supervisor_watches_nothing(supervisor: Supervisor) -> None:
    steps = Steps()
    supervisor.watch(steps, time.monotonic() + 60)
    supervisor.close()
    with pytest.raises(RuntimeClosed):
        supervisor.watch(steps, time.monotonic())
    assert not steps.at
