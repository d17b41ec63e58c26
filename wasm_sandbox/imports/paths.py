"""Imports that take a path. Each one only decodes arguments; what happens is in `filesystem/`."""

from __future__ import annotations

from .. import errno
from ..filesystem import FsError
from ..filesystem.nodes import TYPE_FILE, Symlink
from ..filesystem.system import AT_FDCWD
from ..filesystem.tree import PATH_MAX
from ..memory import MemoryFault
from .contract import Box, Import, refusal, syscall
from .stat import write_stat, write_statfs

AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_EMPTY_PATH = 0x1000
_TYPE_MASK = 0o170000
_R_OK, _W_OK, _X_OK = 4, 2, 1
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_SCAN_BYTES = 1 << 20


def path_at(box: Box, pointer: int) -> bytes:
    """The C string of a path; a null pointer reads as empty, as it does in Emscripten."""
    if pointer == 0:
        return b""
    try:
        return box.memory.cstr(pointer, PATH_MAX)
    except MemoryFault:
        box.memory.cstr(pointer, _SCAN_BYTES)  # raises again where it is no string
        raise FsError(errno.ENAMETOOLONG) from None


def openat(box: Box, dirfd: int, path: int, flags: int, varargs: int) -> int:
    permissions = box.memory.u32(varargs) if varargs else 0
    return box.files.open(dirfd, path_at(box, path), flags, permissions)


def faccessat(box: Box, dirfd: int, path: int, wanted: int, flags: int) -> int:
    if wanted & ~(_R_OK | _W_OK | _X_OK):
        raise FsError(errno.EINVAL)
    node = box.files.node(dirfd, path_at(box, path), follow=not flags & AT_SYMLINK_NOFOLLOW)
    if wanted & _W_OK and node.sealed:
        raise FsError(errno.EROFS)
    if wanted & _X_OK and not node.permissions & 0o111:
        raise FsError(errno.EACCES)
    return 0


def chdir(box: Box, path: int) -> int:
    box.files.change_directory(box.files.node(AT_FDCWD, path_at(box, path), follow=True))
    return 0


def getcwd(box: Box, buffer: int, size: int) -> int:
    if size == 0:
        raise FsError(errno.EINVAL)
    text = box.files.working_directory() + b"\0"
    if size < len(text):
        raise FsError(errno.ERANGE)
    box.memory.write(buffer, text)
    return len(text)


def chmod(box: Box, path: int, permissions: int) -> int:
    return fchmodat2(box, AT_FDCWD, path, permissions, 0)


def fchmodat2(box: Box, dirfd: int, path: int, permissions: int, flags: int) -> int:
    node = box.files.node(dirfd, path_at(box, path), follow=not flags & AT_SYMLINK_NOFOLLOW)
    box.files.tree.set_permissions(node, permissions)
    return 0


def fchownat(box: Box, dirfd: int, path: int, _owner: int, _group: int, flags: int) -> int:
    follow = not flags & AT_SYMLINK_NOFOLLOW
    box.files.node(dirfd, path_at(box, path), follow=follow, allow_empty=bool(flags & AT_EMPTY_PATH))
    return 0


def stat64(box: Box, path: int, buffer: int) -> int:
    return write_stat(box, box.files.node(AT_FDCWD, path_at(box, path), follow=True), buffer)


def lstat64(box: Box, path: int, buffer: int) -> int:
    return write_stat(box, box.files.node(AT_FDCWD, path_at(box, path), follow=False), buffer)


def newfstatat(box: Box, dirfd: int, path: int, buffer: int, flags: int) -> int:
    follow = not flags & AT_SYMLINK_NOFOLLOW
    node = box.files.node(dirfd, path_at(box, path), follow=follow, allow_empty=bool(flags & AT_EMPTY_PATH))
    return write_stat(box, node, buffer)


def statfs64(box: Box, path: int, _size: int, buffer: int) -> int:
    box.files.node(AT_FDCWD, path_at(box, path), follow=True)
    return write_statfs(box, buffer)


def mkdirat(box: Box, dirfd: int, path: int, permissions: int) -> int:
    box.files.make_directory(dirfd, path_at(box, path), permissions)
    return 0


def mknodat(box: Box, dirfd: int, path: int, mode: int, _device: int) -> int:
    if mode & _TYPE_MASK not in (0, TYPE_FILE):
        raise FsError(errno.EPERM)
    place = box.files.find(dirfd, path_at(box, path), follow=False)
    if place.slash:
        raise FsError(errno.ENOENT)
    box.files.tree.new_file(place, mode & ~box.files.umask)
    return 0


def symlinkat(box: Box, target: int, dirfd: int, path: int) -> int:
    text = path_at(box, target)
    place = box.files.find(dirfd, path_at(box, path), follow=False)
    if place.slash:
        raise FsError(errno.ENOENT)
    box.files.tree.new_symlink(place, text)
    return 0


