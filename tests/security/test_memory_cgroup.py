"""The memory cgroup around a worker, on the kernel of this machine: the worker is native code that wants too much.

Needs root and a memory hierarchy that can be written; skipped elsewhere (tests/unit/test_cgroup.py has no such needs).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.jail_attacks import PROGRAM, run
from tests.support.ordinary_user import NOBODY, missing_user, run_as_nobody
from tests.support.pids import pid_of
from tests.support.waiting import wait_until

from cloche import Limits, OutOfMemory, Policy, Runtime, SandboxClosed
from cloche.runtime.errors import WallMissing
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.limits import MIB
from cloche.runtime.memory_groups import GroupedMaker
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.watch import memory_cap
from cloche.wasm_sandbox.jail import cgroup, report

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")

TESTS = Path(__file__).resolve().parent.parent
ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
CAP = 150 * MIB
BOUND_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the kernel that is ours for the test."""
    problem = "no memory hierarchy is mounted here"
    for root in ROOTS:
        made = root / f"cloche-test-{os.getpid()}"
        try:
            if not (root / "memory.limit_in_bytes").exists() and "memory" not in (
                root / "cgroup.subtree_control"
            ).read_text(encoding="utf-8"):
                continue
            made.mkdir()
        except OSError as exc:
            problem = str(exc)
            continue
        yield made
        made.rmdir()  # fails when a test left anything in it
        return
    pytest.skip(problem)


def groups(folder: Path) -> list[Path]:
    """Of workers: number 0 has the fork server."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.endswith("-0"))


def members(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text(encoding="utf-8").split()]


def maker_in(folder: Path, program: WorkerProgram = PROGRAM, without: tuple[str, ...] = ()) -> GroupedMaker:
    home, record = cgroup.find_home(folder)
    assert home is not None, record.why
    return GroupedMaker(ForkServer(program, without=without), home, record)


def ready(maker: GroupedMaker) -> ProcessLink:
    link = maker.start_worker()
    assert link.group is not None
    link.wait_hello(20)
    link.frame_bytes = MIB
    return link


def test_each_worker_is_in_a_cgroup_of_its_own_before_its_first_request(folder: Path) -> None:
    maker = maker_in(folder)
    links = [ready(maker) for _ in range(3)]
    assert sorted(members(group)[0] for group in groups(folder)) == sorted(pid_of(link) for link in links)
    assert all(len(members(group)) == 1 for group in groups(folder))
    for link in links:
        link.close(BOUND_S)
    assert groups(folder) == []
    maker.close()


@pytest.mark.guarantee("G32")
@pytest.mark.usefixtures("late_news")
def test_memory_over_the_cap_ends_the_worker_in_the_kernel_with_the_error_that_says_so(folder: Path) -> None:
    maker = maker_in(folder, without=tuple(report.PURPOSES))
    link, neighbour = ready(maker), ready(maker)
    assert link.group is not None
    link.group.cap(CAP)
    link.memory_allowed_mb = CAP / MIB
    with pytest.raises(OutOfMemory, match="its memory cgroup; the kernel ended it") as caught:
        run(link, "fill 400")
    assert (caught.value.limit, caught.value.allowed) == ("memory_mb", CAP / MIB)
    assert link.exit_status == -signal.SIGKILL
    assert run(neighbour, "nothing") == ""
    link.close(BOUND_S)
    neighbour.close(BOUND_S)
    assert groups(folder) == []
    maker.close()


def test_memory_under_the_cap_is_no_reason_to_die_and_another_kill_is_not_called_one(folder: Path) -> None:
    maker = maker_in(folder, without=tuple(report.PURPOSES))
    link = ready(maker)
    assert link.group is not None
    link.group.cap(CAP)
    run(link, "fill_and_go 60")
    os.kill(pid_of(link), signal.SIGKILL)
    assert link.process.wait(BOUND_S)
    assert not link.group.killed
    link.close(BOUND_S)
    maker.close()


def test_a_fork_server_that_dies_leaves_no_cgroup_once_its_maker_is_closed(folder: Path) -> None:
    server = ForkServer(PROGRAM)
    home, record = cgroup.find_home(folder)
    maker = GroupedMaker(server, home, record)
    links = [ready(maker) for _ in range(3)]
    pidfds = [os.pidfd_open(pid_of(link)) for link in links]
    os.kill(server.pid, signal.SIGKILL)
    assert all(select.select([pidfd], [], [], BOUND_S)[0] for pidfd in pidfds)
    for link, pidfd in zip(links, pidfds, strict=True):
        link.close(BOUND_S)
        os.close(pidfd)
    maker.close()
    assert groups(folder) == []


HOST = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.memory_groups import GroupedMaker
from cloche.wasm_sandbox.jail import cgroup
server = ForkServer(WorkerProgram((), "attack_program", {str(TESTS / "support")!r}))
maker = GroupedMaker(server, *cgroup.find_home(Path(sys.argv[1])))
link = maker.start_worker()
link.wait_hello(10)
print(server.pid, link.process.wait_pid(10), flush=True)
sys.stdin.read()
"""


