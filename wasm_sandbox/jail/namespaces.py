"""A world of its own for the fork server and its workers: user, namespaces, an empty root, no capabilities.

The rule: each step stands alone and raises OSError where this machine refuses it; the next is tried all the same. All
of it needs a process with one thread, and is done once per fork server, so that a worker pays nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
from collections.abc import Collection, Mapping
from typing import NoReturn

from .syscalls import checked, libc, prctl, syscall

NEW_USER, NEW_NETWORK, NEW_IPC, NEW_UTS = 0x1000_0000, 0x4000_0000, 0x0800_0000, 0x0400_0000
_NEW_MOUNTS, _NEW_PID, _NEW_CGROUP = 0x0002_0000, 0x2000_0000, 0x0200_0000

FIRST_PRIVATE_UID = 1_879_048_192
"""The start of a range that no distribution gives to anybody (systemd's "UIDS-GIDS" list). With the fork server's pid
added, no other process of this machine has the same user, so that nobody else can signal or trace a worker."""
NOBODY = 65534
_CAP_KILL, _CAP_SETPCAP, _CAP_SYS_ADMIN = 5, 8, 21

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 16384, 1 << 18
_MS_BIND = 4096
_LOCKED_FLAGS = 2 | 4 | 8 | 1024 | 2048
"""ST_NOSUID, ST_NODEV, ST_NOEXEC, ST_NOATIME, ST_NODIRATIME: the same numbers as the mount flags."""
_MNT_DETACH = 2
_MOUNT_PLACES = ("/tmp", "/proc", "/dev")  # noqa: S108  # only a folder to mount on; nothing is written there

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 28, 47, 4
_SECUREBITS_LOCKED = 0b1110_1111
"""No capability for uid 0, none kept over a change of user, none ambient; and all of that for good."""
_CAPABILITY_VERSION_3 = 0x2008_0522


def privileged() -> bool:
    """True where this process may make namespaces without a user namespace around them."""
    return bool(_effective_capabilities() >> _CAP_SYS_ADMIN & 1)


def become_nobody(number: int) -> str:
    """As root: leave it for a user id that owns nothing; `number` makes it one that no other fork server has.

    Raises:
        OSError: this process is no root that may change its user, or could not kill its workers afterwards.
    """
    if os.geteuid() != 0:
        raise OSError(errno.EPERM, f"the host is not root: workers run as its own user, {os.geteuid()}")
    if not _effective_capabilities() >> _CAP_KILL & 1:
        raise OSError(errno.EPERM, "the host lacks CAP_KILL and could not end workers of another user")
    os.setgroups([])
    user = FIRST_PRIVATE_UID + number
    try:
        os.setresgid(user, user, user)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        user = NOBODY  # the host itself lives in a user namespace with few ids
        os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    return f"uid {user}"


def enter_user_namespace() -> None:
    """One in which no id has a meaning: no map is written, so that nothing here can be owned or created.

    Raises:
        OSError: user namespaces are off or forbidden.
    """
    unshare(NEW_USER)


def enter_user_namespace_as_self() -> str:
    """One in which only this user and group have a meaning, so that a file system can be furnished in it.

    Raises:
        OSError: user namespaces are off or forbidden.
    """
    user, group = os.geteuid(), os.getegid()
    unshare(NEW_USER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    return "its own id is the only one in it"


def unshare(flag: int) -> None:
    """Raises OSError."""
    checked(int(libc.unshare(ctypes.c_int(flag))))


def hide_machine_name() -> None:
    """Raises OSError."""
    unshare(NEW_UTS)
    socket.sethostname("cloche")


def empty_root() -> str | None:
    """Make an empty, read-only file system the root of this process, and leave all others.

    Raises:
        OSError: mounting is forbidden here.
    """
    return root_with({})


def root_with(
    paths: Mapping[str, str], links: Mapping[str, str] | None = None, copies: Mapping[str, bytes] | None = None
) -> str | None:
    """As `empty_root`, with these files and folders in it, read-only; and symbolic links.

    Args:
        paths: what is shown -> where; both absolute and without symbolic links.
        links: path of a link -> where it leads.
        copies: path of a file that is made anew -> its content.

    Raises:
        OSError: mounting is forbidden here, or a path is missing.
    """
    unshare(_NEW_MOUNTS)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)
    place = next((path for path in _MOUNT_PLACES if os.path.isdir(path)), "/")
    careful = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    # Opened first: the new file system may hide them.
    held = {paths[path]: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in sorted(paths)}
    more, written = links or {}, copies or {}
    size = sum(-len(data) // 4096 * -4096 for data in written.values()) + 4096
    options = f"size={size},nr_inodes={_inodes((*held, *more, *written))},mode=0555"
    _mount("cloche", place, "tmpfs", careful, options)
    try:
        os.chdir(place)
        _furnish(held, more, written)
    except OSError:
        os.chdir("/")
        libc.umount2(place.encode(), _MNT_DETACH)
        raise
    finally:
        for descriptor in held.values():
            os.close(descriptor)
    detail = None
    try:
        dot = ctypes.c_char_p(b".")
        syscall("pivot_root", dot, dot)
        checked(int(libc.umount2(b".", _MNT_DETACH)))
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        os.chroot(".")  # the root is an initial RAM disk, which cannot be left
        detail = "by chroot"
    os.chdir("/")
    _mount(None, "/", None, _MS_REMOUNT | _MS_RDONLY | careful, None)
    return detail


def _inodes(paths: Collection[str]) -> int:
    """Enough for every file, link and folder on the way to it."""
    return 2 + sum(path.count("/") + 1 for path in paths)


def _furnish(held: Mapping[str, int], links: Mapping[str, str], copies: Mapping[str, bytes]) -> None:
    """Put files, folders and links below the current folder, where every user may look."""
    before = os.umask(0)
    try:
        for path, descriptor in held.items():
            _show(path, descriptor)
        for path, target in links.items():
            os.makedirs(os.path.dirname("." + path), mode=0o755, exist_ok=True)
            os.symlink(target, "." + path)
        for path, data in copies.items():
            os.makedirs(os.path.dirname("." + path), mode=0o755, exist_ok=True)
            with open("." + path, "xb") as file:
                file.write(data)
            os.chmod("." + path, 0o444)
    finally:
        os.umask(before)


def _show(path: str, descriptor: int) -> None:
    """Mount what `descriptor` holds at `path` below the current folder, read-only."""
    target = "." + path
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(target, mode=0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    _mount(source, target, None, _MS_BIND, None)
    kept = os.statvfs(target).f_flag & _LOCKED_FLAGS  # a user namespace may not take these off
    _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | kept, None)


def make_pid_namespace() -> None:
    """The next fork makes its process 1: `go_on_as_process_1` must follow. Raises OSError."""
    unshare(_NEW_PID)


def go_on_as_process_1(number: int, *, leave_user: bool) -> None:
    """Fork process 1 of the new pid namespace and go on as it; what called this stays behind and ends when it ends.

    All processes of the namespace die with process 1; `die_with_parent` makes that one die with the process that stays.
    For that signal the latter needs the right to send it: it becomes the same user, if the other will (`leave_user`).

    Raises:
        OSError: no process is left. The caller must end: its first worker would be process 1.
    """
    pid = os.fork()
    if pid == 0:
        return
    if leave_user:
        with contextlib.suppress(OSError):  # then process 1 cannot do it either
            become_nobody(number)
    _wait_for(pid)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent dies. After the last change of credentials, which would undo it."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for(pid: int) -> NoReturn:
    """The process that stays: it holds no channel, so that its host sees the end of process 1 at once."""
    code = 1
    try:
        os.dup2(1, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        drop_capabilities()
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
    finally:
        os._exit(code if code >= 0 else 128 - code)


def drop_capabilities() -> None:
    """Give up every capability, also those that a user id 0 or a later program would bring.

    Raises:
        OSError: the kernel refuses it.
    """
    if _effective_capabilities() >> _CAP_SETPCAP & 1:
        prctl(_PR_SET_SECUREBITS, _SECUREBITS_LOCKED)
        for capability in range(64):
            try:
                prctl(_PR_CAPBSET_DROP, capability)
            except OSError:
                break  # one that this kernel does not know
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    pointers = [ctypes.c_void_p(ctypes.addressof(buffer)) for buffer in (header, nothing)]
    syscall("capset", *pointers)


def refuse_new_privileges() -> None:
    """For good. Landlock and seccomp ask for it. Raises OSError."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_undumpable() -> None:
    """No core file, and no look into this process by another of the same user. Raises OSError."""
    prctl(_PR_SET_DUMPABLE, 0)


def _effective_capabilities() -> int:
    """The effective set, as `capget` says: /proc may be gone by now."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    syscall("capget", *[ctypes.c_void_p(ctypes.addressof(buffer)) for buffer in (header, data)])
    low, _, _, high, _, _ = struct.unpack("<6I", data.raw[:24])
    return int(low | high << 32)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    words = [None if text is None else text.encode() for text in (source, target, kind, data)]
    checked(int(libc.mount(words[0], words[1], words[2], flags, words[3])))
