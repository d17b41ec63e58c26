"""What was reviewed and mended: nothing begins after the end of a cell, retries get what was approved, refusals and
failing hooks stay few in logs and events."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Annotated, Any, cast

import anyio
import pytest
from pydantic import AfterValidator
from tests.support.cell_calls import PATIENCE_S, VALUES, cell_of, sent, wait_for
from tests.support.waiting import wait_until

from cloche import Deny, Tool, ToolObserver
from cloche.agents.toolkit.html_text import html_to_text
from cloche.agents.toolkit.web_tools import read_duckduckgo
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.errors import PoolExhausted
from cloche.runtime.protocol import ToolResult, parse_to_worker
from cloche.runtime.servers import ServerThreads
from cloche.runtime.tool_events import MAX_REFUSED
from cloche.runtime.tool_flight import OpenCalls
from cloche.runtime.tool_loop import ToolLoop
from cloche.runtime.tool_threads import BoundedThreads
from cloche.runtime.values import decode


@pytest.fixture
def cell() -> Iterator[Callable[..., CellCalls]]:
    """Makes the calls of a cell whose tools share one thread."""
    loop, pool = ToolLoop(), ThreadPoolExecutor(1)
    yield lambda *tools, **options: cell_of(loop, pool, tools, **options)
    pool.shutdown()
    loop.close()


def called(cell: CellCalls, number: int, name: str, *args: object) -> tuple[bool, object]:
    parsed, parts = parse_to_worker(cell.call(number, name, sent(*args)), max_bytes=10**9)
    assert isinstance(parsed, ToolResult)
    return parsed.ok, decode(parts[0], VALUES)


def outcomes(cell: CellCalls, count: int) -> list[object]:
    """What the guest hears of its `.aio` calls."""
    return [value for _, _, value in wait_for(cell, count)]


def test_no_call_that_waits_for_a_thread_begins_after_a_tool_has_ended_the_cell(
    cell: Callable[..., CellCalls],
) -> None:
    running, go_on = threading.Event(), threading.Event()
    begun: list[int] = []

    def slow(n: int) -> int:
        begun.append(n)
        running.set()
        assert go_on.wait(PATIENCE_S)
        return n

    def finish() -> None: ...

    calls = cell(slow, Tool(finish, end_cell=True))
    for number in range(5):
        calls.start(number, "slow", sent(number))
    assert running.wait(PATIENCE_S)
    assert called(calls, 5, "finish") == (True, None)
    go_on.set()

    told = outcomes(calls, 5)
    assert begun == [0]
    assert told.count(["Interrupted", "the cell was stopped"]) == 4
    assert 0 in told


def test_no_async_tool_begins_after_a_denial_that_ends_the_run(cell: Callable[..., CellCalls]) -> None:
    begun: list[int] = []

    async def later(n: int) -> int:
        begun.append(n)
        return n

    def risky() -> None: ...

    held = threading.Event()
    calls = cell(
        later,
        Tool(risky, requires_approval=True),
        observer=ToolObserver(approve=lambda _: Deny("no", end_run=True)),
    )
    loop: Any = calls._runner._runner  # pyright: ignore[reportPrivateUsage]
    loop.start(lambda: held_up(held), contextvars.copy_context())
    calls.start(0, "later", sent(0))
    assert called(calls, 1, "risky")[0] is False
    held.set()

    assert outcomes(calls, 1) == [["Interrupted", "the cell was stopped"]]
    assert begun == []


async def held_up(held: threading.Event) -> None:
    """Keeps the loop from starting anything."""
    assert held.wait(PATIENCE_S)


class Endless:
    """What a blocking tool may give: something to await."""

    def __init__(self) -> None:
        self.awaited = threading.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        self.awaited.set()
        yield from anyio.sleep_forever().__await__()


def cancel_first(calls: CellCalls) -> None:
    calls.cancel(0)


@pytest.mark.parametrize("give_up", [CellCalls.close, cancel_first, CellCalls.abort])
@pytest.mark.parametrize("late", [True, False])
def test_a_thread_does_not_wait_for_what_a_tool_gave_when_nobody_else_does(
    loop: ToolLoop, give_up: Callable[[CellCalls], None], late: bool
) -> None:
    running, go_on, endless = threading.Event(), threading.Event(), Endless()

    def slow() -> object:
        running.set()
        assert go_on.wait(PATIENCE_S)
        return endless

    with closing(ServerThreads()) as servers:
        threads: Any = BoundedThreads(servers, 1)
        calls = cell_of(loop, threads, [slow])
        calls.start(0, "slow", sent())
        assert running.wait(PATIENCE_S)
        if late:
            give_up(calls)
            go_on.set()
        else:
            go_on.set()
            assert endless.awaited.wait(PATIENCE_S)
            give_up(calls)
        wait_until(lambda: threads.running == 0, PATIENCE_S)


def test_who_stands_behind_a_call_that_gets_no_thread_hears_of_it() -> None:
    class NoThreads:
        """Has none, and meanwhile another call comes and finds the one place taken."""

        def submit(self, _job: object) -> None:
            behind.append(threads.submit(lambda: 5))
            raise PoolExhausted("no thread", retry_after_s=0.5)

    behind: list[Future[object]] = []
    threads = BoundedThreads(cast("ServerThreads", NoThreads()), 1)
    with pytest.raises(PoolExhausted):
        threads.submit(lambda: 4)
    with pytest.raises(PoolExhausted):
        behind[0].result(PATIENCE_S)
    assert threads.running == 0


def test_an_abort_goes_on_where_a_thread_ends_its_wait_at_that_moment() -> None:
    class Torn:
        """Its thread takes `inner` away after the first look."""

        def __init__(self) -> None:
            self.future: Future[object] = Future()
            self._inner: list[Future[object]] = [Future()]

        @property
        def inner(self) -> Future[object] | None:
            return self._inner.pop() if self._inner else None

    flight = OpenCalls(PATIENCE_S)
    torn: list[Any] = [Torn(), Torn()]
    flight.open.update(enumerate(torn))
    flight.abort()
    assert [call.future.cancelled() for call in torn] == [True, True]


@pytest.mark.parametrize("guarded", [False, True])
def test_no_tool_begins_after_the_abort_however_long_its_arguments_were_validated(
    cell: Callable[..., CellCalls], guarded: bool
) -> None:
    begun: list[int] = []

    def stopped_meanwhile(amount: int) -> int:
        calls.abort()
        return amount

    def transfer(amount: int) -> None:
        begun.append(amount)

    transfer.__annotations__["amount"] = Annotated[int, AfterValidator(stopped_meanwhile)]
    calls = cell(Tool(transfer, retries=1, idempotent=True) if guarded else transfer)
    assert called(calls, 0, "transfer", 3) == (False, ["Interrupted", "the cell was stopped"])
    assert begun == []


def test_a_retry_gets_the_arguments_that_were_checked_and_not_what_the_tool_made_of_them(
    cell: Callable[..., CellCalls],
) -> None:
    seen: list[list[str]] = []

    def save(names: list[str]) -> int:
        seen.append(list(names))
        names.append("added")
        if len(seen) < 3:
            raise ConnectionError
        return len(names)

    tool = Tool(save, retries=2, retry_on=(ConnectionError,), retry_pause_s=0.0, idempotent=True)
    assert called(cell(tool), 0, "save", ["a"]) == (True, 2)
    assert seen == [["a"]] * 3


def test_a_hook_that_fails_is_logged_once(cell: Callable[..., CellCalls], caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> object:
        raise RuntimeError("out of order")

    def risky() -> None: ...

    calls = cell(Tool(risky, requires_approval=True), observer=ToolObserver(approve=broken))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "cloche.tools"):
        for number in range(20):
            assert called(calls, number, "risky")[0] is False
    assert [record.getMessage() for record in caplog.records] == [
        "tool risky: its approve hook failed, the call is denied"
    ]


def test_an_observer_hears_of_the_first_refusals_only(cell: Callable[..., CellCalls]) -> None:
    events: list[object] = []
    calls = cell(observer=ToolObserver(on_event=events.append))
    for number in range(MAX_REFUSED + 50):
        assert called(calls, number, "nothing")[0] is False
    assert len(events) == 2 * MAX_REFUSED


@pytest.mark.parametrize("reference", ["&#" + "9" * 5000 + ";", "&#x" + "f" * 5000 + ";"])
def test_a_character_reference_of_thousands_of_digits_is_one_unknown_character(reference: str) -> None:
    assert html_to_text(f"<p>a{reference}b&amp;</p>", "https://example.org").text.startswith("a\ufffdb")
    page = f"<a class='result-link' href='https://example.org/'>one{reference}</a><td class='result-snippet'>two</td>"
    assert [(r["title"], r["snippet"]) for r in read_duckduckgo(page)] == [("one\ufffd", "two")]
