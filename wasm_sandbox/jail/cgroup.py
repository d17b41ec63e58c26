"""A memory cgroup around each worker, where this machine lets us make one. Done by the host, from outside the jail.

The rule: only in a folder that was given to us (named in the config, marked as delegated by systemd, or owned by our
own ordinary user) is anything made, and all of it bears our name and goes away: with its worker, or in the next host's
sweep when a host was killed. The kernel counts what the data limit does not: page cache, shared memory, its buffers.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Protocol

from ...runtime.plain import record
from .report import Record, reason

CGROUP = "cgroup-memory"
PURPOSE = "the kernel caps the memory of each worker, its own share included, and ends the worker above"
_NAME = "cloche"
_TRIAL_BYTES = 512 * 1024 * 1024


class Files(Protocol):
    """What the two versions of cgroups call things."""

    def check(self, home: Path) -> None:
        """Make ready for children with a memory cap. Raises OSError, in our own words where they help."""
        ...

    def cap(self, folder: Path, size: int) -> None:
        """Set the cap of a child. Raises OSError."""
        ...

    def kills(self, folder: Path) -> int:
        """How often the kernel has killed there for lack of memory. Raises OSError."""
        ...


class Version1:
    """The memory hierarchy of cgroup v1."""

    def check(self, home: Path) -> None:
        if not (home / "memory.limit_in_bytes").exists():
            raise OSError(0, f"{home} is no folder of the memory hierarchy")

    def cap(self, folder: Path, size: int) -> None:
        # With memory the swap grows; the order is the kernel's: the sum is never below the memory.
        _write(folder / "memory.limit_in_bytes", size)
        with contextlib.suppress(OSError):  # a kernel without swap accounting
            _write(folder / "memory.memsw.limit_in_bytes", size)

    def kills(self, folder: Path) -> int:
        return _number(folder / "memory.oom_control", "oom_kill")


class Version2:
    """The one hierarchy of cgroup v2."""

    def check(self, home: Path) -> None:
        if "memory" not in _words(home / "cgroup.controllers"):
            raise OSError(0, f"the memory controller is not given to {home}")
        if "memory" in _words(home / "cgroup.subtree_control"):
            return
        try:
            _write(home / "cgroup.subtree_control", "+memory")
        except OSError as exc:
            hint = "processes live in it? run the host in a folder below (systemd: DelegateSubgroup=)"
            raise OSError(exc.errno or 0, f"no caps below the cgroup: {exc.strerror}; {hint}: {home}") from None

    def cap(self, folder: Path, size: int) -> None:
        _write(folder / "memory.max", size)
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
            with contextlib.suppress(OSError):  # a kernel without swap accounting; an old one
                _write(folder / name, value)

    def kills(self, folder: Path) -> int:
        return _number(folder / "memory.events", "oom_kill")


@record
class Home:
    """A folder in which workers' cgroups are made. Found by `find_home`."""

    path: Path
    files: Files
    prefix: str
    """Begins the name of every cgroup of this object: who made it can be told from it."""

    def box(self, number: int) -> Box:
        """A new, empty cgroup without a cap. The caller closes it. Raises OSError."""
        folder = self.path / f"{self.prefix}-{number}"
        folder.mkdir()
        return Box(folder, self.files)

    def sweep(self) -> None:
        """Remove the empty cgroups of hosts that are gone: they were killed before they could do it."""
        for folder in self.path.glob(f"{_NAME}-*"):
            if _is_left_behind(folder.name):
                with contextlib.suppress(OSError):  # not empty: somebody dies at this moment
                    folder.rmdir()


class Box:
    """The cgroup of one worker. Any thread."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._lock = threading.Lock()
        self._closed = False
        self.killed = False
        """After `close`: the kernel has killed in here for lack of memory."""

    def take(self, pid: int) -> None:
        """Move a process in, with all its threads. Raises OSError."""
        _write(self._folder / "cgroup.procs", pid)

    def cap(self, size: int) -> None:
        """Let the kernel end what needs more than `size` bytes. Raises OSError."""
        self._files.cap(self._folder, size)

    def close(self) -> bool:
        """Look why it ended and remove it, once its process is dead. False: it is not empty yet. Idempotent."""
        with self._lock:
            if self._closed:
                return True
            with contextlib.suppress(OSError):
                self.killed = self.killed or self._files.kills(self._folder) > 0
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return False
            self._closed = True
            return True


def find_home(named: Path | None) -> tuple[Home | None, Record]:
    """The folder for workers' cgroups, swept and tried with a child; and the wall's record, which says why there is
    none. `named` is looked at alone if it is given."""
    try:
        home = _tried(named) if named is not None else _delegated()
    except OSError as exc:
        return None, Record(CGROUP, False, reason(exc)[:200])
    return home, Record(CGROUP, True, PURPOSE)


def _delegated() -> Home:
    """What this process was given: its own cgroup or the one above, which systemd's `DelegateSubgroup=` leaves free."""
    problem = OSError(0, "no cgroup is delegated to this process: name a folder with RuntimeConfig(cgroup=)")
    try:
        folders = own_folders()
    except OSError:
        raise OSError(0, "this system has no cgroups") from None
    for folder in folders:
        for place in (folder, folder.parent):
            if not _is_given(place):
                continue
            try:
                return _tried(place)
            except OSError as exc:
                problem = exc
    try:
        raise problem
    finally:
        del problem  # its traceback holds this frame, and the frames of callers what they have open


def _tried(folder: Path) -> Home:
    """Make a child with a cap there and remove it. Raises OSError."""
    if not folder.is_dir():
        raise OSError(0, f"{folder} is no folder")
    files: Files = Version2() if (folder / "cgroup.controllers").exists() else Version1()
    files.check(folder)
    home = Home(folder, files, f"{_NAME}-{_namespace()}-{os.getpid()}-{_started(os.getpid())}-{os.urandom(4).hex()}")
    home.sweep()
    box = home.box(0)
    try:
        box.cap(_TRIAL_BYTES)
    finally:
        box.close()
    return home


def own_folders(proc: Path = Path("/proc/self")) -> list[Path]:
    """The folders of this process's memory cgroup: that of v1 if there is one, then that of v2."""
    paths: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            paths[controllers and "cgroup"] = path
    found: list[Path] = []
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        key = {"cgroup": "cgroup", "cgroup2": ""}.get(kind)
        if key is None or key not in paths or (key and "memory" not in options.split(",")):
            continue
        path = paths[key]
        inside = path.removeprefix(root) if root != "/" and path.startswith(root) else path
        found.insert(0 if key else len(found), Path(mounted + inside))
    return found


def _is_given(folder: Path) -> bool:
    """Marked by systemd as delegated, or a folder of our own ordinary user."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    try:
        return os.geteuid() != 0 and folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _is_left_behind(name: str) -> bool:
    """Whether the host that made it is gone. One of another pid namespace is not for us to judge."""
    parts = name.split("-")
    if len(parts) != 6 or parts[1] != _namespace():
        return False
    return parts[2].isdecimal() and _started(int(parts[2])) != parts[3]


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _started(pid: int) -> str:
    """When the process began, so that a pid that came again is told from the old one; "0" for none."""
    try:
        return _lines(Path(f"/proc/{pid}/stat"))[0].rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _words(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split()


def _number(file: Path, key: str) -> int:
    for line in _lines(file):
        name, _, value = line.partition(" ")
        if name == key and value.isdecimal():
            return int(value)
    return 0


def _write(file: Path, value: int | str) -> None:
    """One write, as the kernel wants it; never makes a file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
