"""A blocking caller serves his own request: an exception on his thread, wherever it comes, leaves nothing half used."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.support.places import where
from tests.support.waiting import wait_until

from cloche import Limits, PoolExhausted, Runtime, SandboxBusy, SandboxClosed, TimedOut, WorkerCrashed, tool
from cloche import runtime as runtime_package

HERE = Path(runtime_package.__file__).parent.resolve()
LINES = 2000
"""More than one cell runs through in the host."""
STEP = 5
"""Every fifth line of the host's, so that the test stays short; all of them were tried when it was written."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="callers serve where poll is")


class BreakOff:
    """Raises KeyboardInterrupt at the n-th line that this thread runs in the package `runtime`."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.where = ""

    def run(self, action: Callable[[], object]) -> bool:
        """True if the action was broken off; False if it has fewer lines."""
        sys.settrace(self._call)
        try:
            action()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        return self._line if Path(frame.f_code.co_filename).resolve().parent == HERE else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and not _is_with(frame):
            self._left -= 1
            if self._left == 0:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line


def _is_with(frame: FrameType) -> bool:
    """The line of a `with` comes up again before its `__exit__`, where CPython lets no exception in: locks are in C."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


@pytest.mark.timeout(120)
def test_ctrl_c_at_any_line_of_a_cell_leaves_a_sandbox_that_works_or_says_that_it_has_ended() -> None:
    with Runtime(warm_workers=1) as runtime, runtime.sandbox() as box:
        box.run("1")
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        kept = lost = 0
        for at in range(1, LINES, STEP):
            breaking = BreakOff(at)
            if not breaking.run(lambda: box.run("1 + 1")):
                break
            try:
                assert box.run("2 + 3").value == 5, breaking.where
                kept += 1
            except SandboxBusy:
                pytest.fail(f"still busy after an exception at {breaking.where}")
            except SandboxClosed:
                lost += 1
                box.reset()
                assert box.run("3 + 4").value == 7, breaking.where
        else:
            pytest.fail("the cell had more lines than were tried")
        assert kept > 0
        assert lost > 0
        if sys.platform == "linux":
            # A worker may be ending just now, and the next one coming.
            wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 6)
        assert runtime.sandboxes == 1


@pytest.mark.parametrize("isolation", ["process", "deno"])
def test_a_tool_runs_on_another_thread_than_the_caller_and_the_next_cell_comes_back_to_him(isolation: str) -> None:
    threads: list[int] = []

    @tool
    def note() -> int:
        threads.append(threading.get_ident())
        return len(threads)

    with Runtime() as runtime, runtime.sandbox(**where(isolation), tools=[note]) as box:
        for count in (1, 2):
            assert box.run("note()").value == count
            assert box.run("7").value == 7
        assert threading.get_ident() not in threads


def test_a_tool_that_hangs_does_not_hold_the_caller_past_his_deadline() -> None:
    release = threading.Event()

    @tool
    def hang() -> None:
        release.wait(20)

    with Runtime() as runtime, runtime.sandbox(tools=[hang], limits=Limits(wall_s=5)) as box:
        try:
            with pytest.raises(TimedOut):
                box.run("hang()", deadline_s=0.3)
        finally:
            release.set()


def test_a_request_of_many_bytes_is_not_sent_by_the_caller_and_arrives() -> None:
    with Runtime() as runtime, runtime.sandbox() as box:
        assert box.run("len(data)", inputs={"data": b"x" * 300_000}).value == 300_000


def test_without_a_thread_for_a_tool_the_caller_hears_it_and_a_reset_revives_the_sandbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @tool
    def seven() -> int:
        return 7

    def no_thread(_job: object) -> None:
        raise PoolExhausted("can't start new thread", retry_after_s=0.5)

    with Runtime() as runtime, runtime.sandbox(tools=[seven]) as box:
        with monkeypatch.context() as patch:
            patch.setattr(runtime.core.servers, "submit", no_thread)
            with pytest.raises(WorkerCrashed, match="a request could not go on: can't start new thread"):
                box.run("seven()")
        with pytest.raises(SandboxClosed, match="can't start new thread"):
            box.run("1")
        box.reset()
        assert box.run("seven()").value == 7
