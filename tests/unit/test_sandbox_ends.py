"""The blocking face over a scripted worker: deadlines, interrupts, who may use it when, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.waiting import wait_until

from cloche import (
    ConfigError,
    Limits,
    PoolExhausted,
    ProtocolError,
    Runtime,
    RuntimeClosed,
    Sandbox,
    SandboxBusy,
    SandboxClosed,
    TimedOut,
    WorkerCrashed,
)
from cloche.runtime.fake_link import (
    FakeCell,
    FakeSource,
    Script,
    answer,
    crash,
    loop_in_c,
    loop_in_python,
    swallow_the_interrupt,
)
from cloche.runtime.protocol import ToolCall, ToolResult
from cloche.runtime.values import ValueLimits, decode, encode

BOUND_S = 30.0
QUICK_S = 0.03
REACHED_S = 3.0  # a deadline by which a cell has come to its tool or its loop, also on a slow machine


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with Runtime(sources={"process": source}, max_sandboxes=3, close_deadline_s=1) as made:
        yield made


def call_tool(name: str, *args: object) -> Script:
    """A cell whose value is the outcome of one blocking tool call."""

    def script(cell: FakeCell) -> None:
        answer_, parts = cell.ask(ToolCall(id=1, name=name), encode((list(args), dict[str, object]()), ValueLimits()))
        assert isinstance(answer_, ToolResult)
        cell.finish([answer_.ok, decode(parts[0], ValueLimits())])

    return script


def run_in_thread(action: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread and the list that gets what `action` returned or raised."""
    seen: list[object] = []

    def run() -> None:
        try:
            seen.append(action())
        except BaseException as exc:  # noqa: BLE001  # looked at by the test
            seen.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, seen


# --- deadlines and interrupts -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_an_endless_python_loop_times_out_and_the_state_is_kept(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (loop_in_python, answer("alive"))
    with runtime.sandbox() as box:
        with pytest.raises(TimedOut) as caught:
            box.run("while True: pass", deadline_s=QUICK_S)
        assert caught.value.state_kept
        assert caught.value.cell is not None
        assert caught.value.cell.error is not None
        assert caught.value.cell.error.type == "KeyboardInterrupt"
        assert box.run("1").value == "alive"


