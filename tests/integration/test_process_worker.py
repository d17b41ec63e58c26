"""One real worker process behind its link, with a guest that behaves as each test needs: good, broken or hostile."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.pids import pid_of

from cloche.runtime.errors import ConfigError, ImageError, PoolExhausted, ProtocolError, WorkerCrashed
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import PROTOCOL_VERSION, RunCell, ToolResult, parse_from_worker, render
from cloche.runtime.spawned_worker import WorkerSpawner
from cloche.wasm_sandbox import program as real_program
from cloche.wasm_sandbox.jail.report import PURPOSES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")

SUPPORT = str(Path(__file__).resolve().parent.parent / "support")
FRAME_BYTES = 4 * 1024 * 1024
BOUND_S = 30.0


def fake(mode: str = "good") -> WorkerProgram:
    return WorkerProgram((mode,), "fake_program", SUPPORT)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer(fake())
    yield server
    server.close()


@pytest.fixture
def link(server: ForkServer) -> Iterator[ProcessLink]:
    link = ready(server)
    yield link
    link.close(BOUND_S)
    assert link.process.exited


def ready(server: ForkServer | WorkerSpawner) -> ProcessLink:
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    link.frame_bytes = FRAME_BYTES
    return link


class Sink:
    """Collects a request's frames, answers tool calls with a fixed value."""

    def __init__(self, answer: bytes = b"") -> None:
        self.finished = False
        self.kinds: list[str] = []
        self.texts: list[bytes] = []
        self._answer = render(ToolResult(id=1, ok=True), (answer,))

    def __call__(self, frame: bytes | memoryview) -> bytes | None:
        parsed, parts = parse_from_worker(frame, max_bytes=FRAME_BYTES)
        self.kinds.append(parsed.type)
        self.texts += map(bytes, parts)
        self.finished = parsed.type == "done"
        return self._answer if parsed.type == "tool_call" else None


def run(link: ProcessLink, source: str, sink: Sink | None = None) -> Sink:
    sink = sink or Sink()
    cell = RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0)
    link.request(render(cell, (source.encode(), b"")), sink)
    return sink


def report(link: ProcessLink) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(link, "report").texts[0])
    return found


def run_in_thread(link: ProcessLink, source: str) -> tuple[threading.Thread, list[object]]:
    ended: list[object] = []

    def serve() -> None:
        try:
            ended.append(run(link, source).kinds)
        except (WorkerCrashed, ProtocolError) as exc:
            ended.append(exc)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, ended


def when_asked(link: ProcessLink, source: str) -> tuple[threading.Thread, list[object]]:
    """As `run_in_thread`; returns when the request has begun."""
    thread, ended = run_in_thread(link, source)
    deadline = threading.Event()
    while not link.serving and thread.is_alive():
        deadline.wait(0.001)
    return thread, ended


# --- serving ----------------------------------------------------------------------------------------------------------


def test_a_request_ends_with_done_and_the_worker_takes_the_next(link: ProcessLink) -> None:
    assert run(link, "nothing").kinds == ["done"]
    assert run(link, "print 5 3").kinds == ["output", "output", "output", "done"]
    assert run(link, "ask 10 2").kinds == ["tool_call", "tool_call", "done"]


def test_a_megabyte_goes_to_a_tool_and_back(link: ProcessLink) -> None:
    sink = run(link, f"ask {1 << 20}", Sink(bytes(1 << 20)))
    assert [len(text) for text in sink.texts] == [1 << 20]


def test_an_interrupt_ends_a_cell_and_the_worker_lives(link: ProcessLink) -> None:
    thread, ended = when_asked(link, "spin")
    link.interrupt()
    thread.join(BOUND_S)
    assert ended == [["done"]]
    assert run(link, "interrupted").texts == [b"False"]


def test_interrupts_without_a_request_hit_none(link: ProcessLink) -> None:
    for _ in range(300):
        link.interrupt()
    assert run(link, "interrupted").texts == [b"False"]


