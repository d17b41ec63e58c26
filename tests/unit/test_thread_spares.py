"""The spares of thread isolation, with instances that are flags."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.support.waiting import wait_until

from cloche.runtime.thread_spares import ThreadSpares
from cloche.wasm_sandbox.instance import Trapped


class Box:
    def __init__(self, rehearse: Callable[[], None] = lambda: None) -> None:
        self.rehearsed = self.closed = False
        self._rehearse = rehearse

    def rehearse(self) -> None:
        self._rehearse()
        self.rehearsed = True

    def close(self) -> None:
        self.closed = True


class Maker:
    def __init__(self) -> None:
        self.made: list[Box] = []
        self.rehearse: Callable[[], None] = lambda: None
        self.refuses = False

    def __call__(self) -> Box:
        if self.refuses:
            raise OSError("no room")
        self.made.append(Box(self.rehearse))
        return self.made[-1]


def test_one_sandbox_costs_one_instance() -> None:
    make = Maker()
    spares = ThreadSpares(make, None)
    assert spares.take() is make.made[0]
    assert not make.made[0].rehearsed
    spares.close()
    assert len(make.made) == 1


def test_the_second_sandbox_makes_a_spare_and_the_third_takes_it_rehearsed() -> None:
    make = Maker()
    spares = ThreadSpares(make, None)
    spares.take()
    spares.take()
    wait_until(lambda: spares.ready == 1)
    third = spares.take()
    assert third is make.made[2]
    assert third.rehearsed
    spares.close()


def test_a_number_of_spares_set_by_hand_counts_from_the_first_sandbox() -> None:
    make = Maker()
    spares = ThreadSpares(make, 3)
    spares.take()
    wait_until(lambda: spares.ready == 3)
    spares.close()
    assert [box.closed for box in make.made] == [False, True, True, True]


def test_no_spares_means_none() -> None:
    make = Maker()
    spares = ThreadSpares(make, 0)
    assert [spares.take() for _ in range(4)] == make.made
    spares.close()


def test_no_spare_is_given_out_twice() -> None:
    make = Maker()
    spares = ThreadSpares(make, 2)
    taken: list[Box] = []

    def take_some() -> None:
        taken.extend(spares.take() for _ in range(50))

    threads = [threading.Thread(target=take_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    spares.close()
    assert len({id(box) for box in taken}) == len(taken) == 200
    assert not any(box.closed for box in taken)


def test_where_no_spare_can_be_made_the_next_taker_hears_why() -> None:
    make = Maker()
    spares = ThreadSpares(make, 1)
    spares.take()
    wait_until(lambda: spares.ready == 1)
    make.refuses = True
    spares.take()
    with pytest.raises(OSError, match="no room"):
        spares.take()
    make.refuses = False
    spares.take()
    wait_until(lambda: spares.ready == 1)
    spares.close()


def test_an_instance_that_is_lost_in_its_rehearsal_is_closed_and_never_given_out() -> None:
    make = Maker()

    def trap() -> None:
        raise Trapped("lost")

    make.rehearse = trap
    spares = ThreadSpares(make, 1)
    spares.take()
    wait_until(lambda: len(make.made) == 2 and make.made[1].closed)
    assert spares.ready == 0
    assert spares.take() is make.made[2]
    spares.close()


def test_a_spare_that_comes_after_the_close_is_closed() -> None:
    make, began, go_on = Maker(), threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(10)

    make.rehearse = wait
    spares = ThreadSpares(make, 1)
    spares.take()
    assert began.wait(10)
    closing = threading.Thread(target=spares.close)
    closing.start()
    wait_until(lambda: spares.closed)
    go_on.set()
    closing.join(10)
    assert make.made[1].closed
    assert spares.ready == 0
