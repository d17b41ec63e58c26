"""When to ask an endpoint again, and how long to wait before. Used by the model classes that speak HTTP themselves."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import anyio

from ..errors import ModelError, ModelRateLimited, ModelUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often to try again after a transport error, 408, 409, 425, 429 or 5xx, and how long to wait."""

    attempts: int = 4
    """Requests in all, from 1."""
    backoff_s: float = 0.5
    """Upper bound of the first wait; it doubles with each one. The wait itself is random below it (full jitter)."""
    max_backoff_s: float = 20.0
    max_retry_after_s: float = 60.0
    """A longer `Retry-After` is not waited for: the error goes to the caller, who may have other things to do."""

    async def run(self, ask: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool] = lambda: True) -> T:
        """What `ask` gives, or its last error. Once `may_repeat` is false, an error is the last.

        Raises:
            ModelError: an error that no retry mends, or the last of those that one might.
        """
        attempt = 1
        while True:
            try:
                return await ask()
            except (ModelUnavailable, ModelRateLimited) as exc:
                wait_s = self.wait_s(attempt, exc)
                if wait_s is None or not may_repeat():
                    raise
            await anyio.sleep(wait_s)
            attempt += 1

    def wait_s(self, attempt: int, error: ModelError) -> float | None:
        """Seconds to wait after that attempt (from 1); None: give up."""
        if attempt >= self.attempts:
            return None
        asked_s = error.retry_after_s if isinstance(error, ModelRateLimited) else None
        if asked_s is not None and asked_s > self.max_retry_after_s:
            return None
        bound_s = min(self.max_backoff_s, self.backoff_s * 2 ** (attempt - 1))
        return (asked_s or 0.0) + random.uniform(0.0, bound_s)  # noqa: S311  # jitter, no secret


def read_retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, in either of its forms; None if there is none to make sense of."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None  # nan is not equal to itself
