"""Places for work that burns CPU: a tenant has a few, and who comes when all are taken stands in line.

The rule: a lane never gives out more places than it has, and a place is held only while the guest may run. While the
host works for a cell (a tool call, a timer) its place serves another one, and the cell waits for a place before its
guest goes on. First in line are those that have run already, then who came first.

No thread waits for a first place: the one that gives a place up starts the next in line, or an alarm does where the
lane has a pace (pace.py). `Turn.away` is the only wait.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from .errors import PoolExhausted
from .pace import Pace
from .supervisor import Watched

Alarm = Callable[[Watched, float], None]
"""Asks for one `on_due` at this time (monotonic seconds); from any thread, without blocking."""
GO_ON_S = 5.0
"""A cell that waits to go on looks by itself this often whether it was told to; nothing should depend on it."""


class _State(enum.Enum):
    NEW = "new"
    WAITING = "waiting"
    HELD = "held"
    AWAY = "away"
    RETURNING = "returning"
    OVERDUE = "overdue"
    """Let on without a place, for the guest to see its interrupt; the kill ladder ends it within its grace."""
    GONE = "gone"


class Lane:
    """Some places and a line. Safe to use from any thread."""

    def __init__(
        self,
        places: int,
        *,
        patience_s: float,
        refusal: Callable[[], PoolExhausted],
        pace: Pace | None = None,
        alarm: Alarm | None = None,
    ) -> None:
        """
        Args:
            places: how many may be held at once.
            patience_s: seconds that a turn stands in line before it is refused.
            refusal: makes the error for that.
            pace: makes first places wait, also free ones; with `alarm`, which ends that wait.
        """
        self.places = places
        self.patience_s = patience_s
        self.refusal = refusal
        self._books = _Books(places, pace, alarm)

    @property
    def held(self) -> int:
        """Places that are taken now."""
        return self._books.held

    @property
    def waiting(self) -> int:
        """Turns in line, those that only go on included."""
        return len(self._books.waiting) + len(self._books.returning)

    def turn(self) -> Turn:
        """A turn that stands nowhere yet."""
        return Turn(self, self._books)


class _Books:
    """Who holds a place and who waits, for a lane and all its turns."""

    def __init__(self, places: int, pace: Pace | None, alarm: Alarm | None) -> None:
        self.places = places
        self.pace = pace
        self._alarm = alarm
        self._pausing = False
        """An alarm is set: first places are not given out before it."""
        self.gate = threading.Lock()
        """Guards all below, and the states of all turns."""
        self.held = 0
        self.returning: deque[Turn] = deque()
        self.waiting: deque[Turn] = deque()
        self._due: deque[Callable[[], None]] = deque()
        """What those who got a place are to be called with."""
        self._calling = False

    def has_room(self) -> bool:
        return self.held < self.places and not self.returning

    def pass_on(self) -> None:
        """Under the gate: free places go to whoever is first in line."""
        while self.held < self.places and (self.returning or (self.waiting and not self._has_to_pause())):
            self.held += 1
            turn = self.returning.popleft() if self.returning else self.waiting.popleft()
            if turn.got_place():
                self._due.append(turn.go)

    def _has_to_pause(self) -> bool:
        """Whether the first in line begins later; the alarm is set then."""
        if self.pace is None or self._alarm is None or self._pausing:
            return self._pausing
        now = time.monotonic()
        pause_s = self.pace.pause_s(now)
        self._pausing = pause_s > 0
        if self._pausing:
            self._alarm(self, now + pause_s)
        return self._pausing

    def on_due(self) -> None:
        """The alarm: whoever is first may begin. What ended meanwhile may ask for another pause."""
        with self.gate:
            self._pausing = False
            self.pass_on()
        self.call_due()

    def give_back(self, held_since: float) -> None:
        """Under the gate: a place is free again."""
        self.held -= 1
        if self.pace is not None:
            now = time.monotonic()
            self.pace.worked(now, now - held_since)

    def call_due(self) -> None:
        """Start who got a place, without the gate. One thread at a time: a start that fails gives its place up at once,
        and a whole line of them must not end in recursion."""
        while True:
            with self.gate:
                if self._calling or not self._due:
                    return
                self._calling = True
                go = self._due.popleft()
            try:
                go()
            finally:
                with self.gate:
                    self._calling = False


class Turn:
    """One request's way through a lane. `begin` it once and `end` it always; as a context manager it is `away`."""

    def __init__(self, lane: Lane, books: _Books) -> None:
        self._lane = lane
        self._books = books
        self._state = _State.NEW
        self._hurried = False
        self._called = threading.Event()
        self._in_line_since = 0.0
        self._held_since = 0.0
        self.waited_s = 0.0
        """Seconds that it stood in line."""
        self.go: Callable[[], None] = _nothing

    @property
    def patience_s(self) -> float:
        """Seconds that it may stand in line."""
        return self._lane.patience_s

    def refusal(self) -> PoolExhausted:
        """The error for a turn that stood in line in vain."""
        return self._lane.refusal()

    def begin(self, go: Callable[[], None]) -> None:
        """Call `go` once: now if a place is free, else when this turn's time comes, on the thread that made room.
        `go` may call `end`; it must neither block nor raise."""
        books = self._books
        with books.gate:
            if self._state is not _State.NEW:
                return  # ended before it began
            self.go = go
            self._state = _State.WAITING
            self._in_line_since = time.monotonic()
            books.waiting.append(self)
            books.pass_on()
        books.call_due()

    def give_up(self) -> bool:
        """Leave the line before the first place; False where it is too late for that or was never in line."""
        with self._books.gate:
            if self._state is not _State.WAITING:
                return False
            self._books.waiting.remove(self)
            self._leave()
            return True

    def end(self) -> None:
        """Give back what it holds. From any state and any thread; idempotent."""
        books = self._books
        with books.gate:
            if self._state is _State.HELD:
                books.give_back(self._held_since)
            elif self._state is _State.WAITING:
                books.waiting.remove(self)
            elif self._state is _State.RETURNING:
                books.returning.remove(self)
            self._leave()
            books.pass_on()
        books.call_due()

    def hurry(self) -> None:
        """The cell is past its deadline, or nobody wants it: it goes on without a place to hear of it. Any thread."""
        with self._books.gate:
            self._hurried = True
            if self._state is _State.RETURNING:
                self._books.returning.remove(self)
                self._count_wait()
                self._state = _State.OVERDUE
            self._called.set()

    # --- while the host works -----------------------------------------------------------------------------------------

    def __enter__(self) -> None:
        """The guest waits for its host: somebody else may have the place."""
        books = self._books
        with books.gate:
            if self._state is not _State.HELD:
                return
            self._state = _State.AWAY
            books.give_back(self._held_since)
            books.pass_on()
        books.call_due()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Back in line, before those who have not begun; blocks until there is a place, `hurry` or `end`."""
        books = self._books
        with books.gate:
            if self._state is not _State.AWAY:
                return
            if self._hurried:
                self._state = _State.OVERDUE
                return
            if books.has_room():
                books.held += 1
                self._hold(time.monotonic())
                return
            self._called.clear()
            self._state = _State.RETURNING
            self._in_line_since = time.monotonic()
            books.returning.append(self)
        while self._state is _State.RETURNING:
            self._called.wait(GO_ON_S)

    # --- under the gate -----------------------------------------------------------------------------------------------

    def got_place(self) -> bool:
        """For the lane: a place is this turn's now. True where `go` is to be called for it."""
        first = self._state is _State.WAITING
        self._count_wait()
        self._hold(time.monotonic())
        self._called.set()
        return first

    def _hold(self, now: float) -> None:
        self._state, self._held_since = _State.HELD, now

    def _count_wait(self) -> None:
        self.waited_s += time.monotonic() - self._in_line_since

    def _leave(self) -> None:
        self._state = _State.GONE
        self.go = _nothing
        self._called.set()


def _nothing() -> None:
    """What a turn that is over would start."""