def test_a_thousand_interrupts_do_not_block_the_one_who_sends_them(link: ProcessLink) -> None:
    thread, ended = when_asked(link, "stubborn")
    os.kill(pid_of(link), signal.SIGSTOP)
    for _ in range(5_000):
        link.interrupt()
    link.kill()
    thread.join(BOUND_S)
    assert [type(error) for error in ended] == [WorkerCrashed]


def test_epoch_traps_are_not_for_processes(link: ProcessLink) -> None:
    assert link.trap() is False


# --- a worker that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("trap wasm stack exhausted", 81, "the guest trapped (it said: wasm stack exhausted)"),
        ("fail b\x1b[31mad\n" + "x" * 1000, 82, "(it said: ValueError: b [31mad " + "x" * 300),
        ("exit 0", 0, "it exited with code 0"),
        ("exit 7", 7, "it exited with code 7"),
        (f"signal {signal.SIGSEGV.value}", -11, "it was ended by SIGSEGV"),
        (f"signal {signal.SIGKILL.value}", -9, "it was ended by SIGKILL, from outside or for lack of memory"),
        ("hang_up", -9, "it closed its channel and was killed for that"),
    ],
)
@pytest.mark.guarantee("G15")
@pytest.mark.usefixtures("late_news")
def test_a_worker_that_ends_is_a_crash_with_its_reason(
    link: ProcessLink, source: str, status: int, message: str
) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        run(link, source)
    assert caught.value.exit_status == status
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    with pytest.raises(WorkerCrashed):
        run(link, "nothing")


def test_news_of_a_death_that_is_late_is_told_as_it_was(link: ProcessLink, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, waits = link.process.wait, list[float]()

    def late(timeout_s: float) -> bool:
        waits.append(timeout_s)
        return wait(BOUND_S) and len(waits) > 1

    monkeypatch.setattr(link.process, "wait", late)
    with pytest.raises(WorkerCrashed, match="it exited with code 7") as caught:
        run(link, "exit 7")
    assert caught.value.exit_status == 7


@pytest.mark.parametrize("sent", ["ffffffffffffffff", "0400000000000000", "060000000200000078780000", "00" * 64])
def test_bytes_that_are_no_frame_kill_the_worker(link: ProcessLink, sent: str) -> None:
    with pytest.raises(ProtocolError):
        run(link, f"raw {sent}")
    assert link.process.wait(BOUND_S)


def test_a_frame_after_the_end_of_the_request_kills_the_worker(link: ProcessLink) -> None:
    with pytest.raises(ProtocolError, match="spoke after the end"):
        run(link, "chatter too much")
    assert link.process.wait(BOUND_S)


def test_half_a_frame_waits_until_the_worker_is_killed(link: ProcessLink) -> None:
    thread, ended = when_asked(link, "raw 40000000")
    link.kill()
    thread.join(BOUND_S)
    assert [str(error) for error in ended] == ["the worker is gone: it was killed by its host"]


def test_a_write_to_a_worker_that_does_not_read_ends_with_the_kill(link: ProcessLink) -> None:
    os.kill(pid_of(link), signal.SIGSTOP)
    thread, ended = when_asked(link, "x" * 3_000_000)
    link.kill()
    thread.join(BOUND_S)
    assert [type(error) for error in ended] == [WorkerCrashed]


def test_close_during_a_request_frees_the_descriptors_once_the_request_is_out(link: ProcessLink) -> None:
    thread, ended = when_asked(link, "stubborn")
    link.close(BOUND_S)
    thread.join(BOUND_S)
    assert [type(error) for error in ended] == [WorkerCrashed]
    assert link.released
    link.close(BOUND_S)


# --- a worker that never gets ready -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("no_guest", WorkerCrashed, "it could not make an interpreter (it said: ValueError: no memory"),
        ("silent", WorkerCrashed, "the worker was not ready within 0.2 s"),
        ("old", ProtocolError, f"expected a lone `hello` of protocol {PROTOCOL_VERSION}"),
        ("no_fork", PoolExhausted, "no process for a worker"),
    ],
)
@pytest.mark.usefixtures("late_news")
def test_a_worker_that_does_not_get_ready_says_why(mode: str, error: type[Exception], message: str) -> None:
    server = ForkServer(fake(mode))
    try:
        link = server.start_worker()
        with pytest.raises(error) as caught:
            link.wait_hello(0.2 if mode == "silent" else BOUND_S)
        assert message in str(caught.value)
        link.close(BOUND_S)
        assert link.process.exited
    finally:
        server.close()


