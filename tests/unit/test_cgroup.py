"""Where workers' memory cgroups are made, and what is written there, over folders that behave like the kernel's.

The real thing is in tests/security/test_memory_cgroup.py, for the version that the machine has.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PosixPath

import pytest
from tests.support.fake_maker import FakeMaker
from tests.support.ordinary_user import NOBODY, missing_user

from cloche.runtime.errors import OutOfMemory, WorkerCrashed
from cloche.runtime.memory_groups import GroupedMaker
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.watch import memory_exceeded
from cloche.wasm_sandbox.jail import cgroup
from cloche.wasm_sandbox.jail.report import Record

CHILD = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control", "cgroup.procs"),
    2: ("memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "cgroup.procs"),
}


class KernelFolder(PosixPath):
    """A folder whose children come with files, and can be removed with them while no process is in."""

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        super().mkdir(mode, parents, exist_ok)
        for name in CHILD[1 if (self.parent / "memory.limit_in_bytes").exists() else 2]:
            (self / name).touch()

    def rmdir(self) -> None:
        if (self / "cgroup.procs").read_text(encoding="utf-8"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for file in self.iterdir():
            file.unlink()
        super().rmdir()


def home_of(tmp_path: Path, version: int, controllers: str = "cpu memory", given: str = "memory") -> KernelFolder:
    home = KernelFolder(tmp_path / "home")
    PosixPath.mkdir(home)
    if version == 1:
        (home / "memory.limit_in_bytes").write_text("max", encoding="utf-8")
    else:
        (home / "cgroup.controllers").write_text(controllers, encoding="utf-8")
        (home / "cgroup.subtree_control").write_text(given, encoding="utf-8")
    return home


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "caps"),
    [
        (1, {"memory.limit_in_bytes": "300", "memory.memsw.limit_in_bytes": "300"}),
        (2, {"memory.max": "300", "memory.swap.max": "0", "memory.oom.group": "1"}),
    ],
)
def test_a_box_caps_memory_and_swap_takes_a_process_and_goes_when_that_is_dead(
    tmp_path: Path, version: int, caps: dict[str, str]
) -> None:
    home, record = cgroup.find_home(home_of(tmp_path, version))
    assert home is not None
    assert (record.name, record.active) == ("cgroup-memory", True)
    assert [path for path in home.path.iterdir() if path.is_dir()] == []  # the trial is over

    box = home.box(7)
    box.cap(300)
    box.take(12345)
    (folder,) = (path for path in home.path.iterdir() if path.is_dir())
    assert folder.name.startswith(f"cloche-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}-")
    assert {name: text(folder / name) for name in caps} == caps
    assert text(folder / "cgroup.procs") == "12345"

    assert not box.close()
    (folder / "cgroup.procs").write_text("", encoding="utf-8")
    assert box.close()
    assert box.close()
    assert not box.killed
    assert not folder.exists()


@pytest.mark.parametrize(("version", "file"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_a_kill_for_lack_of_memory_is_remembered_when_the_box_is_gone(tmp_path: Path, version: int, file: str) -> None:
    home, _ = cgroup.find_home(home_of(tmp_path, version))
    assert home is not None
    box = home.box(1)
    (folder,) = (path for path in home.path.iterdir() if path.is_dir())
    (folder / file).write_text("oom_kill_disable 0\nunder_oom 0\noom 3\noom_kill 1\n", encoding="utf-8")
    assert box.close()
    assert box.killed


def test_the_memory_controller_is_switched_on_for_children(tmp_path: Path) -> None:
    folder = home_of(tmp_path, 2, given="cpu")
    home, _ = cgroup.find_home(folder)
    assert home is not None
    assert text(folder / "cgroup.subtree_control") == "+memory"


def test_a_folder_that_will_not_do_is_a_missing_wall_with_the_reason(tmp_path: Path) -> None:
    assert cgroup.find_home(tmp_path / "none")[1].why == f"{tmp_path / 'none'} is no folder"
    assert cgroup.find_home(tmp_path)[1].why == f"{tmp_path} is no folder of the memory hierarchy"
    folder = home_of(tmp_path, 2, controllers="cpu io")
    home, record = cgroup.find_home(folder)
    assert home is None
    assert record == Record("cgroup-memory", False, f"the memory controller is not given to {folder}")


def test_processes_in_the_folder_itself_are_named_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home_of(tmp_path, 2, given="")

    def busy(file: Path, value: int | str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(cgroup, "_write", busy)
    home, record = cgroup.find_home(folder)
    assert home is None
    assert "processes live in it? run the host in a folder below (systemd: DelegateSubgroup=)" in record.why


def test_cgroups_of_dead_hosts_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    folder = home_of(tmp_path, 2)
    home, _ = cgroup.find_home(folder)
    assert home is not None
    kept = home.box(1)
    namespace, started = os.stat("/proc/self/ns/pid").st_ino, text(Path("/proc/self/stat")).rsplit(")")[-1].split()[19]
    names = {
        f"cloche-{namespace}-{2**22 + 1}-77-aa-1": False,  # no such process
        f"cloche-{namespace}-{os.getpid()}-1-aa-1": False,  # our pid, another life
        f"cloche-{namespace}-{os.getpid()}-{started}-aa-1": True,  # another runtime of this process
        f"cloche-1-{2**22 + 1}-77-aa-1": True,  # another pid namespace
        "cloche-somebody-elses": True,
        "another": True,
    }
    for name in names:
        (folder / name).mkdir()
    cgroup.find_home(folder)
    assert {name: (folder / name).exists() for name in names} == names
    assert kept.close()


MOUNTS = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 {root} {at}/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
36 30 0:33 / {at}/cpu rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
38 30 0:35 {root} {at}/memory rw,nosuid shared:17 - cgroup cgroup rw,memory
"""