def test_what_a_host_killed_by_sigkill_left_is_swept_by_the_next_one(folder: Path) -> None:
    environment = {"PYTHONPATH": str(TESTS.parent / "src")}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOST, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    ) as host:  # fmt: skip
        assert host.stdout is not None
        pidfds = [os.pidfd_open(int(pid)) for pid in host.stdout.readline().split()]
        host.kill()
        host.wait(BOUND_S)
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], BOUND_S)[0]
            os.close(pidfd)
    assert len(groups(folder)) == 1

    def swept() -> bool:
        """What only waited for the fork server may be the last in its cgroup for a moment."""
        assert cgroup.find_home(folder)[0] is not None
        return not any(path.is_dir() for path in folder.iterdir())

    wait_until(swept)


ORDINARY = f"""
import os, sys
from pathlib import Path
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.memory_groups import GroupedMaker
from cloche.wasm_sandbox.jail import cgroup
folder = Path(sys.argv[1])
server = ForkServer(WorkerProgram((), "attack_program", {str(TESTS / "support")!r}))
maker = GroupedMaker(server, *cgroup.find_home(folder))
wall = maker.walls[-1]
if wall.active:
    link = maker.start_worker()
    link.wait_hello(10)
    (group,) = folder.glob("cloche-*-1")
    print((group / "cgroup.procs").read_text().split() == [str(link.process.wait_pid(10))])
    link.close(5)
maker.close()
print(os.getuid(), wall.active, len([path for path in folder.iterdir() if path.is_dir()]), wall.why)
"""


@pytest.mark.parametrize("given", [True, False])
def test_an_ordinary_user_has_it_where_the_folder_is_theirs(folder: Path, tmp_path: Path, given: bool) -> None:
    if reason := missing_user(NOBODY):
        pytest.skip(reason)
    if given:
        if folder.parent.name != "memory":
            pytest.skip("with cgroup v2 the host would have to live in that folder, and pytest does not")
        for path in (folder, *(file for file in folder.iterdir() if file.name.startswith("cgroup."))):
            os.chown(path, NOBODY, NOBODY)
    ran = run_as_nobody(TESTS.parent, tmp_path, "-c", ORDINARY, str(folder), PYTHONPATH=str(TESTS.parent / "src"))
    lines = ran.stdout.splitlines()
    if given:
        assert lines[:-1] == ["True"], ran.stderr
        assert lines[-1].startswith(f"{NOBODY} True 0 ")
    else:
        assert len(lines) == 1
        assert lines[0].startswith(f"{NOBODY} False 0 Permission denied (errno 13")


@pytest.mark.wasmtime
def test_a_runtime_with_a_folder_puts_every_sandbox_into_a_capped_cgroup(folder: Path) -> None:
    limits = Limits(memory_mb=128, file_bytes=MIB)
    with Runtime(cgroup=folder, policy=Policy(require_walls={"cgroup-memory"})) as runtime:
        assert {wall.name: wall.active for wall in runtime.walls()}["cgroup-memory"]
        with runtime.sandbox(limits=limits) as box, runtime.sandbox() as other:
            assert (box.run("20 + 1").value, other.run("1").value) == (21, 1)
            caps = {_cap_of(group) for group in groups(folder)}
        assert {memory_cap(limits), memory_cap(Limits())} <= caps
        with pytest.raises(SandboxClosed):
            box.run("1")
    assert groups(folder) == []


def _cap_of(group: Path) -> int:
    names = [name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists()]
    text = (group / names[0]).read_text(encoding="utf-8").strip()
    return int(text) if text.isdecimal() else 0


@pytest.mark.wasmtime
def test_a_policy_that_requires_it_refuses_a_machine_without(tmp_path: Path) -> None:
    policy = Policy(require_walls={"cgroup-memory"})
    with (
        Runtime(cgroup=tmp_path, policy=policy) as runtime,
        pytest.raises(WallMissing, match="no folder of the memory"),
    ):
        runtime.sandbox().run("1")
