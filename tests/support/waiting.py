"""Waiting for what another thread does, within a bound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], bound_s: float = 5.0) -> None:
    """Let other threads work until it is so."""
    give_up_at = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < give_up_at
        os.sched_yield()
