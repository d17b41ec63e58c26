"""Sandboxes over the real engine, in both isolations: cells, tools, files, limits, ends."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading
from collections.abc import Iterator

import anyio
import pytest
from tests.support.deadlines import not_kept, timed_out
from tests.support.leftovers import open_descriptors
from tests.support.places import params, where
from tests.support.waiting import wait_until

from cloche import (
    AsyncRuntime,
    AsyncSandbox,
    Limits,
    Runtime,
    Sandbox,
    SandboxClosed,
    SandboxFileError,
    TimedOut,
    WorkerCrashed,
    tool,
)
from cloche.runtime.execution import Execution

pytestmark = pytest.mark.wasmtime

BOUND_S = 20.0
START_S = 60.0
"""With a runtime of its own and its first sandbox."""
ENDLESS_C = "import itertools, collections\ncollections.deque(itertools.repeat(1), 0)"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as made:
        yield made


@pytest.fixture(params=params())
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def box(runtime: Runtime, isolation: str) -> Iterator[Sandbox]:
    with runtime.sandbox(**where(isolation), limits=Limits(wall_s=BOUND_S)) as made:
        yield made


@pytest.mark.guarantee("G37")
def test_state_stays_between_cells_and_is_not_shared_with_another_sandbox(
    runtime: Runtime, isolation: str, box: Sandbox
) -> None:
    assert box.run("x = 20\nx + 1").value == 21
    assert box.run("x * 2").value == 40
    with runtime.sandbox(**where(isolation)) as other:
        error = other.run("x").error
        assert error is not None
        assert error.type == "NameError"


def test_output_value_and_error_of_a_cell(box: Sandbox) -> None:
    cell = box.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 / 0")
    assert (cell.stdout, cell.value, cell.ok) == ("out\n", None, False)
    assert cell.stderr == "err\n"
    assert cell.error is not None
    assert (cell.error.type, cell.error.line) == ("ZeroDivisionError", 4)


def test_output_arrives_while_the_cell_runs(runtime: Runtime, isolation: str) -> None:
    heard: list[str] = []

    @tool
    def heard_so_far() -> str:
        return "".join(heard)

    with runtime.sandbox(**where(isolation), tools=[heard_so_far]) as box:
        cell = box.run("print('early', flush=True)\nheard_so_far()", on_output=lambda stream, text: heard.append(text))
    assert cell.value == "early\n"


def test_inputs_are_names_in_the_cell(box: Sandbox) -> None:
    assert box.run("[row * 2 for row in rows]", inputs={"rows": [1, 2.5, "a"]}).value == [2, 5.0, "aa"]


def test_tools_see_the_context_variables_of_the_caller(runtime: Runtime, isolation: str) -> None:
    who = contextvars.ContextVar("who", default="nobody")

    @tool
    def whoami() -> str:
        return who.get()

    with runtime.sandbox(**where(isolation), tools=[whoami]) as box:
        who.set("tenant-7")
        assert box.run("whoami()").value == "tenant-7"


def test_five_async_tools_take_as_long_as_one(runtime: Runtime, isolation: str) -> None:
    together: list[int] = []
    all_there = threading.Barrier(5)

    def meet() -> int:
        all_there.wait(BOUND_S)  # passes only when five calls are open at once
        together.append(1)
        return 1

    with runtime.sandbox(**where(isolation), tools=[meet]) as box:
        cell = box.run("import asyncio\nsum(await asyncio.gather(*[meet.aio() for _ in range(5)]))")
    assert (cell.value, len(together)) == (5, 5)


def test_files_go_in_and_out_and_artifacts_come_back(box: Sandbox) -> None:
    box.write_file("/data/in.txt", "hallo")
    cell = box.run("text = open('/data/in.txt').read()\nopen('/out/up.txt', 'w').write(text.upper())\ntext")
    assert cell.value == "hallo"
    assert [(artifact.name, artifact.data) for artifact in cell.artifacts] == [("up.txt", b"HALLO")]
    assert box.read_file("/out/up.txt") == b"HALLO"
    assert box.list_files() == ["/data/in.txt", "/out/up.txt"]
    with pytest.raises(SandboxFileError):
        box.read_file("/etc/passwd")


@pytest.mark.usefixtures("patient")
def test_an_endless_python_loop_is_interrupted_and_the_state_kept(box: Sandbox) -> None:
    box.run("kept = 'yes'")
    error = timed_out(
        lambda wait_s: box.run("print('begun', flush=True)\nwhile True: pass", deadline_s=wait_s),
        lambda error: error.cell is not None and error.cell.stdout != "",
    )
    assert error.state_kept
    assert error.cell is not None
    assert error.cell.stdout == "begun\n"
    assert box.run("kept").value == "yes"


@pytest.mark.usefixtures("patient")
def test_a_swallowed_interrupt_is_a_timeout_all_the_same(box: Sandbox) -> None:
    code = "try:\n    while True: pass\nexcept BaseException:\n    pass\n'swallowed'"
    error = timed_out(
        lambda wait_s: box.run(code, deadline_s=wait_s), lambda error: error.cell is not None and error.cell.ok
    )
    assert error.state_kept
    assert error.cell is not None
    assert error.cell.value == "swallowed"


@pytest.mark.guarantee("G30")
def test_a_guest_that_keeps_swallowing_is_killed_within_a_second_of_its_deadline(box: Sandbox) -> None:
    """The best of up to four, since a busy machine may hold up one; the bench has the figures of many."""
    code = "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass"
    late_s: list[float] = []
    while len(late_s) < 4 and not any(late < 1 for late in late_s):
        error = timed_out(lambda wait_s: box.run(code, deadline_s=wait_s), not_kept)
        late_s.append(error.used - error.allowed)
        assert not error.state_kept
        with pytest.raises(SandboxClosed, match="had to be killed"):
            box.run("1")
        box.reset()
    assert min(late_s) < 1, late_s
    assert max(late_s) < 10, late_s


def test_an_endless_c_loop_is_killed_and_the_sandbox_can_be_reset(box: Sandbox) -> None:
    assert not timed_out(lambda wait_s: box.run(ENDLESS_C, deadline_s=wait_s), not_kept).state_kept
    box.reset()
    assert box.run("1 + 1").value == 2


@pytest.mark.usefixtures("patient")
def test_sleep_in_the_guest_is_bounded_by_the_deadline(box: Sandbox) -> None:
    with pytest.raises(TimedOut) as caught:
        box.run("import time\ntime.sleep(60)", deadline_s=0.2)
    assert caught.value.state_kept
    assert box.run("1").value == 1


@pytest.mark.guarantee("G30")
def test_a_hanging_tool_does_not_hold_the_deadline(runtime: Runtime, isolation: str) -> None:
    returns = threading.Event()

    @tool
    def hang() -> None:
        returns.wait(BOUND_S)

    with runtime.sandbox(**where(isolation), tools=[hang]) as box:
        error = timed_out(lambda wait_s: box.run("hang()", deadline_s=wait_s), not_kept)
        assert not error.state_kept
        assert error.used - error.allowed < BOUND_S / 2, "the tool did not return before"
        returns.set()
        box.reset()
        assert box.run("1").value == 1


def test_interrupt_from_another_thread_ends_the_cell_with_keyboard_interrupt(runtime: Runtime, isolation: str) -> None:
    @tool
    def stop_me() -> None:
        threading.Timer(0, open_box.interrupt).start()

    with runtime.sandbox(**where(isolation), tools=[stop_me]) as open_box:
        cell = open_box.run("kept = 1\nstop_me()\nwhile True: pass")
        assert cell.error is not None
        assert cell.error.type == "KeyboardInterrupt"
        assert open_box.run("kept").value == 1


def test_an_interrupt_before_the_worker_heard_of_the_cell_ends_it(
    monkeypatch: pytest.MonkeyPatch, box: Sandbox
) -> None:
    real = Execution[object].start

    def start(self: Execution[object], *args: object) -> None:
        box.interrupt()
        real(self, *args)  # type: ignore[arg-type]

    box.run("kept = 1")
    with monkeypatch.context() as patch:
        patch.setattr(Execution, "start", start)
        cell = box.run("kept = 2\nwhile True: pass")
    assert cell.interrupted
    assert box.run("kept").value in (1, 2)


@pytest.mark.exhaustive
def test_no_interrupt_is_lost_over_many_cells(runtime: Runtime, isolation: str) -> None:
    """The guest clears the flag that the host sets; between look and write an interrupt once got lost, 1 of 400."""

    @tool
    def stop_me() -> None:
        threading.Thread(target=open_box.interrupt).start()

    with runtime.sandbox(**where(isolation), tools=[stop_me], limits=Limits(wall_s=5)) as open_box:
        for _ in range(1500):
            assert open_box.run("stop_me()\nwhile True: pass").interrupted


def test_an_interrupt_wakes_a_sleeping_guest(runtime: Runtime, isolation: str) -> None:
    @tool
    def stop_me() -> None:
        threading.Timer(0.05, open_box.interrupt).start()

    with runtime.sandbox(**where(isolation), tools=[stop_me]) as open_box:
        cell = open_box.run("import time\nstop_me()\ntime.sleep(30)")
        assert cell.error is not None
        assert cell.error.type == "KeyboardInterrupt"
        assert cell.usage.wall_s < BOUND_S / 2


def test_an_interrupt_does_not_leak_into_the_next_cell(box: Sandbox) -> None:
    for number in range(50):
        box.interrupt()
        assert box.run(f"{number}").value == number


@pytest.mark.usefixtures("patient")
def test_ctrl_c_stops_the_guest_and_the_sandbox_lives(box: Sandbox) -> None:
    main = threading.main_thread().ident or 0
    # Not in the callback itself, which runs on this thread: it is to wait for the guest by then.
    timer = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        box.run(
            "kept = 'yes'\nprint(kept, flush=True)\nwhile True: pass", on_output=lambda _stream, _text: timer.start()
        )
    assert box.run("kept").value == "yes"


@pytest.mark.guarantee("G15")
def test_a_guest_that_exits_is_a_crash_and_the_next_sandbox_works(
    runtime: Runtime, isolation: str, box: Sandbox
) -> None:
    with pytest.raises(WorkerCrashed):
        box.run("import os\nos._exit(3)")
    with pytest.raises(SandboxClosed):
        box.run("1")
    with runtime.sandbox(**where(isolation)) as other:
        assert other.run("1").value == 1


def test_deep_recursion_is_an_error_in_the_guest(box: Sandbox) -> None:
    cell = box.run("def f(n): return f(n + 1)\nf(0)")
    assert cell.error is not None
    assert cell.error.type == "RecursionError"
    assert box.run("1").value == 1


@pytest.mark.guarantee("G32")
def test_memory_over_the_limit_is_memory_error_in_the_guest(runtime: Runtime, isolation: str) -> None:
    with runtime.sandbox(**where(isolation), limits=Limits(memory_mb=96)) as box:
        cell = box.run("x = bytearray(200_000_000)")
        assert cell.error is not None
        assert cell.error.type == "MemoryError"
        assert box.run("1").value == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.usefixtures("patient", "box")  # its start may compile the image, which the bound below does not cover
def test_the_async_face_runs_cells_tools_and_cancellation(isolation: str, backend: str) -> None:
    async def price(item: str) -> float:
        await anyio.lowlevel.checkpoint()
        return {"tea": 2.5}[item]

    async def main() -> None:
        with anyio.fail_after(START_S):
            async with AsyncRuntime() as runtime, runtime.sandbox(**where(isolation), tools=[price]) as box:
                assert (await box.run("price('tea') + await price.aio('tea')")).value == 5.0
                with anyio.move_on_after(0.2) as scope:
                    await box.run("while True: pass")
                assert scope.cancelled_caught
                assert (await box.run("1 + 1")).value == 2

    anyio.run(main, backend=backend)


@pytest.mark.usefixtures("box")
def test_two_async_sandboxes_run_at_once(isolation: str) -> None:
    async def main() -> None:
        meeting = [asyncio.Event(), asyncio.Event()]

        async def meet(mine: int) -> int:
            meeting[mine].set()
            await meeting[1 - mine].wait()  # passes only when both cells run at the same time
            return mine

        async def work(runtime: AsyncRuntime, number: int) -> object:
            async with AsyncSandbox(**where(isolation), tools=[meet], runtime=runtime) as box:
                return (await box.run(f"meet({number})")).value

        async with asyncio.timeout(START_S), AsyncRuntime() as runtime:
            assert list(await asyncio.gather(work(runtime, 0), work(runtime, 1))) == [0, 1]

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_sandboxes_leave_no_thread_or_descriptor_behind(isolation: str) -> None:
    with Runtime(warm_workers=1) as runtime:

        def use(times: int) -> None:
            for _ in range(times):
                with runtime.sandbox(**where(isolation)) as box:
                    assert box.run("1 + 1").value == 2
            wait_until(lambda: runtime.warm_workers == 1)

        use(10)
        before, threads = open_descriptors(), threading.active_count()
        use(12 if isolation == "deno" else 100)  # a Deno takes more than ten times as long to start
        # A spare worker of another test's runtime may be on its way.
        wait_until(lambda: open_descriptors() <= before + 4 and threading.active_count() <= threads + 2)
        assert runtime.sandboxes == 0
