"""Runs that are ended by their deadline, having come where they should before it.

The rule: how long a machine stands still is nobody's to say. So the deadline is short, and a run that had not come so
far by then is made again with a longer one; what the test asserts is asserted of the run that had.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloche import TimedOut

DEADLINES_S = (1.0, 4.0, 16.0)


def timed_out(run: Callable[[float], object], reached: Callable[[TimedOut], bool]) -> TimedOut:
    """What the first run that had come so far raised, or else the last one. `run` is given its deadline."""
    *short, longest = DEADLINES_S
    for deadline_s in short:
        error = _end_of(run, deadline_s)
        if reached(error):
            return error
    return _end_of(run, longest)


def not_kept(error: TimedOut) -> bool:
    """The guest was deaf by then: an interrupt that comes before it does anything ends any guest."""
    return not error.state_kept


def _end_of(run: Callable[[float], object], deadline_s: float) -> TimedOut:
    with pytest.raises(TimedOut) as caught:
        run(deadline_s)
    return caught.value
