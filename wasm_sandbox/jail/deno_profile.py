"""The jail of a launcher of Deno processes, and of each of them before its program starts.

The rule: as in the jail of the other engine every wall is tried and reports itself, and all stand before the first byte
of Deno's own code runs. It differs where Deno must: a few files can be seen and read, threads and executable pages can
be made, and one program is started. docs/design/jail.md lists what is weaker.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Collection
from pathlib import PurePath

from ...runtime.plain import dataclass
from . import landlock, namespaces, one_start, report, rlimits, seccomp
from .deno_calls import deno_filter
from .profile import leave_this_machine
from .report import Record, Report
from .syscalls import this_machine

if sys.platform != "win32":
    import resource

DESCRIPTORS = 64
"""Twenty are open in an idle worker."""
STACK_BYTES = 80 * 1024 * 1024
"""V8 is told to use three quarters of it (deno_host/find.py); deep recursion of the guest happens there."""
_NO_CAP_MIB = 1 << 24
_PLACE = "/cloche"
"""Where program and scripts lie in the furnished root: their own places name the host's user and folders, and
JavaScript can read them off a stack."""
_PROGRAM_LINK = "/proc/self/exe"
"""Deno asks for its own place; a link answers, since there is no /proc."""


@dataclass(frozen=True, slots=True)
class Exhibits:
    """What a Deno process has to see: paths, absolute and without symbolic links. As the host has them, or as a worker
    sees them."""

    program: str
    """The Deno executable."""
    interpreter: str | None
    """The dynamic loader, which the kernel starts with it."""
    files: tuple[str, ...]
    """Libraries and other files that the worker reads."""
    scripts: str
    """Folder of what Deno runs. Its files are copied, so that it may be private to the host's user."""


@dataclass(frozen=True, slots=True)
class DenoJail:
    """What a launcher has raised, and what each of its workers still has to do. Made by `raise_walls`."""

    records: tuple[Record, ...]
    filter: bytes | None
    """Template of the workers' filter; None where there is none."""
    limits: bool
    asks: bool
    """A worker's start of a program waits for `one_start.let_start`."""
    seen: Exhibits | None = None
    """Where its exhibits are for a worker; None in a trial."""

    def seal(self, channel: socket.socket | None) -> None:
        """Close the jail around this process, which has one thread and goes on to start Deno. For good.

        Args:
            channel: to the launcher, if `asks`; it is closed.

        Raises:
            OSError: a wall that stood in the trial cannot be raised here. The worker must end.
        """
        if self.limits:
            limit_worker()
        if self.filter is None:
            return
        if channel is not None and self.asks:
            one_start.ask_from_here_on(channel)
            channel.close()
        seccomp.install(seccomp.with_pid(self.filter, os.getpid()))


def raise_walls(exhibits: Exhibits, without: Collection[str] = ()) -> DenoJail:
    """Confine this process, which must have one thread, and what it will fork. May go on in a new process.

    Raises:
        OSError: this machine has no process left.
    """
    notes = Report(without)
    number = os.getpid()
    if this_machine() is None:
        records = report.all_missing("the jail is made for Linux on x86_64 and aarch64")
        return DenoJail(tuple(records), None, limits=False, asks=False, seen=exhibits)
    notes.raise_wall(report.PRIVILEGES, namespaces.refuse_new_privileges)
    scripts = _read_all(exhibits.scripts)
    inside = Exhibits(f"{_PLACE}/deno", exhibits.interpreter, exhibits.files, f"{_PLACE}/scripts")

    def seen() -> Exhibits:
        return inside if notes.active(report.ROOT) else exhibits

    def furnish() -> str | None:
        copies = {f"{inside.scripts}/{name}": data for name, data in scripts.items()}
        places = dict(zip(_programs(exhibits), _programs(inside), strict=True)) | {path: path for path in inside.files}
        return namespaces.root_with(places, {_PROGRAM_LINK: inside.program}, copies)

    def become_nobody(number: int) -> str:
        if os.geteuid() == 0:
            read = [os.path.join(seen().scripts, name) for name in scripts]
            _check_readable([*_programs(seen()), *seen().files, *read], furnished=notes.active(report.ROOT))
        return namespaces.become_nobody(number)

    leave_this_machine(
        notes,
        number,
        make_root=furnish,
        become_nobody=become_nobody,
        enter_user_namespace=namespaces.enter_user_namespace_as_self
        if not namespaces.privileged()
        else namespaces.enter_user_namespace,
    )
    if notes.active(report.ROOT):
        notes.note(report.ROOT, True, "the file system is read-only and holds Deno, its libraries and its assets alone")
    notes.raise_wall(report.CAPABILITIES, namespaces.drop_capabilities)
    namespaces.become_undumpable()
    notes.missing(report.UNDUMPABLE, "the start of a program makes a process dumpable again; seccomp and the pid "
                  "namespace keep others of its user away")  # fmt: skip
    if notes.active(report.PID):
        namespaces.die_with_parent()
    if notes.raise_wall(report.LANDLOCK, lambda: _landlock(seen())):
        notes.note(report.LANDLOCK, True, "Deno, its libraries and its assets can be read; nothing can be written, "
                   "no port used, no process outside be reached")  # fmt: skip
    notes.raise_wall(report.RLIMITS, rlimits.limit_server)
    return _with_trial(notes, seen())


