"""The driver of Deno workers: how Deno is found, who dies with whom, interrupts on the frames' stream, nothing left."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
from tests.support.leftovers import leftovers
from tests.support.pids import pid_of, pid_of_box
from tests.support.waiting import wait_until

import cloche
from cloche import ConfigError, Limits, Policy, Runtime, Sandbox, TimedOut, WallMissing, WorkerCrashed
from cloche.deno_host import find
from cloche.runtime import deno_link
from cloche.runtime.deno_maker import DenoServer, deno_maker
from cloche.runtime.server_start import image_to_run
from cloche.wasm_sandbox.jail import report

pytestmark = [
    pytest.mark.deno,
    pytest.mark.wasmtime,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

BOUND_S = 30.0
FOLDER = Path(cloche.__file__ or "").parent.parent

HOST = """
import sys
from cloche import Sandbox
from tests.support.pids import pid_of_box
box = Sandbox(engine="deno")
print(pid_of_box(box), box._core.runtime.source("process", "deno")._pool._maker._maker.pid, flush=True)
if sys.argv[1] == "busy":
    import threading
    threading.Thread(target=box.run, args=("while True: pass",), daemon=True).start()
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(engine="deno", warm_workers=0) as made:
        yield made


@pytest.fixture
def server() -> Iterator[DenoServer]:
    made = deno_maker(image_to_run(None))
    yield made
    made.close()


# --- which Deno -------------------------------------------------------------------------------------------------------


def test_without_deno_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_from_wheel", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"pip install 'cloche\[deno\]'"):
        find.find_deno()


def test_another_release_of_deno_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "deno"
    other.write_text("#!/bin/sh\necho deno 1.46.3\n", encoding="utf-8")
    other.chmod(0o755)
    monkeypatch.setattr(find, "_from_wheel", lambda: str(other))
    with pytest.raises(ConfigError, match=r"is Deno 1\.46\.3, and cloche knows Deno 2\.9"):
        find.find_deno()


def test_thread_isolation_and_unknown_engines_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="a process of its own"):
        Sandbox(engine="deno", isolation="thread")
    with pytest.raises(ConfigError, match="unknown engine 'v8'"):
        Sandbox(engine="v8")
    with pytest.raises(ConfigError, match="engine is one of"):
        Runtime(engine="v8")


# --- what a sandbox is ------------------------------------------------------------------------------------------------


def test_the_runtimes_engine_is_that_of_its_sandboxes_and_its_walls(runtime: Runtime) -> None:
    with runtime.sandbox() as box:
        cell = box.run("1 + 1")
    assert (cell.value, repr(box)) == (2, "<Sandbox deno/process closed>")
    assert cell.metadata is not None
    assert (cell.metadata.engine, cell.metadata.wasmtime) == ("deno", "")
    walls = {wall.name: wall.active for wall in runtime.walls()}
    assert walls["no-javascript"]
    assert walls["deno-permissions"]
    assert "deno-permissions" not in {wall.name for wall in runtime.walls(engine="wasmtime")}


def test_a_policy_may_require_a_wall_that_this_engine_lacks() -> None:
    with (
        Runtime(engine="deno", policy=Policy(require_walls={report.UNDUMPABLE})) as runtime,
        pytest.raises(WallMissing, match="undumpable"),
    ):
        runtime.sandbox()


def test_a_worker_has_its_channels_and_nothing_of_its_host(runtime: Runtime) -> None:
    with runtime.sandbox() as box:
        folder = Path(f"/proc/{pid_of_box(box)}")
        kinds = {os.readlink(path).split(":")[0] for path in (folder / "fd").iterdir()}
        assert kinds <= {"socket", "anon_inode"}
        status = (folder / "status").read_text(encoding="utf-8")
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        limits = (folder / "limits").read_text(encoding="utf-8")
        assert "Max core file size        0                    0" in limits
        data = next(line for line in limits.splitlines() if line.startswith("Max data size"))
        assert "unlimited" not in data


def test_no_tenant_is_let_in_before_his_memory_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its launcher does that. One that is stopped answers nothing, so the sandbox does not open; nothing is lost."""
    with Runtime(engine="deno", warm_workers=1) as runtime:
        runtime.sandbox().close()
        source = attrgetter("_core.source")(runtime)("process", "deno")  # the public API has no use for these
        launcher: int = attrgetter("_pool._maker._maker.pid")(source)
        wait_until(lambda: source.warm == 1)
        os.kill(launcher, signal.SIGSTOP)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(deno_link, "NOTICE_S", 0.3)
                with pytest.raises(WorkerCrashed, match="could not be capped: its launcher did not answer"):
                    runtime.sandbox()
        finally:
            os.kill(launcher, signal.SIGCONT)
        with runtime.sandbox() as box:
            assert box.run("1").value == 1


def test_a_cap_holds_when_its_answer_is_there(server: DenoServer) -> None:
    link = server.start_worker()
    try:
        link.wait_hello(BOUND_S)
        assert link.process.cap_memory(4096, BOUND_S) is None
        limits = Path(f"/proc/{pid_of(link)}/limits").read_text(encoding="utf-8")
        assert re.search(rf"^Max data size +{4096 << 20} +{4096 << 20} ", limits, re.MULTILINE)
    finally:
        link.close(BOUND_S)


@pytest.mark.usefixtures("patient")
def test_interrupts_from_many_threads_hit_the_cell_that_runs_and_no_later_one(runtime: Runtime) -> None:
    with runtime.sandbox(limits=Limits(wall_s=BOUND_S)) as box:
        for _ in range(20):
            with contextlib.suppress(TimedOut):
                box.run("while True: pass", deadline_s=0.05)
            for _ in range(50):
                box.interrupt()
            assert box.run("'next'").value == "next"


@pytest.mark.usefixtures("late_news")
def test_a_killed_worker_is_a_crash_and_reset_gives_a_fresh_one(runtime: Runtime) -> None:
    with runtime.sandbox() as box:
        pid = pid_of_box(box)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed, match="SIGKILL"):
            box.run("1")
        box.reset()
        assert box.run("1").value == 1


def test_a_start_that_hangs_is_killed_and_reported(server: DenoServer) -> None:
    link = server.start_worker()
    pid = link.process.wait_pid(BOUND_S)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerCrashed, match=r"within 0\.\d+ s"):
        link.wait_hello(0.3)
    link.close(BOUND_S)
    assert link.process.exited


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_host_killed_by_sigkill_leaves_no_process(state: str) -> None:
    environment = {"PYTHONPATH": str(FOLDER), **{name: os.environ[name] for name in ("HOME", "PATH")}}
    command = [sys.executable, "-P", "-c", HOST, state]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as host:
        assert host.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in host.stdout.readline().split()]
        host.kill()
        host.wait(BOUND_S)
        try:
            assert all(select.select([pidfd], [], [], BOUND_S)[0] for pidfd in pidfds)
        finally:
            for pidfd in pidfds:
                os.close(pidfd)


def test_many_sandboxes_leave_no_process_descriptor_or_thread_behind() -> None:
    with Runtime(engine="deno", warm_workers=1) as warmed:
        warmed.sandbox().close()
    gc.collect()  # a closed runtime may be a cycle, which holds the image's file
    before = leftovers()
    with Runtime(engine="deno", warm_workers=1) as runtime:
        for _ in range(4):
            with runtime.sandbox() as box:
                assert box.run("1").value == 1
            del box
    del runtime
    gc.collect()
    before.wait_gone()
