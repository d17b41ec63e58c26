"""A model of a lane: whoever begins, goes away, comes back, gives up or ends, no place is given twice or lost."""

from __future__ import annotations

import threading
import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.waiting import wait_until

from cloche.runtime.errors import PoolExhausted
from cloche.runtime.lanes import Lane, Turn
from cloche.runtime.pace import Pace
from cloche.runtime.supervisor import Watched

BOUND_S = 30.0


class Request:
    """One turn and what became of it. `__exit__` blocks, so each return has a thread of its own."""

    def __init__(self, lane: Lane, fails: bool) -> None:
        self.turn: Turn = lane.turn()
        self.fails = fails
        self.went = 0
        self.over = False
        self.away = False
        self.returning: threading.Thread | None = None
        self.hurried = False

    def begin(self) -> None:
        self.turn.begin(self._go)

    def _go(self) -> None:
        self.went += 1
        if self.fails:  # the system has no thread for it
            self.over = True
            self.turn.end()

    @property
    def runs(self) -> bool:
        """In its guest, as its server thread sees it."""
        return bool(self.went) and not self.over and not self.away and not self._waits_to_go_on()

    def _waits_to_go_on(self) -> bool:
        if self.returning is not None and not self.returning.is_alive():
            self.returning = None
        return self.returning is not None


class LaneMachine(RuleBasedStateMachine):
    @initialize(places=st.integers(1, 3), paced=st.booleans())
    def open(self, places: int, paced: bool) -> None:
        self.alarms = 0
        self.pace = Pace(places, lambda: False) if paced else None
        refusal = lambda: PoolExhausted("full", retry_after_s=1)  # noqa: E731  # short
        self.lane = Lane(places, patience_s=1, refusal=refusal, pace=self.pace, alarm=self._set_alarm)
        self.requests: list[Request] = []

    def _set_alarm(self, item: Watched, at: float) -> None:
        self.alarms += 1
        self.due = item
        assert self.alarms == 1, "a second alarm before the first rang"

    @precondition(lambda self: getattr(self, "alarms", 0) > 0)
    @rule()
    def ring(self) -> None:
        self.alarms -= 1
        self.due.on_due()

    @precondition(lambda self: getattr(self, "pace", None) is not None)
    @rule()
    def wear_out(self) -> None:
        """The lane has worked for long: what has not begun waits for an alarm."""
        assert self.pace is not None
        self.pace.worked(time.monotonic(), 3600.0)

    def _pick(self, index: int) -> Request | None:
        alive = [request for request in self.requests if not request.over]
        return alive[index % len(alive)] if alive else None

    @rule(fails=st.booleans())
    def begin(self, fails: bool) -> None:
        request = Request(self.lane, fails)
        self.requests.append(request)
        request.begin()

    @rule(index=st.integers(0, 50))
    def give_up(self, index: int) -> None:
        request = self._pick(index)
        if request is not None and request.turn.give_up():
            assert request.went == 0
            request.over = True

    @rule(index=st.integers(0, 50))
    def end(self, index: int) -> None:
        request = self._pick(index)
        if request is not None:
            request.over = True
            request.turn.end()
            self._joined(request)
            request.turn.end()

    @rule(index=st.integers(0, 50))
    def go_away(self, index: int) -> None:
        request = self._pick(index)
        if request is not None and request.runs:
            request.away = True
            request.turn.__enter__()

    @rule(index=st.integers(0, 50))
    def come_back(self, index: int) -> None:
        request = self._pick(index)
        if request is None or not request.away:
            return
        request.away = False
        before = self.lane.held, self.lane.waiting
        request.returning = threading.Thread(target=request.turn.__exit__, args=(None, None, None), daemon=True)
        request.returning.start()
        if request.hurried or before[0] < self.lane.places:
            self._joined(request)
        else:
            wait_for_line(self.lane, before[1] + 1)

    @rule(index=st.integers(0, 50))
    def hurry(self, index: int) -> None:
        request = self._pick(index)
        if request is not None:
            request.hurried = True
            request.turn.hurry()
            self._joined(request)

    @precondition(lambda self: hasattr(self, "lane"))
    @invariant()
    def places_and_line_add_up(self) -> None:
        assert 0 <= self.lane.held <= self.lane.places
        for request in self.requests:
            assert request.went <= 1
        if self.lane.held < self.lane.places and not self.alarms:
            assert self.lane.waiting == 0, "a place is free and somebody waits"
        in_guest = [request for request in self.requests if request.runs and not request.hurried]
        assert len(in_guest) <= self.lane.held

    def teardown(self) -> None:
        if not hasattr(self, "lane"):
            return
        for request in self.requests:
            request.over = True
            request.turn.end()
            self._joined(request)
        if self.alarms:
            self.due.on_due()
        assert (self.lane.held, self.lane.waiting) == (0, 0)

    @staticmethod
    def _joined(request: Request) -> None:
        if request.returning is not None:
            request.returning.join(BOUND_S)
            assert not request.returning.is_alive()
            request.returning = None


def wait_for_line(lane: Lane, length: int) -> None:
    wait_until(lambda: lane.waiting == length, BOUND_S)


LaneMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
test_a_lane_neither_gives_a_place_twice_nor_loses_one = LaneMachine.TestCase
