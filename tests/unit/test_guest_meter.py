"""The guest's CPU time in thread isolation: what counts, who may read it, and what the watch does with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cloche.runtime.errors import ClocheError, LimitExceeded
from cloche.runtime.guest_meter import GuestMeter, MeteredLook
from cloche.runtime.limits import Limits


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def least_of(measure: Callable[[], float]) -> float:
    """Of several: a virtual machine that stands still may charge the thread that runs for it."""
    return min(measure() for _ in range(5))


def test_only_the_time_between_going_on_and_stopping_counts() -> None:
    def measure() -> float:
        meter = GuestMeter()
        meter.begin()
        burn(0.02)
        meter.stop()
        first = meter.used_s()
        assert first >= 0.02
        burn(0.05)
        assert meter.used_s() == first
        meter.go_on()
        burn(0.02)
        meter.stop()
        meter.stop()
        return meter.used_s()

    assert 0.04 <= least_of(measure) < 0.07


def test_a_guest_that_comes_and_goes_often_is_charged_for_its_part() -> None:
    def measure() -> float:
        meter = GuestMeter()
        meter.begin()
        for _ in range(100):
            burn(0.0002)
            meter.stop()
            burn(0.0004)
            meter.go_on()
        meter.stop()
        return meter.used_s()

    assert 0.02 <= least_of(measure) < 0.05


def test_time_that_the_guest_waits_for_is_not_charged() -> None:
    def measure() -> float:
        meter = GuestMeter()
        meter.begin()
        threading.Event().wait(0.05)  # as on a machine where others have the processor
        meter.stop()
        return meter.used_s()

    assert least_of(measure) < 0.04


def test_a_new_request_starts_from_nothing() -> None:
    def measure() -> float:
        meter = GuestMeter()
        meter.begin()
        burn(0.02)
        meter.begin()
        return meter.used_s()

    assert least_of(measure) < 0.02


def test_another_thread_reads_it_while_the_guest_runs_and_after_its_thread_has_ended() -> None:
    meter, read, running = GuestMeter(), threading.Event(), threading.Event()

    def guest() -> None:
        meter.begin()
        burn(0.02)
        running.set()
        while not read.is_set():
            pass

    thread = threading.Thread(target=guest)
    thread.start()
    assert running.wait(30)
    assert meter.used_s() >= 0.02
    read.set()
    thread.join(30)
    assert meter.used_s() >= 0


class Link:
    """An instance whose guest has used so much."""

    def __init__(self, used_s: float) -> None:
        self.meter = GuestMeter()
        self.meter._state = (used_s, 0.0, 0.0, 0.0, None)  # pyright: ignore[reportPrivateUsage]
        self.gone = False
        self.error: ClocheError | None = None

    def condemn(self, error: ClocheError) -> None:
        self.error = error


def test_the_look_condemns_a_guest_over_its_budget_and_no_other() -> None:
    over, at_it, gone = Link(1.01), Link(1.0), Link(5.0)
    gone.gone = True
    assert [MeteredLook(link, Limits(cpu_s=1)).look() for link in (over, at_it, gone)] == [True, False, True]
    assert isinstance(over.error, LimitExceeded)
    assert (over.error.limit, over.error.used, over.error.allowed) == ("cpu_s", 1.01, 1)
    assert (at_it.error, gone.error) == (None, None)
