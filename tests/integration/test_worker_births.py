"""The host's word of a worker's birth: late, lost on the way, or without a pid that can be read.

The rule: no worker is used that nobody could look at from outside, and no other process is taken for one.
"""

from __future__ import annotations

import builtins
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.pids import pid_of

from cloche.runtime import fork_server
from cloche.runtime.errors import PoolExhausted, WorkerCrashed
from cloche.runtime.fork_server import ForkedProcess, ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.pidfds import receive
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import RunCell, render
from cloche.wasm_sandbox.fork_protocol import FORKED, MESSAGE, READY
from cloche.wasm_sandbox.jail.report import PURPOSES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")

SUPPORT = str(Path(__file__).resolve().parent.parent / "support")
BOUND_S = 10.0


def program(mode: str = "good") -> WorkerProgram:
    return WorkerProgram((mode,), "fake_program", SUPPORT)


class Line:
    """What the host receives of its fork servers."""

    def __init__(self) -> None:
        self.loses: set[int] = set()
        """Kinds of messages that come without their pidfd, as at the limit of descriptors."""
        self.moved = 0
        """What is added to the pids in these messages."""
        self.births = threading.Event()
        """News of births is held back while it is not set."""
        self.births.set()

    def receive(self, sock: socket.socket, size: int) -> tuple[bytes, int | None]:
        data, pidfd = receive(sock, size)
        kind, label, number = MESSAGE.unpack_from(data) if len(data) >= MESSAGE.size else (0, 0, 0)
        if kind == FORKED:
            self.births.wait(BOUND_S)
        if kind not in self.loses:
            return data, pidfd
        if pidfd is not None:
            os.close(pidfd)
        return MESSAGE.pack(kind, label + self.moved, number) + data[MESSAGE.size :], None


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(fork_server, "receive", line.receive)
    return line


def hide_pids(patch: pytest.MonkeyPatch, number: int) -> None:
    """Nobody can read whose a pidfd is, with this errno."""
    real: Callable[..., Any] = open

    def read(file: object, *args: object, **named: object) -> Any:
        if str(file).startswith("/proc/self/fdinfo/"):
            raise OSError(number, os.strerror(number))
        return real(file, *args, **named)

    patch.setattr(builtins, "open", read)


def gone(_pidfd: int) -> None:
    """A `pid_of` of processes that have ended."""


def run_nothing(link: ProcessLink) -> None:
    class Done:
        finished = False

        def __call__(self, frame: bytes | memoryview) -> None:
            self.finished = True

    link.request(render(RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0), (b"nothing", b"")), Done())


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


def check_no_worker_is_used(server: ForkServer) -> None:
    """Its births fail, with the reason, and nothing is left of them."""
    link = server.start_worker()
    with pytest.raises(PoolExhausted, match="no hold on a new worker: Too many open files"):
        link.wait_hello(BOUND_S)
    link.close(BOUND_S)
    assert link.process.exited
    assert (link.pid, children(server.pid)) == (None, [])


def check_workers_are_used(server: ForkServer) -> ProcessLink:
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    run_nothing(link)
    return link


def test_a_worker_whose_pidfd_was_lost_is_not_used(line: Line) -> None:
    server = ForkServer(program())
    try:
        line.loses.add(FORKED)
        check_no_worker_is_used(server)
        line.loses.clear()
        check_workers_are_used(server).close(BOUND_S)
    finally:
        server.close()


def test_a_worker_whose_pid_cannot_be_read_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ForkServer(program())
    try:
        with monkeypatch.context() as patch:
            hide_pids(patch, errno.EMFILE)
            check_no_worker_is_used(server)
        check_workers_are_used(server).close(BOUND_S)
    finally:
        server.close()


def test_a_worker_is_ready_only_when_its_birth_is_known(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ForkedProcess.wait_birth

    def ask(process: ForkedProcess, timeout_s: float) -> bool:
        line.births.set()
        return real(process, timeout_s)

    monkeypatch.setattr(ForkedProcess, "wait_birth", ask)
    server = ForkServer(program())
    try:
        line.births.clear()
        link = server.start_worker()
        link.wait_hello(BOUND_S)
        assert link.pid is not None
        link.close(BOUND_S)
    finally:
        line.births.set()
        server.close()


def test_a_worker_that_ended_before_its_birth_was_told_says_itself_how(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ForkServer(program("no_guest"))
    try:
        monkeypatch.setattr(fork_server, "pid_of", gone)
        link = server.start_worker()
        with pytest.raises(WorkerCrashed, match="it could not make an interpreter"):
            link.wait_hello(BOUND_S)
        link.close(BOUND_S)
    finally:
        server.close()


def test_a_server_whose_pidfd_was_lost_is_not_used(line: Line) -> None:
    """It has a pid namespace of its own, so the pids that it tells are somebody else's here."""
    line.loses.add(READY)
    line.moved = 1
    with pytest.raises(PoolExhausted, match="no hold on the fork server: Too many open files"):
        ForkServer(program())


def test_a_server_whose_pid_cannot_be_read_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pids(monkeypatch, errno.EMFILE)
    with pytest.raises(PoolExhausted, match="no hold on the fork server: Too many open files"):
        ForkServer(program())


def check_killed(link: ProcessLink) -> None:
    link.process.kill()
    assert link.process.wait(BOUND_S)
    assert link.exit_status == -signal.SIGKILL
    link.close(BOUND_S)


def test_a_system_without_pidfds_goes_by_the_pids_of_the_server(line: Line) -> None:
    line.loses |= {READY, FORKED}
    server = ForkServer(program(), without=PURPOSES)  # where there are no pidfds, there is no pid namespace either
    try:
        link = check_workers_are_used(server)
        assert children(server.pid) == [str(pid_of(link))]
        check_killed(link)
    finally:
        server.close()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_a_system_that_tells_no_pid_has_workers_without_one(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A host without /proc: `Runtime.walls()` says what that means."""
    hide_pids(monkeypatch, number)
    server = ForkServer(program())
    try:
        link = check_workers_are_used(server)
        assert link.pid is None
        check_killed(link)
    finally:
        server.close()
