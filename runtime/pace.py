"""How fast one tenant may begin work while others want the machine: a stretch at full speed, then a share of the time.

The rule: who is alone is not paced, and no pause is longer than it takes to start a few sandboxes. A start burns a core
for some 15 ms outside every guest's limits; without a pace, one who asks for sandboxes without end keeps a core in it
for as long as its caps allow.
"""

from __future__ import annotations

from collections.abc import Callable

SHARE = 0.25
"""Of the time, for each place of the lane: what a tenant may spend without an end."""
BURST_S = 0.1
"""Seconds of work at full speed before that holds: half a dozen starts."""
PAUSE_S = 0.06
"""The longest pause before one turn, however long the work before it took."""
TOLERANCE_S = 0.001
"""Above the level that is allowed: an alarm that rings a moment too early is not set again."""
PRESSES_S = 1.0
"""Pauses with less than this between them are one run of them."""
PRESSES_AFTER = 8
"""Pauses in a run until a tenant counts as one that presses: what it begins then goes behind the others, for good. One
who opens a dozen sandboxes and keeps them does not press."""


class Pace:
    """What a tenant has begun lately: seconds of work fill it, time drains it. The owner guards it."""

    def __init__(self, places: int, alone: Callable[[], bool]) -> None:
        """
        Args:
            places: of the lane; each drains its share.
            alone: whether nobody else is there. Called under the owner's guard, so it takes no lock.
        """
        self._drain = SHARE * places
        self._alone = alone
        self._level_s = 0.0
        self._at = 0.0
        self._pauses = 0
        """In the run that ends, unless another comes, at the time below."""
        self._run_until = 0.0

    def worked(self, now: float, seconds: float) -> None:
        """A turn held its place for so long, and gave it back at `now` (monotonic seconds)."""
        self._to(now)
        # Above this the pause would be longer than allowed.
        self._level_s = min(self._level_s + seconds, BURST_S + PAUSE_S * self._drain)

    def pause_s(self, now: float) -> float:
        """How long the next turn has to wait from `now`: 0 to `PAUSE_S`."""
        self._to(now)
        over_s = self._level_s - BURST_S
        if over_s <= TOLERANCE_S or self._alone():
            return 0.0
        pause_s = over_s / self._drain
        self._pauses = self._pauses + 1 if now < self._run_until else 1
        self._run_until = now + pause_s + PRESSES_S
        return pause_s

    def presses(self, now: float) -> bool:
        """Whether it has begun more than its share for a while, and does so still. Any thread, without the guard."""
        return self._pauses > PRESSES_AFTER and now < self._run_until

    def _to(self, now: float) -> None:
        self._level_s = max(0.0, self._level_s - (now - self._at) * self._drain)
        self._at = now
