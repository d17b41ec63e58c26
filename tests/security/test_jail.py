"""The jail around a worker, attacked by native code inside it: a guest that has already broken out of wasm (T5).

Each attack is made twice: in a jailed worker, where it must fail or end the worker, and in one without a jail, where it
must succeed, so that a test which would pass by itself is seen. Then single walls are tried alone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.jail_attacks import ATTACKS, KILLED, NEED_ROOT, PROGRAM, aimed, attack, ready, run
from tests.support.pids import pid_of

from cloche.runtime import process_source
from cloche.runtime.config import RuntimeConfig
from cloche.runtime.errors import LimitExceeded, OutOfMemory, WallMissing, WorkerCrashed
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.limits import Limits
from cloche.runtime.policy import Policy
from cloche.runtime.runtime import Runtime
from cloche.runtime.watch import WorkerWatch
from cloche.wasm_sandbox.jail import report

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the jail is made for Linux"),
    pytest.mark.usefixtures("late_news"),
]

BOUND_S = 30.0
EVERY_WALL = tuple(report.PURPOSES)
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="this needs a host that is root")

COMPANIONS = {report.USER: (report.RLIMITS,)}
"""The cap on processes bites for an ordinary user only."""
ROOT_ATTACKS = ("change_root", "mount", "change_user")


@pytest.fixture(scope="module")
def jailed() -> Iterator[ForkServer]:
    server = ForkServer(PROGRAM)
    yield server
    server.close()


@pytest.fixture(scope="module")
def bare() -> Iterator[ForkServer]:
    server = ForkServer(PROGRAM, without=EVERY_WALL)
    yield server
    server.close()


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """A process of the host that an attack may hit without harm to the test."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# --- the whole jail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ATTACKS)
@pytest.mark.guarantee("G01")
@pytest.mark.guarantee("G02")
@pytest.mark.guarantee("G03")
@pytest.mark.guarantee("G12")
def test_an_attack_from_inside_a_jailed_worker_gains_nothing(jailed: ForkServer, what: str, victim: int) -> None:
    outcome = attack(jailed, aimed(what, victim))
    assert outcome == KILLED or outcome.startswith("refused ")


@pytest.mark.parametrize("what", ATTACKS)
def test_the_same_attack_succeeds_where_there_is_no_jail(bare: ForkServer, what: str, victim: int) -> None:
    if what in NEED_ROOT and os.geteuid() != 0:
        pytest.skip("the kernel refuses this to an ordinary user anyway")
    if what == "run_program":
        assert attack(bare, what) == "died: the worker is gone: it exited with code 0"  # `true` took its place
    else:
        assert attack(bare, aimed(what, victim)).startswith("GAINED ")


@ROOT_ONLY
@pytest.mark.parametrize("what", ROOT_ATTACKS)
def test_what_root_may_do_is_gone_too(jailed: ForkServer, bare: ForkServer, what: str) -> None:
    assert attack(jailed, what) == KILLED
    if what != "mount":  # which would really change this machine
        assert attack(bare, what).startswith("GAINED ")


@pytest.mark.guarantee("G09")
def test_the_canary_server_of_the_host_is_out_of_reach(jailed: ForkServer, bare: ForkServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        what = f"connect_to {canary.getsockname()[1]}"
        assert attack(jailed, what) == KILLED
        assert attack(bare, what).startswith("GAINED ")


def test_a_refusal_that_libc_expects_does_not_kill_the_worker(jailed: ForkServer) -> None:
    link = ready(jailed)
    assert run(link, "attack open_file /proc/sys/vm/overcommit_memory") == "refused PermissionError"
    assert run(link, "nothing") == ""
    link.close(5)


def test_an_abort_is_still_told_from_a_forbidden_call(jailed: ForkServer) -> None:
    link = ready(jailed)
    with pytest.raises(WorkerCrashed, match="it was ended by SIGABRT"):
        run(link, "abort")
    link.close(5)


def test_a_forbidden_call_is_named_as_the_reason_and_harms_no_neighbour(jailed: ForkServer) -> None:
    link, neighbour = ready(jailed), ready(jailed)
    with pytest.raises(WorkerCrashed, match=r"it was ended by SIGSYS for a system call that its jail forbids$"):
        run(link, "attack make_socket")
    link.close(5)
    assert run(neighbour, "nothing") == ""
    neighbour.close(5)


# --- what the kernel says of it ---------------------------------------------------------------------------------------


def test_the_kernel_confirms_the_walls_that_are_reported(jailed: ForkServer) -> None:
    link = ready(jailed)
    worker = pid_of(link)
    active = {wall.name for wall in jailed.walls if wall.active}
    for pid in (jailed.pid, worker):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        )
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2" if report.SECCOMP in active else "0")
        if report.CAPABILITIES in active:
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        if report.PID in active:
            assert len(status["NSpid"].split()) >= 2
        if report.USER in active:
            assert set(status["Uid"].split()) & {"0", str(os.geteuid())} == set()
            assert status["Groups"].strip() == ""
    assert status["Threads"] == "2"
    assert status["Seccomp_filters"] == "2"
    if os.geteuid() == 0:
        for space, wall in (("net", report.NETWORK), ("ipc", report.IPC), ("uts", report.UTS), ("mnt", report.ROOT)):
            ours, theirs = (os.readlink(f"/proc/{pid}/ns/{space}") for pid in (os.getpid(), worker))
            assert (ours != theirs) == (wall in active)
    link.close(5)


