"""Which system calls a worker, and the fork server, may make: two allow lists, and how a filter is installed.

The rule: what is not named kills the worker. A call stands here because a trace of the real workload showed it or
because libc makes it on a path that a trace can miss (docs/design/jail.md says which); each reason is given.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Mapping

from .bpf import KILL_PROCESS, REFUSE, Check, Rules, assemble
from .syscalls import Architecture, syscall

WORKER_CALLS = (
    "recvfrom", "sendto", "poll", "ppoll", "close",  # on the two channels
    "write", "writev",  # the last words of libc and wasmtime, to the null device
    "futex", "sched_yield", "nanosleep", "clock_nanosleep", "restart_syscall",  # the GIL, locks, waits
    "clock_gettime", "clock_getres",  # CPU time, and the clocks where there is no vDSO
    "getrandom", "getpid", "gettid",
    "brk", "munmap", "mremap", "madvise",  # malloc, and wasm memory
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",  # wasm traps are signals
    "exit", "exit_group",
)  # fmt: skip
"""Allowed with any argument."""
SOFT_REFUSALS = {
    "open": errno.EACCES, "openat": errno.EACCES, "access": errno.EACCES, "faccessat": errno.EACCES,
    "faccessat2": errno.EACCES, "stat": errno.EACCES, "newfstatat": errno.EACCES, "statx": errno.EACCES,
    "readlink": errno.EACCES, "readlinkat": errno.EACCES,
    "sched_getaffinity": errno.EPERM, "sysinfo": errno.EPERM, "ioctl": errno.ENOTTY, "membarrier": errno.ENOSYS,
}  # fmt: skip
"""Refused, but no reason to die: glibc looks at /proc and at the number of CPUs when a heap shrinks or grows, and a
panic looks for its own program. None of these reaches anything."""

SERVER_CALLS = (
    *WORKER_CALLS,
    "read", "sendmsg", "recvmsg", "shutdown", "select", "pselect6",  # serving
    "getppid", "wait4", "waitid", "kill", "pidfd_open",  # its children
    "set_robust_list", "set_tid_address", "rseq", "tgkill",  # a new process, and its second thread
    "pipe2", "getsockopt", "getsockname", "fcntl", "fstat", "lseek", "dup2", "dup3", "close_range",
    "mmap", "mprotect",  # an instance maps the image's memory
    "prctl", "seccomp",  # what a worker takes away from itself
)  # fmt: skip
"""The fork server, and a worker until it is sealed. Anything else fails with EPERM: it holds nothing of a tenant."""
_CLONE_NEW = 0x7E02_0080
"""Every CLONE_NEW* flag."""

_FIONBIO, _AT_EMPTY_PATH = 0x5421, 0x1000
_PROT_EXEC = 4
_PRIVATE_ANONYMOUS, _SHARED_PRIVATE_ANONYMOUS = 0x22, 0x23
_SET_FILTER, _TSYNC, _SPEC_ALLOW = 1, 1, 4
SELF = 0x5AFE_5E1F
"""Stands for the worker's own pid until that is known."""


def worker_filter(machine: Architecture) -> bytes:
    """The filter of a sealed worker; `with_pid` makes it ready for one process."""
    number = machine.numbers
    own = (Check(0, SELF),)
    checked = {
        number["mmap"]: (Check(2, 0, _PROT_EXEC), Check(3, _PRIVATE_ANONYMOUS, _SHARED_PRIVATE_ANONYMOUS)),
        number["mprotect"]: (Check(2, 0, _PROT_EXEC),),
        number["prlimit64"]: (Check(0, 0),),  # of itself, and then the kernel lets it lower them only
        number["kill"]: own,  # abort, and other ways to die
        number["tgkill"]: own,
    }
    refused = {number[name]: code for name, code in SOFT_REFUSALS.items() if name in number}
    return _filter(machine, machine.known(*WORKER_CALLS), refused, checked, KILL_PROCESS)


def server_filter(machine: Architecture) -> bytes:
    """The filter of the fork server, which its workers inherit under their own."""
    number = machine.numbers
    checked = {
        number["clone"]: (Check(0, 0, _CLONE_NEW),),
        number["prlimit64"]: (Check(0, 0),),
        number["ioctl"]: (Check(1, _FIONBIO),),  # how Python makes a descriptor non-blocking
        number["newfstatat"]: (Check(3, _AT_EMPTY_PATH),),  # how glibc looks at an open descriptor
    }
    soft = {number[name]: code for name, code in SOFT_REFUSALS.items() if name in number}
    refused = {call: code for call, code in soft.items() if call not in checked}
    refused[number["clone3"]] = errno.ENOSYS  # its flags cannot be seen; libc then takes `clone`
    return _filter(machine, machine.known(*SERVER_CALLS), refused, checked, REFUSE | errno.EPERM)


def with_pid(template: bytes, pid: int) -> bytes:
    """The worker's filter for the process `pid` (as it sees itself)."""
    return template.replace(struct.pack("<I", SELF), struct.pack("<I", pid))


def install(code: bytes) -> None:
    """Filter all threads of this process from here on, for good. `no_new_privs` must be set.

    Speculation is left as it is: kernels before 5.16 would slow all code down, and the process is the boundary.

    Raises:
        OSError: the kernel refuses it.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(instructions)))
    result = syscall("seccomp", _SET_FILTER, _TSYNC | _SPEC_ALLOW, ctypes.c_void_p(ctypes.addressof(program)))
    if result:
        raise OSError(errno.EBUSY, f"thread {result} has another filter")


def _filter(
    machine: Architecture,
    allowed: list[int],
    refused: Mapping[int, int],
    checked: Mapping[int, tuple[Check, ...]],
    default: int,
) -> bytes:
    return assemble(Rules(machine.audit_arch, machine.foreign_from, allowed, refused, checked, default))
