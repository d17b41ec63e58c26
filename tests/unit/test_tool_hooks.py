"""Observers and hooks around tool calls, approval, retries: on the serving thread, beside it, without a sandbox."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from cloche import Allow, ConfigError, Deny, Edited, Tool, ToolFinished, ToolObserver, ToolRequest, ToolStarted, tool
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import ToolResult, Wait, Wake, parse_to_worker
from cloche.runtime.tool_direct import DirectCalls
from cloche.runtime.tool_hooks import MAX_PREVIEW, ToolEvent, by_name, from_names
from cloche.runtime.tool_loop import ToolLoop
from cloche.runtime.tool_signature import Arguments
from cloche.runtime.tools import ToolTable
from cloche.runtime.values import ValueLimits, decode, encode

VALUES = ValueLimits()
PATIENCE_S = 10.0
NOBODY = "needs approval, and nobody is here to give it"
Ways = Callable[..., "Way"]


class Way:
    """One way to call tools: `call` gives (ok, value or [type, message])."""

    def __init__(self, call: Callable[..., tuple[bool, object]], cell: CellCalls | None) -> None:
        self.call = call
        self.cell = cell


@pytest.fixture(scope="module")
def loop() -> Iterator[ToolLoop]:
    loop = ToolLoop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def cell_of(
    loop: ToolLoop, pool: ThreadPoolExecutor, tools: tuple[Any, ...], observer: ToolObserver | None, **limits: Any
) -> CellCalls:
    return CellCalls(
        ToolTable(tools),
        Limits(**limits),
        context=contextvars.copy_context(),
        async_runner=loop,
        threads=lambda: pool,
        deadline=time.monotonic() + PATIENCE_S,
        observer=observer,
    )


def sent(*args: object, **kwargs: object) -> memoryview:
    return memoryview(encode([list(args), kwargs], VALUES))


def blocking_call(cell: CellCalls, name: str, *args: object, **kwargs: object) -> tuple[bool, object]:
    parsed, parts = parse_to_worker(cell.call(cell.count, name, sent(*args, **kwargs)), max_bytes=10**9)
    assert isinstance(parsed, ToolResult)
    return parsed.ok, decode(parts[0], VALUES)


def aio_call(cell: CellCalls, name: str, *args: object, **kwargs: object) -> tuple[bool, object]:
    cell.start(cell.count, name, sent(*args, **kwargs))
    return told(cell)


def told(cell: CellCalls) -> tuple[bool, object]:
    parsed, parts = parse_to_worker(cell.wait(Wait(timeout_s=PATIENCE_S, any_result=True)), max_bytes=10**9)
    assert isinstance(parsed, Wake)
    assert parsed.results, "nothing came in time"
    return parsed.results[0].ok, decode(parts[0], VALUES)


@pytest.fixture(params=["blocking", "aio", "direct"])
def way(request: pytest.FixtureRequest, loop: ToolLoop, pool: ThreadPoolExecutor) -> Ways:
    """Each test with it holds for all three ways."""

    def make(*tools: Any, observer: ToolObserver | None = None, **limits: Any) -> Way:
        if request.param == "direct":
            calls = DirectCalls(tools, observer, tool_s=limits.get("tool_s", PATIENCE_S))

            def direct(name: str, **kwargs: object) -> tuple[bool, object]:
                result = asyncio.run(calls.call(name, kwargs))
                error = result.error
                return result.ok, result.value if error is None else [error.kind, str(error)]

            return Way(direct, None)
        cell = cell_of(loop, pool, tools, observer, **limits)
        call = blocking_call if request.param == "blocking" else aio_call
        return Way(lambda name, **kwargs: call(cell, name, **kwargs), cell)

    return make


def double(n: int) -> int:
    return 2 * n


async def double_later(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


DOUBLES = (double, double_later)
NAMES = ("double", "double_later")


# --- before and after -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [None, True, Allow()])
def test_a_hook_before_the_call_sees_what_it_is_and_lets_it_pass(way: Ways, name: str, answer: Any) -> None:
    seen: list[ToolRequest] = []

    def before(request: ToolRequest) -> Any:
        seen.append(request)
        return answer

    here = way(*DOUBLES, observer=ToolObserver(before=before, context="run 7"))
    assert here.call(name, n=4) == (True, 8)
    (request,) = seen
    assert (request.tool.name, dict(request.arguments), request.context) == (name, {"n": 4}, "run 7")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Edited({"n": 100}), (True, 200)),
        (Deny("not today"), (False, ["ToolDenied", "not today"])),
        (False, (False, ["ToolDenied", "not approved"])),
        (Edited({"n": "text"}), (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
        (Edited({"m": 1}), (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
        ("yes", (False, ["ToolDenied", "{} could not be approved; the reason stays on the host"])),
    ],
)
def test_a_hook_may_edit_or_deny_and_fails_closed(way: Ways, name: str, answer: Any, outcome: Any) -> None:
    for hook in (lambda request: answer, asynchronous(lambda request: answer)):
        ok, value = way(*DOUBLES, observer=ToolObserver(before=hook)).call(name, n=1)
        expected = outcome[1] if outcome[0] else [text.format(name) for text in outcome[1]]
        assert (ok, value) == (outcome[0], expected)


def asynchronous(hook: Callable[..., object]) -> Callable[..., Awaitable[Any]]:
    async def later(*args: object) -> object:
        await asyncio.sleep(0)
        return hook(*args)

    return later


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_raises_denies_the_call_and_its_message_stays_here(
    way: Ways, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def before(request: ToolRequest) -> None:
        raise RuntimeError("secret of the host")

    ok, value = way(*DOUBLES, observer=ToolObserver(before=before)).call(name, n=1)
    assert (ok, value) == (False, ["ToolDenied", f"{name} could not be approved; the reason stays on the host"])
    assert "secret of the host" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_after_the_call_may_change_the_result_within_its_type(way: Ways, name: str) -> None:
    for make in (lambda hook: hook, asynchronous):
        plus = way(*DOUBLES, observer=ToolObserver(after=make(lambda request, result: result + request.arguments["n"])))
        assert plus.call(name, n=1) == (True, 3)
        wrong = way(*DOUBLES, observer=ToolObserver(after=make(lambda request, result: str(result))))
        ok, value = wrong.call(name, n=1)
        assert not ok
        assert isinstance(value, list)
        assert value[0] == "InvalidResult"


def test_a_hook_waits_without_a_thread_hop_when_it_answers_at_once(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    threads: list[threading.Thread] = []
    observer = ToolObserver(before=lambda request: threads.append(threading.current_thread()))
    assert blocking_call(cell_of(loop, pool, DOUBLES, observer), "double", 2) == (True, 4)
    assert threads == [threading.current_thread()]


# --- approval ---------------------------------------------------------------------------------------------------------


@tool(requires_approval=lambda arguments: arguments["amount"] > 10)
def pay(amount: int) -> str:
    return f"paid {amount}"


@tool(requires_approval=True, destructive=True)
async def wipe(path: str = "/") -> str:
    return f"wiped {path}"


def test_without_a_hook_what_needs_approval_is_denied(way: Ways) -> None:
    here = way(pay, wipe)
    assert here.call("pay", amount=10) == (True, "paid 10")
    assert here.call("pay", amount=11) == (False, ["ToolDenied", f"pay {NOBODY}"])
    assert here.call("wipe") == (False, ["ToolDenied", f"wipe {NOBODY}"])


@pytest.mark.parametrize("make", [lambda hook: hook, asynchronous], ids=["sync", "async"])
def test_approval_is_asked_for_the_calls_that_need_it_and_only_a_yes_is_one(
    way: Ways, make: Callable[..., Any]
) -> None:
    answers: dict[int, object] = {11: True, 12: Allow(), 13: Edited({"amount": 5}), 14: None, 15: False, 16: Deny("no")}
    asked: list[object] = []

    def approve(request: ToolRequest) -> object:
        asked.append(request.arguments["amount"])
        return answers[int(str(request.arguments["amount"]))]

    here = way(pay, observer=ToolObserver(approve=make(approve)))
    results = [here.call("pay", amount=amount) for amount in range(10, 17)]
    assert asked == [11, 12, 13, 14, 15, 16]
    assert results == [
        (True, "paid 10"),
        (True, "paid 11"),
        (True, "paid 12"),
        (True, "paid 5"),
        (False, ["ToolDenied", "pay could not be approved; the reason stays on the host"]),
        (False, ["ToolDenied", "not approved"]),
        (False, ["ToolDenied", "no"]),
    ]


def test_a_predicate_that_fails_denies(way: Ways) -> None:
    careless = Tool(double, requires_approval=lambda arguments: arguments["m"] > 1)
    ok, value = way(careless, observer=ToolObserver(approve=lambda request: True)).call("double", n=1)
    assert (ok, value) == (False, ["ToolDenied", "double could not be approved; the reason stays on the host"])


def test_arguments_that_do_not_fit_reach_no_hook(way: Ways) -> None:
    asked: list[ToolRequest] = []

    def note(request: ToolRequest) -> bool:
        asked.append(request)
        return True

    ok, value = way(pay, observer=ToolObserver(before=note, approve=note)).call("pay", amount="all")
    assert not ok
    assert isinstance(value, list)
    assert value[0] == "InvalidArguments"
    assert asked == []


def test_a_denial_may_end_the_run_and_then_no_tool_runs(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    events: list[ToolEvent] = []
    observer = ToolObserver(on_event=events.append, approve=lambda request: Deny("stop", end_run=True))
    cell = cell_of(loop, pool, (pay, double), observer)
    parsed, _ = parse_to_worker(cell.call(0, "pay", sent(20)), max_bytes=10**9)
    assert isinstance(parsed, ToolResult)
    assert (parsed.ok, parsed.end_cell, cell.ended_by) == (False, True, "pay")
    assert blocking_call(cell, "double", 1) == (False, ["CellEnded", "pay has ended the cell"])
    ends = [event for event in events if isinstance(event, ToolFinished)]
    assert [(event.outcome, event.ends_run) for event in ends] == [("denied", True), ("refused", False)]


def test_an_abort_wakes_a_call_that_waits_for_approval(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    asked = threading.Event()

    async def approve(request: ToolRequest) -> bool:
        asked.set()
        await asyncio.sleep(PATIENCE_S)
        return True

    observer = ToolObserver(approve=approve)
    cell = cell_of(loop, pool, (pay,), observer)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(blocking_call(cell, "pay", 20)))
    thread.start()
    assert asked.wait(PATIENCE_S)
    cell.abort()
    thread.join(PATIENCE_S)
    assert results == [(False, ["Interrupted", "the cell was stopped"])]


def test_no_tool_begins_after_an_abort_that_came_while_a_hook_decided(loop: ToolLoop) -> None:
    ran: list[object] = []
    noting = Tool(lambda: ran.append(1), name="noting")

    def stop_and_allow(request: ToolRequest) -> bool:
        cell.abort()
        decided.set()
        return True

    for call in (blocking_call, lambda cell, name: cell.start(0, name, sent())):
        decided = threading.Event()
        with ThreadPoolExecutor(1) as own:
            cell = cell_of(loop, own, (noting,), ToolObserver(before=stop_and_allow))
            call(cell, "noting")
            assert decided.wait(PATIENCE_S)
            cell.close()
    assert ran == []


def test_an_aio_call_that_waits_for_approval_holds_no_thread_after_the_cell(loop: ToolLoop) -> None:
    asked = threading.Event()

    async def approve(request: ToolRequest) -> bool:
        asked.set()
        await asyncio.sleep(PATIENCE_S)
        return True

    for stop in (CellCalls.abort, CellCalls.close):
        asked.clear()
        with ThreadPoolExecutor(1) as pool:  # leaving it waits for its thread
            started = time.monotonic()
            cell = cell_of(loop, pool, (pay,), ToolObserver(approve=approve))
            cell.start(0, "pay", sent(20))
            assert asked.wait(PATIENCE_S)
            stop(cell)
            cell.close()
        assert time.monotonic() - started < PATIENCE_S
        assert cell.abandoned == 0


# --- retries ----------------------------------------------------------------------------------------------------------


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

    found = Tool(slow_then_quick, timeout_s=0.05, retries=1, retry_pause_s=0, read_only=True)
    here = way(found)
    assert here.call("slow_then_quick") == (True, "quick")
    assert here.cell is None or here.cell.hits == {}


def test_a_blocking_tool_that_hangs_is_not_called_beside_itself(way: Ways) -> None:
    release = threading.Event()
    calls: list[int] = []

    def hang() -> None:
        calls.append(1)
        release.wait(PATIENCE_S)

    found = Tool(hang, timeout_s=0.05, retries=3, retry_pause_s=0, read_only=True)
    here = way(found)
    ok, value = here.call("hang")
    release.set()
    assert (ok, calls) == (False, [1])
    assert isinstance(value, list)
    assert value[1] == "hang did not answer within 0.05 s"
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


# --- events -----------------------------------------------------------------------------------------------------------


def test_each_call_is_told_once_at_its_start_and_once_at_its_end(way: Ways) -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    events: list[ToolEvent] = []
    here = way(double, fail, pay, observer=ToolObserver(on_event=events.append))
    here.call("double", n=4)
    here.call("fail")
    here.call("pay", amount=50)
    here.call("double", n="four")
    here.call("nobody")
    starts = [event for event in events if isinstance(event, ToolStarted)]
    ends = [event for event in events if isinstance(event, ToolFinished)]
    assert len(events) == len(starts) + len(ends) == 10
    assert [event.tool for event in starts] == ["double", "fail", "pay", "double", "nobody"]
    assert starts[0].arguments in ("4", "n=4")
    assert [event.call_id for event in starts] == [event.call_id for event in ends]
    assert [(event.outcome, event.error_type) for event in ends] == [
        ("ok", None),
        ("error", "ValueError"),
        ("denied", "ToolDenied"),
        ("refused", "InvalidArguments"),
        ("refused", "UnknownTool"),
    ]
    assert ends[1].error_message == "no such thing"
    assert all(0 <= event.duration_s < PATIENCE_S for event in ends)


def test_a_call_over_its_time_and_one_that_is_given_up_are_told(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    async def hang() -> None:
        await asyncio.sleep(PATIENCE_S)

    events: list[ToolEvent] = []
    cell = cell_of(loop, pool, (Tool(hang, timeout_s=0.05),), ToolObserver(on_event=events.append))
    aio_call(cell, "hang")
    cell.start(1, "hang", sent())
    cell.cancel(1)
    cell.start(2, "hang", sent())
    cell.close()
    cell.close()
    assert [event.outcome for event in events if isinstance(event, ToolFinished)] == [
        "timeout",
        "cancelled",
        "cancelled",
    ]


def test_what_an_observer_raises_changes_nothing_and_is_logged_once(
    way: Ways, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: ToolEvent) -> None:
        raise RuntimeError("observer broke")

    here = way(double, observer=ToolObserver(on_event=broken))
    with caplog.at_level(logging.WARNING):
        assert here.call("double", n=1) == (True, 2)
        assert here.call("double", n=2) == (True, 4)
    assert [record.getMessage() for record in caplog.records] == ["on_event of a tool observer failed"]


def test_a_preview_is_bounded_and_harmless(loop: ToolLoop, pool: ThreadPoolExecutor) -> None:
    def take(*things: object, **named: object) -> None: ...

    events: list[ToolEvent] = []
    cell = cell_of(loop, pool, (take,), ToolObserver(on_event=events.append))
    things = ["\x1b[2J" * 1000, b"x" * 100_000, list(range(10_000)), {"a": "b" * 5000}, 10**4000]
    assert blocking_call(cell, "take", *things, **{"k" * 1000: 1}) == (True, None)
    assert isinstance(events[0], ToolStarted)
    assert len(events[0].arguments) <= MAX_PREVIEW
    assert "\x1b" not in events[0].arguments


# --- arguments by name ------------------------------------------------------------------------------------------------


def test_arguments_go_to_names_and_back() -> None:
    def many(a: int, /, b: int, c: int = 3, *rest: int, d: int = 4, **more: int) -> None: ...

    every = Tool(many)
    arguments: Arguments = ((1, 2, 30, 31), {"d": 5, "e": 6})
    named = by_name(every, arguments)
    assert named == {"a": 1, "b": 2, "c": 30, "rest": (31,), "d": 5, "more": {"e": 6}}
    assert from_names(every, named) == arguments
    assert every.bind(*from_names(every, {"a": 1, "b": 2, "d": 7})) == ((1, 2), {"c": 3, "d": 7})
    with pytest.raises(ValueError, match="many has no parameter 'x'"):
        from_names(every, {"x": 1})


def test_cancelling_a_direct_call_is_told_and_passes_on() -> None:
    events: list[ToolEvent] = []
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.sleep(PATIENCE_S)

    async def run() -> None:
        calls = DirectCalls([hang], ToolObserver(on_event=events.append))
        task = asyncio.ensure_future(calls.call("hang", {}))
        await asyncio.wait_for(began.wait(), PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [getattr(event, "outcome", "started") for event in events] == ["started", "cancelled"]


def test_a_future_of_the_pool_that_never_began_can_be_given_up(loop: ToolLoop) -> None:
    class NoPlace:
        def submit(self, call: Callable[[], object], /) -> Future[object]:
            return Future()

    cell = CellCalls(
        ToolTable([double]),
        Limits(),
        context=contextvars.copy_context(),
        async_runner=loop,
        threads=NoPlace,
        deadline=time.monotonic() + PATIENCE_S,
        observer=ToolObserver(before=lambda request: None),
    )
    cell.start(0, "double", sent(1))
    cell.close()
    assert cell.abandoned == 0
