"""Which system calls a Deno worker may make: an allow list that leaves V8 its threads and its executable pages.

The rule: as in seccomp.py what is not named kills the worker. Files may be opened for reading alone, threads may start
and processes may not, signals reach the process itself. Found with `strace -f` and the kernel's audit log; V8 and Tokio
also call some of these on rare paths, which a log shows only when a busy machine takes them.
"""

from __future__ import annotations

import errno

from .bpf import KILL_PROCESS, Check, Rules, assemble, assemble_question
from .seccomp import SELF
from .syscalls import Architecture

ALLOWED = (
    "read", "readv", "write", "writev", "pread64", "lseek", "close", "dup",
    "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getcwd", "getdents64", "fadvise64",
    "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "pipe2",
    "brk", "mmap", "mprotect", "munmap", "mremap", "madvise", "mincore",
    "pkey_alloc", "pkey_free", "pkey_mprotect",  # how V8 guards its code pages
    "futex", "sched_yield", "nanosleep", "clock_nanosleep", "restart_syscall", "membarrier",
    "clock_gettime", "clock_getres", "getrandom", "getrusage", "times",
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min",
    "getpriority", "getrlimit",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "set_robust_list", "set_tid_address", "rseq", "arch_prctl",
    "exit", "exit_group", "execve",  # the one start: `one_start.py`
)  # fmt: skip
REFUSED = {
    "clone3": errno.ENOSYS,  # its flags cannot be seen; libc then takes `clone`
    "io_uring_setup": errno.ENOSYS, "openat2": errno.ENOSYS,
    "socket": errno.EACCES, "connect": errno.EACCES,  # libc looks for a name service
    "memfd_create": errno.EACCES, "inotify_init1": errno.EACCES, "statfs": errno.EACCES,
    "pwrite64": errno.EACCES, "ftruncate": errno.EACCES, "fsync": errno.EACCES, "fdatasync": errno.EACCES,
    "mkdir": errno.EACCES, "mkdirat": errno.EACCES, "rmdir": errno.EACCES, "unlink": errno.EACCES,
    "unlinkat": errno.EACCES, "rename": errno.EACCES, "renameat2": errno.EACCES, "fchmod": errno.EACCES,
    "fchown": errno.EACCES, "utimensat": errno.EACCES,  # caches on a disk that is not there
    "mlock": errno.EPERM, "setpriority": errno.EPERM, "sched_setscheduler": errno.EPERM,
    "sched_setaffinity": errno.EPERM, "setrlimit": errno.EPERM, "ioctl": errno.ENOTTY,
}  # fmt: skip
"""Refused, but no reason to die: Deno tries them and can do without."""

_CLONE_THREAD, _CLONE_NEW = 0x1_0000, 0x7E02_0080
_OPEN_MODE, _CREATE, _TRUNCATE, _TEMPORARY = 0o3, 0o100, 0o1000, 0o20000000
_AF_UNIX = 1
_DONT_WAIT = 0x40
_SET_NAME = 15
_DUPLICATE, _GET_FLAGS, _SET_FLAGS, _GET_STATUS, _SET_STATUS, _DUPLICATE_CLOSED = 0, 1, 2, 3, 4, 1030


def deno_filter(machine: Architecture) -> bytes:
    """The filter of a Deno worker; `seccomp.with_pid` makes it ready for one process. It allows `execve`."""
    number = machine.numbers
    own = (Check(0, SELF),)
    reading = _OPEN_MODE | _CREATE | _TRUNCATE | _TEMPORARY
    descriptor_calls = (_GET_FLAGS, _SET_FLAGS, _GET_STATUS, _SET_STATUS, _DUPLICATE_CLOSED)
    checked = {
        number["clone"]: (Check(0, _CLONE_THREAD, _CLONE_THREAD | _CLONE_NEW),),
        number["openat"]: (Check(2, 0, reading),),
        number["fcntl"]: (Check(1, _DUPLICATE, others=descriptor_calls),),  # no owner for signals, no locks
        number["prctl"]: (Check(0, _SET_NAME),),
        number["prlimit64"]: (Check(0, 0), Check(2, 0), Check(2, 0, upper=True)),  # of itself, and only to look
        number["socketpair"]: (Check(0, _AF_UNIX),),  # how Tokio wakes itself
        number["recvfrom"]: (Check(3, 0, others=(_DONT_WAIT,)),),  # how its thread for signals empties its own pipe
        number["kill"]: own,
        number["tgkill"]: own,
    }
    otherwise = {number[name]: errno.EINVAL for name in ("fcntl", "prctl")}
    otherwise |= {number["openat"]: errno.EACCES, number["prlimit64"]: errno.EPERM}
    if "open" in number:
        checked[number["open"]] = (Check(1, 0, reading),)
        otherwise[number["open"]] = errno.EACCES
    refused = {number[name]: code for name, code in REFUSED.items() if name in number}
    allowed = machine.known(*ALLOWED)
    return assemble(Rules(machine.audit_arch, machine.foreign_from, allowed, refused, checked, KILL_PROCESS, otherwise))


def start_question(machine: Architecture) -> bytes:
    """A filter that asks about every start of a program."""
    return assemble_question(machine.audit_arch, machine.numbers["execve"])