def readlinkat(box: Box, dirfd: int, path: int, buffer: int, size: int) -> int:
    if size == 0:
        raise FsError(errno.EINVAL)
    node = box.files.node(dirfd, path_at(box, path), follow=False)
    if not isinstance(node, Symlink):
        raise FsError(errno.EINVAL)
    text = node.target[:size]
    box.memory.write(buffer, text)
    return len(text)


def unlinkat(box: Box, dirfd: int, path: int, flags: int) -> int:
    if flags & ~AT_REMOVEDIR:
        raise FsError(errno.EINVAL)
    place = box.files.find(dirfd, path_at(box, path), follow=False)
    if flags & AT_REMOVEDIR:
        box.files.tree.remove_directory(place)
    else:
        box.files.tree.unlink(place)
    return 0


def rmdir(box: Box, path: int) -> int:
    return unlinkat(box, AT_FDCWD, path, AT_REMOVEDIR)


def renameat(box: Box, old_dirfd: int, old_path: int, new_dirfd: int, new_path: int) -> int:
    old = box.files.find(old_dirfd, path_at(box, old_path), follow=False)
    new = box.files.find(new_dirfd, path_at(box, new_path), follow=False)
    box.files.tree.rename(old, new)
    return 0


def truncate64(box: Box, path: int, size: int) -> int:
    box.files.resize(box.files.node(AT_FDCWD, path_at(box, path), follow=True), size)
    return 0


def utimensat(box: Box, dirfd: int, path: int, times: int, flags: int) -> int:
    node = box.files.node(dirfd, path_at(box, path), follow=not flags & AT_SYMLINK_NOFOLLOW, allow_empty=True)
    now = box.files.tree.now_ns()
    atime = _time_at(box, times, now)
    mtime = _time_at(box, times + 16, now) if times else now
    box.files.tree.set_times(node, atime, mtime)
    return 0


def _time_at(box: Box, pointer: int, now_ns: int) -> int | None:
    """A `struct timespec` in nanoseconds, `now_ns` where it says so, None where the time is to stay."""
    if pointer == 0:
        return now_ns
    seconds = int.from_bytes(box.memory.read(pointer, 8), "little", signed=True)
    nanoseconds = box.memory.u32(pointer + 8)
    if nanoseconds == _UTIME_NOW:
        return now_ns
    if nanoseconds == _UTIME_OMIT:
        return None
    if nanoseconds >= 1_000_000_000:
        raise FsError(errno.EINVAL)
    return seconds * 1_000_000_000 + nanoseconds


def umask(box: Box, mask: int) -> int:
    old, box.files.umask = box.files.umask, mask & 0o777
    return old


_TREE = "in-memory tree of this sandbox; bounded path walk"
IMPORTS: dict[str, Import] = {
    "__syscall_openat": syscall(openat, "real", f"{_TREE}; descriptors, files and bytes are capped"),
    "__syscall_faccessat": syscall(faccessat, "real", f"{_TREE}; files of the image are not writable"),
    "__syscall_chdir": syscall(chdir, "real", _TREE),
    "__syscall_getcwd": syscall(getcwd, "real", _TREE),
    "__syscall_chmod": syscall(chmod, "real", f"{_TREE}; bits are stored, not enforced (the guest is its own root)"),
    "__syscall_fchmodat2": syscall(fchmodat2, "real", f"{_TREE}; as chmod"),
    "__syscall_fchownat": syscall(fchownat, "benign", "there is one user; succeeds if the file exists, stores nothing"),
    "__syscall_stat64": syscall(stat64, "real", _TREE),
    "__syscall_lstat64": syscall(lstat64, "real", _TREE),
    "__syscall_newfstatat": syscall(newfstatat, "real", _TREE),
    "__syscall_statfs64": syscall(statfs64, "real", "the sandbox's own quotas, nothing of the host's disk"),
    "__syscall_mkdirat": syscall(mkdirat, "real", f"{_TREE}; number of files is capped"),
    "__syscall_mknodat": syscall(mknodat, "real", "plain files only; devices, pipes and sockets get EPERM"),
    "__syscall_symlinkat": syscall(symlinkat, "real", f"{_TREE}; targets count as file bytes"),
    "__syscall_readlinkat": syscall(readlinkat, "real", _TREE),
    "__syscall_unlinkat": syscall(unlinkat, "real", f"{_TREE}; files of the image stay"),
    "__syscall_rmdir": syscall(rmdir, "real", f"{_TREE}; folders of the image stay"),
    "__syscall_renameat": syscall(renameat, "real", f"{_TREE}; files of the image stay"),
    "__syscall_truncate64": syscall(truncate64, "real", f"{_TREE}; holes count against the quota"),
    "__syscall_utimensat": syscall(utimensat, "real", f"{_TREE}; `now` is the world's clock"),
    "__syscall_umask_js": syscall(umask, "real", "kept per sandbox"),
    "__syscall_pipe": refusal(errno.ENOSYS, "no second process or thread could hold the other end"),
}
