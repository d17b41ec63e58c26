"""Retries of a tool, whichever way it is called, and options of tools that cannot be."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
import asyncio
import threading
from typing import Any

import pytest
from tests.support.cell_calls import PATIENCE_S
from tests.support.tool_ways import Ways, double

from cloche import ConfigError, Tool


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, kind: type[Exception] = ConnectionError) -> None:
        self.calls = 0
        self.failures = failures
        self.kind = kind

    def get(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.kind("host.internal:5432")
        return "there"

    async def get_later(self) -> str:
        return self.get()


@pytest.mark.parametrize("method", ["get", "get_later"])
def test_a_tool_that_only_reads_may_be_tried_again(way: Ways, method: str) -> None:
    flaky = Flaky(2)
    found = Tool(getattr(flaky, method), name="get", retries=2, retry_pause_s=0, read_only=True)
    assert way(found).call("get") == (True, "there")
    assert flaky.calls == 3


@pytest.mark.parametrize("method", ["get", "get_later"])
@pytest.mark.parametrize(("kind", "calls"), [(ConnectionError, 2), (TimeoutError, 2), (ValueError, 1), (OSError, 1)])
def test_other_failures_and_the_last_one_are_told(way: Ways, method: str, kind: type[Exception], calls: int) -> None:
    flaky = Flaky(9, kind)
    found = Tool(getattr(flaky, method), name="get", retries=1, retry_pause_s=0, idempotent=True)
    ok, value = way(found).call("get")
    assert not ok
    assert isinstance(value, list)
    assert value[0] == kind.__name__
    assert flaky.calls == calls


def test_each_attempt_has_the_default_itself_and_what_was_given_anew(way: Ways) -> None:
    gate = threading.Lock()
    seen: list[object] = []

    def get(key: list[int], gates: dict[str, Any] = {"get": gate}) -> int:  # noqa: B006  # kept between calls
        seen.append(gates["get"])
        key.append(1)
        if len(seen) < 3:
            raise ConnectionError
        return len(key)

    found = Tool(get, retries=2, retry_pause_s=0, read_only=True)
    assert way(found).call("get", key=[0]) == (True, 2)
    assert seen == [gate] * 3


def test_the_exceptions_may_be_named(way: Ways) -> None:
    flaky = Flaky(1, KeyError)
    found = Tool(flaky.get, retries=1, retry_pause_s=0, retry_unsafe=True, retry_on=(KeyError,))
    assert way(found).call("get") == (True, "there")


def test_an_async_attempt_over_its_time_is_tried_again(way: Ways) -> None:
    calls: list[int] = []

    async def slow_then_quick() -> str:
        calls.append(1)
        await asyncio.sleep(PATIENCE_S if len(calls) == 1 else 0)
        return "quick"

    found = Tool(slow_then_quick, timeout_s=2, retries=1, retry_pause_s=0, read_only=True)
    here = way(found)
    assert here.call("slow_then_quick") == (True, "quick")
    assert here.cell is None or here.cell.hits == {}


def test_a_blocking_tool_that_hangs_is_not_called_beside_itself(way: Ways) -> None:
    release = threading.Event()
    calls: list[int] = []

    def hang() -> None:
        calls.append(1)
        release.wait(PATIENCE_S)

    found = Tool(hang, timeout_s=2, retries=3, retry_pause_s=0, read_only=True)
    here = way(found)
    ok, value = here.call("hang")
    release.set()
    assert (ok, calls) == (False, [1])
    assert isinstance(value, list)
    assert value[1] == "hang did not answer within 2 s"
    assert here.cell is None or "tool_s" in here.cell.hits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": 1}, "retries calls it again after a failure; mark it read_only=True or idempotent=True"),
        ({"retries": -1, "read_only": True}, "retries is a whole number from 0 to 10"),
        ({"retries": 11, "read_only": True}, "retries is a whole number from 0 to 10"),
        ({"retry_on": (3,)}, "retry_on is a tuple of exception classes"),
        ({"retry_pause_s": -1}, "retry_pause_s is a time of 0 or more"),
        ({"requires_approval": "always"}, "requires_approval is True, False or a function of the arguments"),
        ({"read_only": True, "destructive": True}, "it cannot be read_only and destructive"),
        ({"timeout": 3}, "there is no option 'timeout'"),
    ],
)
def test_options_that_cannot_be_say_why(options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Tool(double, **options)
    assert str(caught.value).startswith(f"tool 'double': {message}")
