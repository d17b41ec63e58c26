"""Waiting for what another thread does, within a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], bound_s: float = 30.0) -> None:
    """Let other threads and processes work until it is so."""
    give_up_at = time.monotonic() + bound_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < give_up_at
        pause.wait(0.001)  # one who only gave way would take what a busy machine has left for those it waits for
