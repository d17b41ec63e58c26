"""Calls on threads of their own, and waits for what they do; none is longer than `BOUND_S`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .waiting import wait_until

BOUND_S = 30.0


class InBackground:
    """A call on a thread of its own, and what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as exc:  # noqa: BLE001  # carried to the test
            self.error = exc

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> InBackground:
        self._thread.join(BOUND_S)
        assert self.over
        return self


def wait_for(condition: Callable[[], bool]) -> None:
    wait_until(condition, BOUND_S)
