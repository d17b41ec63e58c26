"""The jail of a fork server and its workers, wall by wall, in the order in which they can be raised.

The rule: every wall is tried, each reports itself, and a worker that cannot raise what its trial raised ends at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection

from ...runtime.plain import field, record
from . import landlock, namespaces, report, rlimits, seccomp
from .code_pages import close_code_pages
from .report import Record, Report
from .syscalls import this_machine


@record
class Jail:
    """What a fork server has raised, and what its workers still have to do. Made by `raise_walls`."""

    records: tuple[Record, ...]
    filter: bytes | None
    """Template of the workers' seccomp filter; None where there is none."""
    limits: bool
    """Workers set their resource limits."""
    _cpu: rlimits.CpuLimit = field(default_factory=rlimits.CpuLimit)

    def seal(self, descriptors: int) -> None:
        """Close the jail around this worker, all its threads, for good. `descriptors`: the highest open one plus one.

        Raises:
            OSError: a wall that stood in the trial cannot be raised here. The worker must end.
        """
        if self.limits:
            rlimits.limit_worker(descriptors)
        if self.filter is not None:
            seccomp.install(seccomp.with_pid(self.filter, os.getpid()))

    def limit_memory(self, memory_bytes: int, file_bytes: int, value_bytes: int) -> None:
        """Cap what this worker may write to, now that its tenant's limits are known. Raises OSError."""
        if self.limits:
            rlimits.limit_memory(rlimits.data_bytes(memory_bytes, file_bytes, value_bytes))

    def limit_cpu(self, more_s: float) -> None:
        """Cap the CPU time of what follows. Raises OSError."""
        if self.limits:
            self._cpu.allow(more_s)


NO_JAIL = Jail((), None, limits=False)


def raise_walls(without: Collection[str] = ()) -> Jail:
    """Confine this process, which must have one thread, and what it will fork. May go on in a new process.

    Args:
        without: names of walls to leave out, for tests that show what each one does.

    Raises:
        OSError: this machine has no process left, so that nothing can be said about the walls.
    """
    notes = Report(without)
    number = os.getpid()
    if this_machine() is None:
        return Jail(tuple(report.all_missing("the jail is made for Linux on x86_64 and aarch64")), None, limits=False)
    notes.raise_wall(report.PRIVILEGES, namespaces.refuse_new_privileges)
    loose = _close_code_pages(notes)
    leave_this_machine(notes, number)
    notes.raise_wall(report.CAPABILITIES, namespaces.drop_capabilities)
    notes.raise_wall(report.UNDUMPABLE, namespaces.become_undumpable)
    if notes.active(report.PID):
        namespaces.die_with_parent()
    notes.raise_wall(report.LANDLOCK, landlock.allow_nothing)
    notes.raise_wall(report.RLIMITS, rlimits.limit_server)
    return _with_trial(notes, loose)


def _close_code_pages(notes: Report) -> str | None:
    """Before /proc is out of sight; the filters of `seccomp` keep it so. Why it could not be done, or None."""
    if notes.wants(report.SECCOMP):
        try:
            close_code_pages()
        except OSError as exc:
            return report.reason(exc)
    return None


def leave_this_machine(
    notes: Report,
    number: int,
    *,
    make_root: Callable[[], str | None] = namespaces.empty_root,
    become_nobody: Callable[[int], str] = namespaces.become_nobody,
    enter_user_namespace: Callable[[], str | None] = namespaces.enter_user_namespace,
) -> None:
    """User and namespaces. Who may make the others without a user namespace does: they are then owned by the host's,
    where the worker never has a right. Raises OSError where the process that should go on cannot be made."""

    def leave_user() -> None:
        notes.raise_wall(report.USER, lambda: become_nobody(number))
        notes.raise_wall(report.USER_NAMESPACE, enter_user_namespace)

    privileged = namespaces.privileged()
    if not privileged:
        leave_user()
    notes.raise_wall(report.NETWORK, lambda: namespaces.unshare(namespaces.NEW_NETWORK))
    notes.raise_wall(report.IPC, lambda: namespaces.unshare(namespaces.NEW_IPC))
    notes.raise_wall(report.UTS, namespaces.hide_machine_name)
    notes.raise_wall(report.ROOT, make_root)
    if notes.raise_wall(report.PID, namespaces.make_pid_namespace):
        namespaces.go_on_as_process_1(number, leave_user=notes.wants(report.USER))
    if privileged:
        leave_user()


def _with_trial(notes: Report, loose: str | None) -> Jail:
    """The server's own filter, and a worker that is sealed for trial, so that the report tells what workers have."""
    template = None

    def filter_server() -> None:
        nonlocal template
        machine = this_machine()
        if machine is not None:
            seccomp.install(seccomp.server_filter(machine))
            template = seccomp.worker_filter(machine)

    notes.raise_wall(report.SECCOMP, filter_server)
    if loose is not None and notes.active(report.SECCOMP):
        notes.note(report.SECCOMP, True, f"{report.PURPOSES[report.SECCOMP]} (but code pages stay writable: {loose})")
    jail = Jail((), template, limits=notes.active(report.RLIMITS))
    if _try_seal(jail):
        for name in (report.SECCOMP, report.RLIMITS):
            alone = Jail((), template if name == report.SECCOMP else None, limits=name == report.RLIMITS)
            if notes.active(name) and (failed := _try_seal(alone)):
                notes.missing(name, f"a trial worker could not raise it: {os.strerror(failed)}")
    return Jail(
        tuple(notes.records),
        template if notes.active(report.SECCOMP) else None,
        limits=notes.active(report.RLIMITS),
    )


def _try_seal(jail: Jail) -> int:
    """Seal a child; 0, or the errno."""
    pid = os.fork()
    if pid == 0:
        code = errno.EPROTO
        try:
            jail.seal(os.sysconf("SC_OPEN_MAX"))
            code = 0
        except OSError as exc:
            code = exc.errno or errno.EPROTO
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else errno.EPROTO
