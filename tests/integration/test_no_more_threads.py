"""A system that gives no more threads, for a moment: a typed error, nothing is lost for good, limits hold after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product

import pytest
from tests.support.leftovers import leftovers

from cloche import Limits, PoolExhausted, Runtime, TimedOut, tool
from cloche.runtime.walls import Isolation

pytestmark = pytest.mark.wasmtime
RefuseOne = Callable[[str], None]


@tool
def seven() -> int:
    """Seven."""
    return 7


@pytest.fixture
def refuse_one(monkeypatch: pytest.MonkeyPatch) -> RefuseOne:
    """Called with a name, lets the next start of such a thread fail."""
    start, names = threading.Thread.start, list[str]()

    def may_fail(thread: threading.Thread) -> None:
        for name in names:
            if thread.name.startswith(name):
                names.remove(name)
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", may_fail)
    return names.append


@pytest.mark.parametrize(
    ("name", "isolation"),
    [
        ("cloche-fork-server", "process"),
        *product(("cloche-supervisor", "cloche-watch", "cloche-reaper", "cloche-server"), ("process", "thread")),
    ],
)
def test_without_a_thread_nothing_runs_and_the_next_sandbox_keeps_its_limits(
    name: str, isolation: Isolation, refuse_one: RefuseOne
) -> None:
    Runtime(warm_workers=0).close()
    before = leftovers()
    _refused_then_served(name, isolation, refuse_one)
    before.wait_gone()


def _refused_then_served(name: str, isolation: Isolation, refuse_one: RefuseOne) -> None:
    limits = Limits(wall_s=30)
    with Runtime(warm_workers=0) as runtime:
        refuse_one(name)
        expected = pytest.raises(PoolExhausted, match=f"no thread for {name}.*can't start new thread")
        with expected, runtime.sandbox(isolation=isolation, tools=[seven], limits=limits) as box:
            box.run("while True: seven()")
        assert runtime.sandboxes == 0
        with runtime.sandbox(isolation=isolation, tools=[seven], limits=limits) as box:
            assert box.run("seven()").value == 7
            with pytest.raises(TimedOut):
                box.run("while True: pass", deadline_s=0.2)


@pytest.mark.parametrize(("name", "isolation"), [("cloche-pool", "process"), ("cloche-spares", "thread")])
def test_spares_are_made_later_where_there_was_no_thread_for_them(
    name: str, isolation: Isolation, refuse_one: RefuseOne
) -> None:
    refuse_one(name)
    with Runtime(warm_workers=1) as runtime:
        for _ in range(3):
            with runtime.sandbox(isolation=isolation) as box:
                assert box.run("1").value == 1
        assert name in {thread.name for thread in threading.enumerate()}