# --- one wall alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "attacks"),
    [
        (report.SECCOMP, ["open_file /etc/passwd", "make_socket", "fork", "kill_host HOST", "door io_uring_setup"]),
        (
            report.LANDLOCK,
            ["open_file /etc/passwd", "list_folder /", "create_file /tmp/pwned-jail-HOST", "connect_to PORT"],
        ),
        (report.NETWORK, ["connect_to PORT"]),
        (report.PID, ["kill_host HOST", "trace_host VICTIM", "hold_process HOST"]),
        (report.ROOT, ["open_file /etc/passwd", "create_file /tmp/pwned-jail-HOST", "read_environment self"]),
        (report.RLIMITS, ["more_descriptors", "raise_limits"]),
        (report.USER, ["kill_host HOST", "change_user", "change_root", "open_file /etc/shadow", "fork"]),
        (report.CAPABILITIES, ["change_root", "mount", "trace_host VICTIM"]),
    ],
)
def test_a_wall_holds_alone(bare: ForkServer, wall: str, attacks: list[str], victim: int) -> None:
    """But for `no-new-privileges`, which two of them need."""
    kept = {wall, report.PRIVILEGES, *COMPANIONS.get(wall, ())}
    if os.geteuid():
        kept.add(report.USER_NAMESPACE)  # only inside one may an ordinary user make the others
    server = ForkServer(PROGRAM, without=[name for name in EVERY_WALL if name not in kept])
    found = {record.name: record for record in server.walls}
    try:
        if not found[wall].active:
            pytest.skip(f"{wall}: {found[wall].why}")
        with socket.create_server(("127.0.0.1", 0)) as canary:
            for what in attacks:
                exact = aimed(what, victim).replace("PORT", str(canary.getsockname()[1]))
                if not attack(bare, exact).startswith("GAINED") and what != "mount":
                    continue  # not to be had here, wall or no wall
                outcome = attack(server, exact)
                assert outcome == KILLED or outcome.startswith("refused "), exact
    finally:
        server.close()