@pytest.mark.usefixtures("patient")
def test_a_guest_that_swallows_the_interrupt_times_out_all_the_same(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (swallow_the_interrupt,)
    with runtime.sandbox() as box:
        with pytest.raises(TimedOut) as caught:
            box.run("...", deadline_s=QUICK_S)
        assert caught.value.state_kept
        assert caught.value.cell is not None
        assert caught.value.cell.value == "swallowed"


@pytest.mark.usefixtures("short_graces")
def test_an_endless_c_loop_times_out_with_its_output_and_the_sandbox_says_why_it_ended(
    runtime: Runtime, source: FakeSource
) -> None:
    source.scripts = (loop_in_c,)
    with runtime.sandbox() as box:
        with pytest.raises(TimedOut) as caught:
            box.run("...", deadline_s=REACHED_S)
        assert not caught.value.state_kept
        assert caught.value.cell is not None
        assert (caught.value.cell.stdout, caught.value.cell.complete) == ("before the loop\n", False)
        with pytest.raises(SandboxClosed, match=r"ran past its 3 s and had to be killed; reset\(\)"):
            box.run("1")


@pytest.mark.usefixtures("deaf_tools")
def test_a_hanging_blocking_tool_does_not_hold_the_deadline(runtime: Runtime, source: FakeSource) -> None:
    returns = threading.Event()

    def hang() -> None:
        returns.wait(BOUND_S)

    source.scripts = (call_tool("hang"),)
    with runtime.sandbox(tools=[hang]) as box:
        started = time.monotonic()
        with pytest.raises(TimedOut) as caught:
            box.run("hang()", deadline_s=REACHED_S)
        assert time.monotonic() - started < BOUND_S - 1
        assert not caught.value.state_kept
        assert box.closed
        returns.set()


@pytest.mark.usefixtures("patient")
def test_a_hanging_async_tool_is_cancelled_at_the_deadline(runtime: Runtime, source: FakeSource) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(BOUND_S)
        finally:
            cancelled.set()

    source.scripts = (call_tool("hang"), answer("alive"))
    with runtime.sandbox(tools=[hang]) as box:
        with pytest.raises(TimedOut) as caught:
            box.run("hang()", deadline_s=REACHED_S)
        assert caught.value.state_kept
        assert cancelled.wait(BOUND_S)
        assert box.run("1").value == "alive"


def test_interrupt_from_another_thread_is_data_and_no_timeout(runtime: Runtime, source: FakeSource) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        loop_in_python(cell)

    source.scripts = (loop, answer("alive"))
    with runtime.sandbox() as box:
        thread, seen = run_in_thread(lambda: box.run("while True: pass"))
        assert running.wait(BOUND_S)
        box.interrupt()
        thread.join(BOUND_S)
        (cell,) = seen
        assert cell.error.type == "KeyboardInterrupt"  # type: ignore[attr-defined]
        assert cell.interrupted  # type: ignore[attr-defined]
        assert box.run("1").value == "alive"


def test_an_interrupt_while_nothing_runs_does_nothing(runtime: Runtime, source: FakeSource) -> None:
    with runtime.sandbox() as box:
        box.interrupt()
        assert box.run("1").ok
    assert source.leased[0].interrupts == 0


def press_ctrl_c(cell: FakeCell) -> None:
    """To the main thread once it waits for the cell's end; CPython sees a signal late in the last step before that."""
    main = threading.main_thread().ident or 0
    frames = sys._current_frames  # pyright: ignore[reportPrivateUsage]
    wait_until(lambda: frames()[main].f_code.co_name == "_block")
    cell.link.gone.wait(0.02)
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.usefixtures("patient")
def test_ctrl_c_interrupts_the_guest_then_raises_and_the_sandbox_lives(runtime: Runtime, source: FakeSource) -> None:
    def loop(cell: FakeCell) -> None:
        press_ctrl_c(cell)
        loop_in_python(cell)

    source.scripts = (loop, answer("alive"))
    with runtime.sandbox() as box:
        with pytest.raises(KeyboardInterrupt):
            box.run("while True: pass")
        assert source.leased[0].interrupts == 1
        assert box.run("1").value == "alive"


@pytest.mark.usefixtures("short_graces")
def test_ctrl_c_kills_a_guest_that_is_deaf_to_it(runtime: Runtime, source: FakeSource) -> None:
    def loop(cell: FakeCell) -> None:
        press_ctrl_c(cell)
        loop_in_c(cell)

    source.scripts = (loop,)
    with runtime.sandbox() as box:
        with pytest.raises(KeyboardInterrupt):
            box.run("...")
        with pytest.raises(SandboxClosed, match="cancelled and had to be killed"):
            box.run("1")


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_request_while_a_cell_runs_is_refused(runtime: Runtime, source: FakeSource) -> None:
    running, go = threading.Event(), threading.Event()

    def gated(cell: FakeCell) -> None:
        running.set()
        go.wait(BOUND_S)
        cell.finish("first")

    source.scripts = (gated,)
    with runtime.sandbox() as box:
        thread, seen = run_in_thread(lambda: box.run("..."))
        assert running.wait(BOUND_S)
        for refused in (lambda: box.run("2"), box.list_files, lambda: box.read_file("x"), box.reset):
            with pytest.raises(SandboxBusy):
                refused()
        go.set()
        thread.join(BOUND_S)
        assert seen[0].value == "first"  # type: ignore[attr-defined]
        assert source.leased[0].requests == ["start", "cell"]


def test_many_threads_share_a_runtime(source: FakeSource) -> None:
    source.scripts = (answer(1),)
    with Runtime(sources={"process": source}) as runtime:

        def work() -> list[object]:
            with runtime.sandbox() as box:
                return [box.run("1").value for _ in range(10)]

        started = [run_in_thread(work) for _ in range(20)]
        for thread, _ in started:
            thread.join(BOUND_S)
        assert [seen for _, seen in started] == [[[1] * 10]] * 20
        assert runtime.sandboxes == 0


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_crashed_worker_raises_once_and_then_the_sandbox_is_closed(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (crash(5),)
    with runtime.sandbox() as box:
        with pytest.raises(WorkerCrashed) as caught:
            box.run("import os; os._exit(5)")
        assert caught.value.exit_status == 5
        assert str(caught.value) == "the worker is gone; reset() starts the sandbox afresh"
        with pytest.raises(SandboxClosed, match="WorkerCrashed"):
            box.run("1")
        assert repr(box) == "<Sandbox wasmtime/process lost>"


def test_a_worker_that_breaks_the_protocol_is_killed_and_the_sandbox_closed(
    runtime: Runtime, source: FakeSource
) -> None:
    def script(cell: FakeCell) -> None:
        cell.send_raw(b"\0" * 12)

    source.scripts = (script,)
    with runtime.sandbox() as box:
        with pytest.raises(ProtocolError):
            box.run("1")
        assert source.leased[0].gone.is_set()
        with pytest.raises(SandboxClosed, match="ProtocolError"):
            box.run("1")


def test_reset_swaps_in_a_fresh_worker(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (answer("old"), answer("old"))
    with runtime.sandbox() as box:
        assert box.run("1").value == "old"
        source.scripts = (answer("new"),)
        box.reset()
        assert box.run("1").value == "new"
        assert [link.gone.is_set() for link in source.leased] == [True, False]
        assert runtime.sandboxes == 1


def test_reset_revives_a_sandbox_whose_worker_died(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (crash(1),)
    with runtime.sandbox() as box:
        with pytest.raises(WorkerCrashed):
            box.run("1")
        source.scripts = (answer("new"),)
        box.reset()
        assert box.run("1").value == "new"


def test_a_closed_sandbox_refuses_everything_and_closes_twice(runtime: Runtime, source: FakeSource) -> None:
    box = runtime.sandbox()
    box.close()
    box.close()
    assert source.leased[0].closed
    for refused in (lambda: box.run("1"), box.list_files, box.reset):
        with pytest.raises(SandboxClosed, match="open another"):
            refused()
    assert runtime.sandboxes == 0


def test_closing_from_another_thread_ends_the_running_cell(runtime: Runtime, source: FakeSource) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        loop_in_c(cell)

    source.scripts = (loop,)
    box = runtime.sandbox()
    thread, seen = run_in_thread(lambda: box.run("..."))
    assert running.wait(BOUND_S)
    box.close()
    thread.join(BOUND_S)
    assert [type(error) for error in seen] == [SandboxClosed]


def test_a_full_runtime_says_when_to_try_again(runtime: Runtime) -> None:
    boxes = [runtime.sandbox() for _ in range(3)]
    with pytest.raises(PoolExhausted, match="max_sandboxes") as caught:
        runtime.sandbox()
    assert caught.value.retry_after_s > 0
    boxes[0].close()
    boxes[0] = runtime.sandbox()
    for box in boxes:
        box.close()


def test_closing_the_runtime_closes_its_sandboxes_and_sources(runtime: Runtime, source: FakeSource) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        loop_in_c(cell)

    source.scripts = (loop,)
    busy, idle = runtime.sandbox(), runtime.sandbox()
    thread, seen = run_in_thread(lambda: busy.run("..."))
    assert running.wait(BOUND_S)
    runtime.close()
    thread.join(BOUND_S)
    assert [type(error) for error in seen] == [SandboxClosed]
    assert source.closed
    assert idle.closed
    with pytest.raises(RuntimeClosed):
        runtime.sandbox()
    assert runtime.sandboxes == 0


def test_a_start_that_fails_leaves_nothing_behind(runtime: Runtime, source: FakeSource) -> None:
    def exhausted(limits: Limits, timeout_s: float) -> object:
        raise PoolExhausted("no worker", retry_after_s=1)

    source.lease = exhausted  # type: ignore[method-assign,assignment]
    with pytest.raises(PoolExhausted):
        runtime.sandbox()
    assert runtime.sandboxes == 0


def test_the_walls_of_both_isolations_are_named(runtime: Runtime) -> None:
    assert [(wall.name, wall.active) for wall in runtime.walls("thread")] == [("wasm", True), ("process", False)]
    assert [wall.name for wall in runtime.walls()][:2] == ["wasm", "process"]


def test_a_config_and_single_options_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        Runtime(Runtime(max_workers=3).config, max_workers=4)
    with pytest.raises(ConfigError, match="max_workers"):
        Runtime(max_workers=0)


def test_a_sandbox_of_a_runtime_has_the_same_face_as_one_made_by_name(runtime: Runtime) -> None:
    with Sandbox(runtime=runtime) as box:
        assert repr(box) == "<Sandbox wasmtime/process open>"
        assert runtime.sandboxes == 1
