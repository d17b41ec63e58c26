"""How long the model classes wait before they ask again."""

from __future__ import annotations

import email.utils
import time

import pytest

from cloche.agents.errors import ModelRateLimited, ModelUnavailable
from cloche.agents.models.retry import Retry, read_retry_after

RETRY = Retry(attempts=4, backoff_s=1.0, max_backoff_s=3.0, max_retry_after_s=60.0)


@pytest.mark.parametrize(("attempt", "bound_s"), [(1, 1.0), (2, 2.0), (3, 3.0)])
def test_waits_are_random_below_a_bound_that_doubles(attempt: int, bound_s: float) -> None:
    waits = {RETRY.wait_s(attempt, ModelUnavailable("x")) for _ in range(50)}
    assert all(wait is not None and 0 <= wait <= bound_s for wait in waits)
    assert len(waits) > 40


def test_after_the_last_attempt_there_is_no_wait() -> None:
    assert RETRY.wait_s(4, ModelUnavailable("x")) is None


def test_what_the_endpoint_asks_for_is_the_least_wait() -> None:
    wait = RETRY.wait_s(1, ModelRateLimited("x", retry_after_s=7.0))
    assert wait is not None
    assert 7.0 <= wait <= 8.0


def test_more_than_the_caller_would_wait_is_not_waited_for() -> None:
    assert RETRY.wait_s(1, ModelRateLimited("x", retry_after_s=61.0)) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), ("", None), ("nan", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert read_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = read_retry_after(email.utils.formatdate(time.time() + 3000, usegmt=True))
    assert seconds is not None
    assert 2900 < seconds <= 3000
    assert read_retry_after(email.utils.formatdate(time.time() - 30, usegmt=True)) == 0.0