@pytest.mark.guarantee("G13")
def test_landlock_keeps_abstract_sockets_and_signals_inside(bare: ForkServer) -> None:
    server = ForkServer(PROGRAM, without=[n for n in EVERY_WALL if n not in (report.PRIVILEGES, report.LANDLOCK)])
    try:
        landlock = next(wall for wall in server.walls if wall.name == report.LANDLOCK)
        if not landlock.active or int(landlock.why.partition("ABI ")[2].rstrip(")").split(",")[0]) < 6:
            pytest.skip(f"no scopes here: {landlock.why}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"\0cloche-test-{os.getpid()}")
            listener.listen()
            what = f"connect_to_abstract cloche-test-{os.getpid()}"
            assert attack(bare, what).startswith("GAINED ")
            assert attack(server, what) == "refused PermissionError"
        assert attack(bare, f"kill_host {os.getpid()}").startswith("GAINED ")
        assert attack(server, f"kill_host {os.getpid()}") == "refused PermissionError"
    finally:
        server.close()


# --- life and death ---------------------------------------------------------------------------------------------------


def test_all_die_with_the_process_that_only_waits() -> None:
    server = ForkServer(PROGRAM)
    links = [ready(server) for _ in range(2)]
    pidfds = [os.pidfd_open(pid) for pid in (server.pid, *(pid_of(link) for link in links))]
    try:
        os.kill(os.getpgid(server.pid), signal.SIGKILL)  # the leader of the session is the one that the host started
        assert all(select.select([pidfd], [], [], BOUND_S)[0] for pidfd in pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
        server.close()
        for link in links:
            link.close(5)


def test_a_policy_refuses_a_fork_server_without_its_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[ForkServer] = []

    def make(_image: Path | None) -> ForkServer:
        servers.append(ForkServer(PROGRAM, without=[report.LANDLOCK]))
        return servers[-1]

    monkeypatch.setattr(process_source, "worker_maker", make)
    source = process_source.ProcessSource(RuntimeConfig(policy=Policy(require_walls={report.LANDLOCK})))
    with pytest.raises(WallMissing, match="landlock: left out by its caller"):
        source.prepare()
    assert not servers[0].alive
    source.close()

    content = process_source.ProcessSource(RuntimeConfig(policy=Policy(require_walls={report.SECCOMP})))
    content.prepare()
    content.close()


def test_the_walls_of_this_machine_are_known_without_an_image(jailed: ForkServer, tmp_path: Path) -> None:
    with Runtime(image=tmp_path / "none.wasm") as runtime:
        walls = {wall.name: wall.active for wall in runtime.walls()}
    del walls["cgroup-memory"]  # a matter of what this process was given; test_memory_cgroup.py
    assert walls == {"wasm": True, "process": True, "outside-watch": True} | {
        wall.name: wall.active for wall in jailed.walls
    }


# --- memory and CPU time ----------------------------------------------------------------------------------------------


@pytest.mark.guarantee("G32")
def test_memory_beyond_the_tenants_limits_is_refused_for_good(jailed: ForkServer) -> None:
    link = ready(jailed)
    mib = 1024 * 1024
    run(link, f"limit_memory {64 * mib} {mib} {mib}")
    assert run(link, "attack take_memory 400") == "refused OSError"
    run(link, f"limit_memory {2048 * mib} {mib} {mib}")  # only ever lower
    assert run(link, "attack take_memory 400") == "refused OSError"
    assert run(link, "attack take_memory 20").startswith("GAINED")
    link.close(5)


@pytest.mark.guarantee("G32")
def test_a_cap_from_outside_that_the_kernel_refuses_says_so(jailed: ForkServer) -> None:
    """A negative one is to the kernel far above the limit that stands, which only a privileged process may ask for."""
    link = ready(jailed)
    mib = 1024 * 1024
    run(link, f"limit_memory {64 * mib} {mib} {mib}")
    assert link.process.cap_memory(-1, BOUND_S) == "Operation not permitted"
    link.close(5)


@pytest.mark.guarantee("G32")
def test_a_worker_that_died_is_capped_by_nobody_and_keeps_nobody_waiting(jailed: ForkServer) -> None:
    link = ready(jailed)
    link.kill()
    assert link.process.wait(BOUND_S)
    assert link.process.cap_memory(64, BOUND_S) is None
    link.close(5)


@pytest.mark.guarantee("G31")
def test_cpu_time_beyond_the_cells_budget_is_ended_by_the_kernel_alone(jailed: ForkServer) -> None:
    link = ready(jailed)
    link.cpu_allowed_s = 0.1
    run(link, "limit_cpu 0.1")
    with pytest.raises(LimitExceeded) as caught:
        run(link, "burn")
    assert (caught.value.limit, caught.value.allowed) == ("cpu_s", 0.1)
    assert link.exit_status == -signal.SIGXCPU
    link.close(5)


@pytest.fixture
def watch() -> Iterator[WorkerWatch]:
    watch = WorkerWatch()
    yield watch
    watch.close()


def test_cpu_time_beyond_the_budget_is_seen_from_outside_and_ends_the_worker(
    bare: ForkServer, watch: WorkerWatch
) -> None:
    link = ready(bare)
    watch.add(link, Limits(cpu_s=0.2))
    with pytest.raises(LimitExceeded, match="CPU time, cpu_s allows 0.2 s") as caught:
        run(link, "burn")
    assert caught.value.limit == "cpu_s"
    assert caught.value.used > 0.2
    assert link.process.wait(BOUND_S)
    link.close(5)


@pytest.mark.guarantee("G32")
def test_memory_beyond_the_cap_is_seen_from_outside_and_ends_the_worker(bare: ForkServer, watch: WorkerWatch) -> None:
    link = ready(bare)
    watch.add(link, Limits(memory_mb=64, file_bytes=0, value_bytes=1024))
    with pytest.raises(OutOfMemory) as caught:
        run(link, "fill 500")
    assert caught.value.limit == "memory_mb"
    assert caught.value.used > caught.value.allowed
    link.close(5)


def test_a_watched_worker_within_its_limits_lives(jailed: ForkServer, watch: WorkerWatch) -> None:
    link = ready(jailed)
    watch.add(link, Limits())
    for _ in range(20):
        assert run(link, "nothing") == ""
    assert not link.process.wait(0.5)
    assert run(link, "nothing") == ""
    link.close(5)
