"""Fixtures of the tests of tool calls: an event loop, threads, and what makes the calls of a cell on them. And the
ladder of those that no interrupt stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.support.cell_calls import LoopRunner, cell_of
from tests.support.tool_ways import WAYS, Ways, ways_of

from cloche.runtime import execution
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.tool_loop import ToolLoop


@pytest.fixture(scope="module")
def runner() -> Iterator[LoopRunner]:
    """A caller's own event loop."""
    with closing(LoopRunner()) as runner:
        yield runner


@pytest.fixture(scope="module")
def loop() -> Iterator[ToolLoop]:
    """The loop that a blocking face has for its tools."""
    with closing(ToolLoop()) as loop:
        yield loop


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for `.aio` calls of sync tools."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def calls_of(runner: LoopRunner, pool: ThreadPoolExecutor) -> Callable[..., CellCalls]:
    """Makes the calls of a cell: `calls_of(*tools, deadline_s=..., **limits)`."""
    return lambda *tools, **limits: cell_of(runner, pool, tools, **limits)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, loop: ToolLoop, pool: ThreadPoolExecutor) -> Ways:
    """A test with it holds for every way to call a tool."""
    return ways_of(request.param, loop, pool)


@pytest.fixture
def short_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    """For guests that heed nothing: only the end of a thread whose worker was killed is worth waiting for."""
    monkeypatch.setattr(execution, "INTERRUPT_GRACE_S", 0.01)
    monkeypatch.setattr(execution, "TRAP_GRACE_S", 0.01)
    monkeypatch.setattr(execution, "KILL_GRACE_S", 5.0)


@pytest.fixture
def deaf_tools(short_graces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tools that heed nothing either: no thread ends."""
    monkeypatch.setattr(execution, "KILL_GRACE_S", 0.1)
