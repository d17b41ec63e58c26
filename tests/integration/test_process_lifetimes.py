"""Who dies with whom: host, fork server, workers. And that nothing is left after many of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.support.leftovers import leftovers
from tests.support.pids import pid_of

from cloche.runtime.errors import UsedAfterFork, WorkerCrashed
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.limits import Limits
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import RunCell, render

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TESTS = Path(__file__).resolve().parent.parent
PROGRAM = WorkerProgram(("good",), "fake_program", str(TESTS / "support"))
LIMITS = Limits()
BOUND_S = 30.0

HOST = f"""
import os, sys, threading
print("main ran", flush=True)
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.protocol import RunCell, render
server = ForkServer(WorkerProgram(("good",), "fake_program", {str(TESTS / "support")!r}))
links = [server.start_worker() for _ in range(3)]
for link in links:
    link.wait_hello(10)
cell = render(RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0), (sys.argv[1].encode(), b""))
threading.Thread(target=links[0].request, args=(cell, lambda frame: None), daemon=True).start()
heir = os.fork() if sys.argv[2] == "forks" else 0
if heir or sys.argv[2] != "forks":
    print(server.pid, *(link.process.wait_pid(10) for link in links), heir, flush=True)
sys.stdin.read()
"""
"""A host with no `if __name__ == "__main__"`. The sink has no `finished`, which nothing asks before the first frame."""


class Done:
    finished = False

    def __call__(self, frame: bytes | memoryview) -> None:
        self.finished = True


def run(link: ProcessLink, source: str) -> None:
    link.request(render(RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0), (source.encode(), b"")), Done())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


@contextlib.contextmanager
def watched(pids: list[int]) -> Generator[list[int], None, None]:
    pidfds = [os.pidfd_open(pid) for pid in pids]
    try:
        yield pidfds
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def all_die(pidfds: list[int]) -> bool:
    return all(select.select([pidfd], [], [], BOUND_S)[0] for pidfd in pidfds)


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer(PROGRAM)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("cell", "forks"), [("spin", "alone"), ("stubborn", "alone"), ("hang_up", "alone"), ("stubborn", "forks")]
)
def test_a_host_killed_by_sigkill_leaves_no_process(tmp_path: Path, cell: str, forks: str) -> None:
    script = tmp_path / "host.py"
    script.write_text(HOST, encoding="utf-8")
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the host was imported')", encoding="utf-8")
    environment = {"PYTHONPATH": str(TESTS.parent / "src")}
    command = [sys.executable, "-P", str(script), cell, forks]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "main ran\n"
        *pids, heir = map(int, host.stdout.readline().split())
        with watched(pids) as pidfds:
            host.kill()
            host.wait(BOUND_S)
            try:
                assert all_die(pidfds)
            finally:
                if heir:
                    os.kill(heir, signal.SIGKILL)
        assert host.stdout.read() == ""


def test_workers_die_with_their_fork_server_and_the_host_hears_of_it(server: ForkServer) -> None:
    links = [server.start_worker() for _ in range(3)]
    for link in links:
        link.wait_hello(BOUND_S)
    with watched([pid_of(link) for link in links]) as pidfds:
        os.kill(server.pid, signal.SIGKILL)
        assert all_die(pidfds)
    with pytest.raises(WorkerCrashed):
        run(links[0], "nothing")
    for link in links:
        link.close(BOUND_S)
        assert link.process.exited
    assert not server.alive
    with pytest.raises(WorkerCrashed, match="the fork server is gone"):
        server.start_worker()


def test_the_pool_starts_another_fork_server_when_one_was_killed() -> None:
    servers: list[ForkServer] = []

    def make() -> ForkServer:
        servers.append(ForkServer(PROGRAM))
        return servers[-1]

    pool = WorkerPool(make, warm=0)
    first = pool.lease(LIMITS, BOUND_S)
    os.kill(servers[0].pid, signal.SIGKILL)
    second = pool.lease(LIMITS, BOUND_S)
    run(second, "nothing")
    first.close(BOUND_S)
    assert pool.stats().maker_starts == 2
    pool.close()


def test_closing_the_server_ends_every_worker(server: ForkServer) -> None:
    links = [server.start_worker() for _ in range(5)]
    for link in links[:3]:
        link.wait_hello(BOUND_S)
    server.close()
    for link in links:
        assert link.process.wait(BOUND_S)
        link.close(BOUND_S)


def test_the_server_outlives_the_thread_that_started_it() -> None:
    made: list[ForkServer] = []
    thread = threading.Thread(target=lambda: made.append(ForkServer(PROGRAM)))
    thread.start()
    thread.join(10)
    link = made[0].start_worker()
    link.wait_hello(BOUND_S)
    run(link, "nothing")
    link.close(BOUND_S)
    made[0].close()


def test_a_signal_to_the_whole_group_leaves_servers_and_workers_to_their_host(server: ForkServer) -> None:
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.killpg(os.getpgid(server.pid), number)
    run(link, "nothing")
    assert server.alive
    link.close(BOUND_S)


def test_a_host_thread_that_blocks_sigchld_does_not_stop_the_reaping() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        server = ForkServer(PROGRAM)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    link.close(BOUND_S)
    assert link.process.exited
    server.close()


@pytest.mark.guarantee("G36")
def test_many_workers_leave_no_zombie_no_descriptor_and_no_thread(server: ForkServer) -> None:
    before = leftovers()
    for index in range(60):
        link = server.start_worker()
        if index % 3:  # every third is closed before it is born
            link.wait_hello(BOUND_S)
            run(link, "nothing")
        link.close(BOUND_S)
        assert link.process.exited
    before.wait_gone()
    assert children(server.pid) == []


def test_a_server_and_its_pool_leave_nothing_behind() -> None:
    before, others = leftovers(), set(children(os.getpid()))
    for _ in range(3):
        pool = WorkerPool(lambda: ForkServer(PROGRAM), warm=2)
        links = [pool.lease(LIMITS, BOUND_S) for _ in range(3)]
        pool.close()
        for link in links:
            assert link.process.exited
    before.wait_gone()
    new = set(children(os.getpid())) - others  # a runtime of another test has its own
    assert not [pid for pid in new if _name(pid).startswith("cloche")]


def _name(pid: int) -> str:
    """Empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8")
    except OSError:
        return ""


def test_many_live_at_once_and_each_answers(server: ForkServer) -> None:
    links = [server.start_worker() for _ in range(50)]
    for link in links:
        link.wait_hello(BOUND_S)
    for link in links:
        run(link, "nothing")
    assert sorted(pid_of(link) for link in links) == sorted(children(server.pid))
    for link in links:
        link.kill()
    for link in links:
        link.close(BOUND_S)
    assert children(server.pid) == []


def test_workers_are_started_from_many_threads_at_once(server: ForkServer) -> None:
    pids: list[int] = []

    def use_one() -> None:
        link = server.start_worker()
        link.wait_hello(BOUND_S)
        run(link, "nothing")
        pids.append(pid_of(link))
        link.close(BOUND_S)

    threads = [threading.Thread(target=use_one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(pids), len(set(pids))) == (16, 16)


def test_a_forked_child_of_the_host_can_neither_use_nor_end_the_workers(server: ForkServer) -> None:
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with contextlib.suppress(UsedAfterFork):
                run(link, "nothing")
                os._exit(2)
            link.kill()
            link.close(1)
            server.close()
            code = 0
        finally:
            os._exit(code)
    with watched([pid]) as pidfds:
        assert all_die(pidfds)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    run(link, "nothing")
    link.close(BOUND_S)