@pytest.mark.parametrize(
    ("table", "root", "found"),
    [
        ("0::/a/b\n", "/", ["unified/a/b"]),
        ("9:memory:/x\n4:cpu,cpuacct:/y\n0::/a\n", "/", ["memory/x", "unified/a"]),
        ("9:memory:/docker/1/x\n", "/docker/1", ["memory/x"]),  # a container that sees its own part as the root
        ("9:memory:/\n", "/docker/1", ["memory/"]),
        ("4:cpu,cpuacct:/y\n", "/", []),
    ],
)
def test_the_folders_of_this_process_are_found_in_both_hierarchies(
    tmp_path: Path, table: str, root: str, found: list[str]
) -> None:
    (tmp_path / "cgroup").write_text(table, encoding="utf-8")
    (tmp_path / "mountinfo").write_text(MOUNTS.format(root=root, at=tmp_path), encoding="utf-8")
    assert cgroup.own_folders(tmp_path) == [tmp_path / path for path in found]


def test_nothing_is_made_where_nothing_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home_of(tmp_path, 2)
    monkeypatch.setattr(cgroup, "own_folders", lambda: [folder])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home, record = cgroup.find_home(None)
    assert home is None
    assert "no cgroup is delegated to this process" in record.why


@pytest.mark.parametrize("place", ["own", "above"])
def test_what_systemd_marks_as_delegated_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    given = home_of(tmp_path, 2)
    own = given if place == "own" else given / "main"
    if own != given:
        own.mkdir()
    monkeypatch.setattr(cgroup, "own_folders", lambda: [own])

    def mark(path: Path, name: str) -> bytes:
        return b"1" if path == given and name == "user.delegate" else b""

    monkeypatch.setattr(os, "getxattr", mark)
    home, _ = cgroup.find_home(None)
    assert home is not None
    assert home.path == given


def test_a_folder_of_our_own_ordinary_user_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home_of(tmp_path, 2)
    monkeypatch.setattr(cgroup, "own_folders", lambda: [folder])
    if os.geteuid() == 0:
        if reason := missing_user(NOBODY):
            pytest.skip(reason)
        os.chown(folder, NOBODY, -1)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid)
    assert cgroup.find_home(None)[0] is not None


class Maker:
    """It makes nothing."""

    alive = True
    walls = ()
    pid = 12345

    def start_worker(self) -> None:
        raise AssertionError("no worker without its cgroup")

    def close(self) -> None:
        """Nothing to close."""


def test_a_worker_that_cannot_have_a_cgroup_is_not_started(tmp_path: Path) -> None:
    home, record = cgroup.find_home(home_of(tmp_path, 2))
    maker = GroupedMaker(Maker(), home, record)  # type: ignore[arg-type]  # it makes nothing
    assert [wall.name for wall in maker.walls] == ["cgroup-memory"]
    (tmp_path / "home").rename(tmp_path / "gone")
    with pytest.raises(WorkerCrashed, match="no memory cgroup for a worker"):
        maker.start_worker()


class BornMaker:
    """Its workers are sockets and flags. `wait_pid` is what they say to whoever asks for their pid."""

    alive = True
    walls = ()
    pid = 12345

    def __init__(self, wait_pid: Callable[[float], int | None]) -> None:
        self.workers = FakeMaker()
        self._wait_pid = wait_pid

    def start_worker(self) -> ProcessLink:
        link = self.workers.start_worker()
        setattr(link.process, "wait_pid", self._wait_pid)  # noqa: B010  # it is a method
        return link

    def close(self) -> None:
        self.workers.close()


def no_pid(_timeout_s: float) -> None:
    """Nobody told it in time, or nobody ever will."""


def interrupted(_timeout_s: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("wait_pid", "error"), [(no_pid, WorkerCrashed), (interrupted, KeyboardInterrupt)], ids=["unknown", "interrupted"]
)
def test_a_worker_that_is_not_in_its_cgroup_is_not_used(
    tmp_path: Path, wait_pid: Callable[[float], int | None], error: type[BaseException]
) -> None:
    home, record = cgroup.find_home(home_of(tmp_path, 2))
    assert home is not None
    born = BornMaker(wait_pid)
    maker = GroupedMaker(born, home, record)
    with pytest.raises(error):
        maker.start_worker()
    assert born.workers.living == 0
    assert [path.name for path in home.path.iterdir() if path.is_dir() and not path.name.endswith("-0")] == []
    maker.close()


def test_a_worker_that_was_never_born_says_itself_why(tmp_path: Path) -> None:
    home, record = cgroup.find_home(home_of(tmp_path, 2))
    born = BornMaker(no_pid)
    born.workers.broken = 1
    maker = GroupedMaker(born, home, record)
    link = maker.start_worker()
    with pytest.raises(WorkerCrashed, match="its own side of the bridge failed"):
        link.wait_hello(5)
    link.close(5)
    maker.close()


def test_a_server_that_cannot_be_moved_is_a_missing_wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, record = cgroup.find_home(home_of(tmp_path, 2))
    assert home is not None

    def forbidden(box: cgroup.Box, pid: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cgroup.Box, "take", forbidden)
    (wall,) = GroupedMaker(Maker(), home, record).walls  # type: ignore[arg-type]  # it makes nothing
    assert not wall.active
    assert wall.why.startswith("no worker can be moved there: Permission denied")
    assert [path for path in home.path.iterdir() if path.is_dir()] == []


def test_the_error_says_what_the_kernel_did() -> None:
    error = memory_exceeded(736.0)
    assert isinstance(error, OutOfMemory)
    assert (error.limit, error.allowed) == ("memory_mb", 736.0)
    assert "the kernel ended it" in str(error)
