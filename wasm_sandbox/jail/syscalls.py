"""Numbers of the system calls that the jail names, for both architectures, and the three calls that libc lacks.

The rule: a name that an architecture does not have (`open` on aarch64) is absent there, never renamed. The numbers are
the kernel's fixed interface (asm/unistd_64.h and asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import os
import sys

from ...runtime.plain import record

_NAMES: dict[str, tuple[int | None, int | None]] = {
    # name: (x86_64, aarch64)
    "access": (21, None),
    "arch_prctl": (158, None),
    "brk": (12, 214),
    "capget": (125, 90),
    "capset": (126, 91),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close": (3, 57),
    "close_range": (436, 436),
    "connect": (42, 203),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "epoll_wait": (232, None),
    "eventfd2": (290, 19),
    "execve": (59, 221),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fadvise64": (221, 223),
    "fchmod": (91, 52),
    "fchown": (93, 55),
    "fcntl": (72, 25),
    "fdatasync": (75, 83),
    "fork": (57, None),
    "fstat": (5, 80),
    "fsync": (74, 82),
    "ftruncate": (77, 46),
    "futex": (202, 98),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getpriority": (140, 141),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "getsockname": (51, 204),
    "getsockopt": (55, 209),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "kill": (62, 129),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "lseek": (8, 62),
    "lstat": (6, None),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "memfd_create": (319, 279),
    "mincore": (27, 232),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mlock": (149, 228),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "pidfd_open": (434, 434),
    "pipe2": (293, 59),
    "pivot_root": (155, 41),
    "pkey_alloc": (330, 289),
    "pkey_free": (331, 290),
    "pkey_mprotect": (329, 288),
    "poll": (7, None),
    "ppoll": (271, 73),
    "prctl": (157, 167),
    "pread64": (17, 67),
    "prlimit64": (302, 261),
    "pselect6": (270, 72),
    "pwrite64": (18, 68),
    "read": (0, 63),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "rename": (82, None),
    "renameat2": (316, 276),
    "restart_syscall": (219, 128),
    "rmdir": (84, None),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_yield": (24, 124),
    "seccomp": (317, 277),
    "select": (23, None),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "setpriority": (141, 140),
    "setrlimit": (160, 164),
    "shutdown": (48, 210),
    "sigaltstack": (131, 132),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "stat": (4, None),
    "statfs": (137, 43),
    "statx": (332, 291),
    "sysinfo": (99, 179),
    "tgkill": (234, 131),
    "times": (100, 153),
    "uname": (63, 160),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "utimensat": (280, 88),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "write": (1, 64),
    "writev": (20, 66),
}
_X32_BIT = 0x4000_0000


@record
class Architecture:
    """What differs between the machines that the jail knows."""

    name: str
    audit_arch: int
    """AUDIT_ARCH_*, which the kernel gives to a filter."""
    foreign_from: int | None
    numbers: dict[str, int]
    _column: int

    def known(self, *names: str) -> list[int]:
        """Numbers of those names that this architecture has. KeyError for one that the table does not list."""
        return [number for name in names if (number := _NAMES[name][self._column]) is not None]


def _architecture(name: str, column: int, audit_arch: int, foreign_from: int | None) -> Architecture:
    numbers = {call: number for call, row in _NAMES.items() if (number := row[column]) is not None}
    return Architecture(name, audit_arch, foreign_from, numbers, column)


ARCHITECTURES = {
    "x86_64": _architecture("x86_64", 0, 0xC000_003E, _X32_BIT),
    "aarch64": _architecture("aarch64", 1, 0xC000_00B7, None),
}


_MACHINE = os.uname().machine if hasattr(os, "uname") else ""
"""Asked once: behind the fork server's filter the call is refused."""


def this_machine() -> Architecture | None:
    """The architecture of this process, or None: another system, another CPU, or 32 bits."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    return ARCHITECTURES.get(_MACHINE)


libc = ctypes.CDLL(None, use_errno=True)
if sys.platform == "linux":
    # Bound once and before any fork: a lookup would cost each worker 0.7 ms.
    libc.syscall.restype = ctypes.c_long
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p


def checked(result: int) -> int:
    """The result of a libc call that was fine.

    Raises:
        OSError: it was -1; with its errno.
    """
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(name: str, *arguments: int | ctypes.c_void_p | ctypes.c_char_p | None) -> int:
    """A system call by name, for what libc has no function for.

    Raises:
        OSError: it failed, or this machine is not one that the jail knows (ENOSYS).
    """
    machine = this_machine()
    if machine is None:
        raise OSError(38, "not a machine that the jail knows")
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return checked(int(libc.syscall(ctypes.c_long(machine.numbers[name]), *words)))


def prctl(option: int, *arguments: int) -> int:
    """Raises OSError."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return checked(int(libc.prctl(option, *padded)))