def test_a_damaged_image_is_an_image_error_with_the_words_of_the_loader() -> None:
    with pytest.raises(ImageError, match=r"^the image is damaged: build it again$"):
        ForkServer(fake("broken_image"))


def test_a_program_with_threads_is_refused_because_forking_it_would_be_unsafe() -> None:
    with pytest.raises(ConfigError, match="a fork server must have one thread"):
        ForkServer(fake("threads"))


# --- what a worker has ------------------------------------------------------------------------------------------------


@pytest.fixture
def unjailed() -> Iterator[ForkServer]:
    """What the process side does by itself. Without the jail a worker can look at itself and tell."""
    server = ForkServer(fake(), without=PURPOSES)
    yield server
    server.close()


def test_a_worker_inherits_nothing_of_its_host(unjailed: ForkServer) -> None:
    link = ready(unjailed)
    found = report(link)
    assert (found["environ"], found["cwd"], found["core"]) == ({}, "/", [0, 0])
    assert (found["pid"], found["ppid"], found["sid"]) == (pid_of(link), unjailed.pid, unjailed.pid)
    kinds = sorted(target.split(":")[0] for target in found["descriptors"].values())
    assert kinds == ["/dev/null", "/dev/null", "/dev/null", "socket", "socket"]
    status = Path(f"/proc/{pid_of(link)}/status").read_text(encoding="utf-8")
    assert "NoNewPrivs:\t1" in status
    assert status.startswith("Name:\tcloche-worker\n")
    link.close(BOUND_S)


@pytest.mark.guarantee("G01")
def test_the_environment_block_of_a_worker_is_empty_even_where_python_needed_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere/of-the-host")
    monkeypatch.setenv("CLOCHE_TEST_SECRET", "canary-4711")
    server = ForkServer(fake(), without=PURPOSES)
    link = ready(server)
    try:
        for pid in (server.pid, pid_of(link)):
            assert Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0") == b""
        assert report(link)["environ"] == {}
    finally:
        server.close()
        link.close(BOUND_S)


def test_a_worker_loads_nothing_heavy_and_nothing_of_the_host(unjailed: ForkServer) -> None:
    link = ready(unjailed)
    modules = set(report(link)["modules"])
    link.close(BOUND_S)
    for name in ("pydantic", "anyio", "asyncio", "wasmtime", "subprocess", "site", "httpx", "cloche.runtime.protocol"):
        assert name not in modules
    assert {name for name in modules if name.startswith("cloche.runtime.")} == {
        "cloche.runtime.errors",
        "cloche.runtime.framing",
        "cloche.runtime.plain",
    }


def test_the_worker_speaks_the_protocol_of_the_host() -> None:
    assert real_program.PROTOCOL_VERSION == PROTOCOL_VERSION


# --- without a fork server --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("late_news")
def test_a_spawned_worker_is_a_worker_like_any() -> None:
    spawner = WorkerSpawner(fake())
    link, other = ready(spawner), ready(spawner)
    assert run(link, "ask 10 2").kinds == ["tool_call", "tool_call", "done"]
    assert report(link)["environ"] == {}
    with pytest.raises(WorkerCrashed) as caught:
        run(link, "exit 7")
    assert caught.value.exit_status == 7
    link.close(BOUND_S)
    spawner.close()
    assert other.process.wait(BOUND_S), "reaped by a thread of its own"
    assert other.exit_status == -9
