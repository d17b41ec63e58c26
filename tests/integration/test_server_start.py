"""A fork server that is started before anybody waits for it: used once, or ended with the runtime that started it."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path

import pytest
from tests.support.leftovers import leftovers

from cloche.runtime.errors import ConfigError, ImageError
from cloche.runtime.runtime import Runtime
from cloche.runtime.server_start import StartingServer

pytestmark = [pytest.mark.wasmtime, pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")]


def started(runtime: Runtime) -> StartingServer:
    found = runtime.core.started
    assert found is not None
    return found[1]


def children() -> set[int]:
    """Processes that this one has started and not reaped, from whichever thread."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found.update(map(int, task.joinpath("children").read_text(encoding="ascii").split()))
    return found


def test_the_first_sandbox_gets_the_server_that_was_begun() -> None:
    with Runtime(warm_workers=0) as runtime:
        runtime.core.begin("process")
        pid = started(runtime).process.pid
        runtime.core.begin("process")
        assert started(runtime).process.pid == pid
        others = children() - {pid}
        with runtime.sandbox() as box:
            assert box.run("1+1").value == 2
            assert runtime.core.started is None
            assert children() - others == {pid}, "it serves, and no second one was started"
        runtime.core.begin("process")
        assert runtime.core.started is None, "there is one already"


def test_a_server_that_nobody_used_ends_with_its_runtime() -> None:
    Runtime().close()
    gc.collect()  # a closed runtime may be a cycle, which holds the image's file
    before = leftovers()
    runtime = Runtime(warm_workers=0)
    with pytest.raises(ConfigError):
        runtime.sandbox(tools=[3])  # type: ignore[list-item]  # what is tested
    server = started(runtime)
    runtime.close()
    assert server.process.returncode is not None, "reaped"
    del runtime, server
    gc.collect()
    before.wait_gone()


def test_a_source_that_was_never_prepared_ends_its_server() -> None:
    runtime = Runtime(warm_workers=0)
    runtime.core.begin("process")
    server = started(runtime)
    runtime.core.source("process")
    assert server.process.poll() is None
    runtime.close()
    assert server.process.returncode is not None


def test_only_process_isolation_of_wasmtime_has_one() -> None:
    with Runtime(warm_workers=0) as runtime:
        runtime.core.begin("thread")
        runtime.core.begin("process", "deno")
        assert runtime.core.started is None


def test_an_image_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    with Runtime(image=tmp_path / "none.wasm") as runtime, pytest.raises(ImageError, match="none.wasm"):
        runtime.sandbox()


def test_a_server_that_dies_at_its_start_is_an_error_and_the_next_sandbox_works() -> None:
    with Runtime(warm_workers=0) as runtime:
        runtime.core.begin("process")
        started(runtime).process.kill()
        with pytest.raises(ConfigError, match="fork server did not start"):
            runtime.sandbox()
        with runtime.sandbox() as box:
            assert box.run("1+1").value == 2


def test_a_server_that_says_nothing_is_ended_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloche.runtime.fork_server.START_DEADLINE_S", 0.0001)  # a Python does not start so fast
    with Runtime(warm_workers=0) as runtime:
        runtime.core.begin("process")
        process = started(runtime).process
        with pytest.raises(ConfigError, match="fork server was not ready within"):
            runtime.sandbox()
        assert process.returncode is not None, "reaped"


def test_a_server_that_ended_is_waited_for_and_its_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channel closes a moment before its process is gone, and on a busy machine that moment is long."""
    with Runtime(warm_workers=0) as runtime:
        runtime.core.begin("process")
        process = started(runtime).process
        process.kill()
        waits: list[float | None] = []

        def late(timeout: float | None = None) -> int:
            waits.append(timeout)
            return wait()

        wait = process.wait
        monkeypatch.setattr(process, "wait", late)
        with pytest.raises(ConfigError, match="fork server did not start: exit code -9"):
            runtime.sandbox()
        assert waits[0] == 10.0
