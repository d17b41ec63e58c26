"""How sandboxes end without being closed: dropped, forked, left to the end of the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable

import pytest
from tests.support.background import wait_for

from cloche import Runtime, Sandbox, TimedOut, UsedAfterFork
from cloche.runtime import runtime_core
from cloche.runtime.fake_link import FakeSource, answer, loop_in_python


def runtime_of(source: FakeSource) -> Runtime:
    return Runtime(sources={"process": source})


def test_a_dropped_sandbox_warns_and_its_worker_is_ended() -> None:
    source = FakeSource()
    with runtime_of(source) as runtime:
        box = runtime.sandbox()
        box.run("1")
        boxes = [box]
        del box
        with pytest.warns(ResourceWarning, match="unclosed Sandbox"):
            boxes.clear()
        wait_for(lambda: source.leased[0].closed)
        wait_for(lambda: runtime.sandboxes == 0)


def test_a_closed_sandbox_is_dropped_in_silence() -> None:
    with runtime_of(FakeSource()) as runtime, warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime.sandbox().close()
        gc.collect()


def test_nothing_of_a_cell_stays_alive_after_it() -> None:
    source = FakeSource(answer(1))
    with runtime_of(source) as runtime, runtime.sandbox() as box:
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(200):
            box.run("1")
        gc.collect()
        assert len(gc.get_objects()) - before < 100


def test_the_error_of_a_cell_does_not_keep_the_sandbox_alive() -> None:
    source = FakeSource(loop_in_python)
    with runtime_of(source) as runtime:
        box = runtime.sandbox()
        gone = weakref.ref(box)
        with pytest.raises(TimedOut):
            box.run("1", deadline_s=0.01)
        box.close()
        gc.disable()
        try:
            del box
            wait_for(lambda: gone() is None)  # the thread that served may be on its last lines
        finally:
            gc.enable()


def in_child(action: Callable[[], object]) -> str:
    """What the action raised in a forked child, as text; the child runs nothing else."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of a fork with threads: that is the case at hand
        pid = os.fork()
    if pid == 0:
        try:
            action()
            said = "nothing"
        except BaseException as exc:  # noqa: BLE001  # told to the parent
            said = type(exc).__name__
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_sandbox_used_after_fork_says_so_and_the_parent_keeps_it() -> None:
    source = FakeSource(answer(1))
    with runtime_of(source) as runtime, runtime.sandbox() as box:
        assert in_child(lambda: box.run("1")) == UsedAfterFork.__name__
        assert in_child(box.interrupt) == UsedAfterFork.__name__
        assert in_child(runtime.sandbox) == UsedAfterFork.__name__
        assert in_child(box.close) == "nothing"
        assert in_child(runtime.close) == "nothing"
        assert box.run("1").value == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_gets_a_default_runtime_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Runtime(sources={"process": FakeSource()}).core
    monkeypatch.setattr(runtime_core, "_default", mine)

    def child() -> None:
        if runtime_core.default_core() is mine:
            raise AssertionError("the parent's")

    assert in_child(child) == "nothing"
    assert runtime_core.default_core() is mine


def test_the_default_runtime_serves_sandboxes_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource(answer(3))
    runtime = runtime_of(source)
    monkeypatch.setattr(runtime_core, "_default", runtime.core)
    with Sandbox() as box:
        assert box.run("3").value == 3
        assert runtime.sandboxes == 1
    runtime.close()


SCRIPT = """
import threading
from cloche import Runtime, TimedOut
from cloche.runtime.fake_link import FakeSource, FakeCell, answer
from cloche.runtime.protocol import ToolCall
from cloche.runtime.values import ValueLimits, encode

def hang():
    threading.Event().wait(60)

def script(cell: FakeCell) -> None:
    cell.ask(ToolCall(id=1, name="hang"), encode([[], {}], ValueLimits()))

runtime = Runtime(sources={"process": FakeSource(script)})
box = runtime.sandbox(tools=[hang])
try:
    box.run("hang()", deadline_s=3)
except TimedOut as exc:
    print("timed out", exc.state_kept)
"""


def test_the_process_ends_although_a_tool_still_hangs_and_nothing_was_closed() -> None:
    folder = os.path.dirname(os.path.dirname(sys.modules["cloche"].__file__ or ""))
    command = [sys.executable, "-c", SCRIPT]
    found = subprocess.run(
        command, env={"PYTHONPATH": folder}, capture_output=True, text=True, timeout=60, check=True, encoding="utf-8"
    )
    assert found.stdout == "timed out False\n"