def limit_worker() -> None:
    """Descriptors and locked memory; the launcher moves memory and CPU time. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    stack = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))


def _landlock(exhibits: Exhibits) -> str:
    return landlock.allow_only((*exhibits.files, exhibits.scripts), _programs(exhibits))


def _programs(exhibits: Exhibits) -> list[str]:
    """What the kernel starts."""
    return [path for path in (exhibits.program, exhibits.interpreter) if path is not None]


def _read_all(folder: str) -> dict[str, bytes]:
    """Its files by name."""
    found: dict[str, bytes] = {}
    for entry in os.scandir(folder):
        if entry.is_file():
            with open(entry.path, "rb") as file:
                found[entry.name] = file.read()
    return found


def _check_readable(paths: Collection[str], *, furnished: bool) -> None:
    """Raises OSError where a user who owns nothing could not read them."""
    for path in paths:
        above = () if furnished else PurePath(path).parents
        if not os.stat(path).st_mode & stat.S_IROTH or not all(os.stat(p).st_mode & stat.S_IXOTH for p in above):
            raise OSError(errno.EACCES, f"only this user may read {path}: workers run as it")


def _with_trial(notes: Report, seen: Exhibits) -> DenoJail:
    """A worker that is sealed for trial, so that the report tells what workers have."""
    machine = this_machine()
    template = None if machine is None or not notes.wants(report.SECCOMP) else deno_filter(machine)
    limits = notes.active(report.RLIMITS)
    if limits and (failed := _try(DenoJail((), None, limits=True, asks=False))):
        notes.missing(report.RLIMITS, f"a trial worker could not raise it: {os.strerror(failed)}")
    elif limits:
        notes.note(report.RLIMITS, True, "writable memory, CPU time, file size and descriptors are capped by the "
                   "kernel; not address space, which V8 reserves, and not threads")  # fmt: skip
    if template is None:
        notes.missing(report.SECCOMP, "left out by its caller")
        return DenoJail(tuple(notes.records), None, limits=limits, asks=False, seen=seen)
    failed = _try(DenoJail((), template, limits=False, asks=False))
    asks = not failed and not _try(DenoJail((), template, limits=False, asks=True))
    if failed:
        notes.missing(report.SECCOMP, f"a trial worker could not raise it: {os.strerror(failed)}")
        template = None
    else:
        starts = "one program is started and no second" if asks else "only Deno can be started"
        notes.note(report.SECCOMP, True, f"only the system calls that V8 needs, threads and executable pages among "
                   f"them; {starts}")  # fmt: skip
    limits = limits and notes.active(report.RLIMITS)
    return DenoJail(tuple(notes.records), template, limits=limits, asks=asks, seen=seen)


def _try(jail: DenoJail) -> int:
    """Seal a child; 0, or the errno."""
    ours, theirs = socket.socketpair()
    refused = 0
    with ours:
        pid = os.fork()
        if pid == 0:
            code = errno.EPROTO
            try:
                jail.seal(theirs)
                code = 0
            except OSError as exc:
                code = exc.errno or errno.EPROTO
            finally:
                os._exit(code)
        theirs.close()
        if jail.limits:
            refused = _try_to_cap(pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return refused or (status if status >= 0 else errno.EPROTO)


def _try_to_cap(pid: int) -> int:
    """Whether the launcher may cap the memory of a worker: 0, or the errno. It is not reaped yet, so it is there."""
    try:
        rlimits.limit_memory_of(pid, _NO_CAP_MIB)
    except OSError as exc:
        return exc.errno or errno.EPERM
    return 0
