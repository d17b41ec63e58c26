"""Imports that take a descriptor. Reads and writes are bounded in the number of pieces and in bytes per call."""

from __future__ import annotations

import struct

from .. import errno
from ..filesystem import FsError
from ..filesystem.descriptors import MAX_DESCRIPTORS, O_APPEND, O_NONBLOCK
from ..memory import MemoryFault
from .contract import Box, Import, constant, signed, syscall, wasi
from .stat import DIRENT_BYTES, pack_dirent, pack_fdstat, write_stat, write_statfs

MAX_PIECES = 1024
"""Entries of one iovec array, as on Linux."""
MAX_IO_BYTES = 64 * 1024 * 1024
"""Bytes of one call; a longer one is answered with a short count, and every C library goes on from there."""
MAX_DIRENTS = 1024
MAX_POLLED = MAX_DESCRIPTORS
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = 0, 1, 2, 3, 4
_F_GETLK, _F_SETLK, _F_SETLKW, _F_DUPFD_CLOEXEC = 12, 13, 14, 1030
_F_UNLCK = 2
_FD_CLOEXEC = 1
_O_CLOEXEC = 0o2000000
_SETTABLE = O_APPEND | O_NONBLOCK
_POLL_ALWAYS, _POLLIN_OUT, _POLLNVAL = 0x18, 0x5, 0x20


def pieces(box: Box, array: int, count: int) -> list[tuple[int, int]]:
    """Pointers and lengths of an iovec array, all of them inside the memory, MAX_IO_BYTES together at most."""
    if count > MAX_PIECES:
        raise FsError(errno.EINVAL)
    words = struct.unpack(f"<{2 * count}I", box.memory.read(array, 8 * count))
    left = MAX_IO_BYTES
    found: list[tuple[int, int]] = []
    for pointer, length in zip(words[::2], words[1::2], strict=True):
        if pointer + length > box.memory.size:
            raise MemoryFault
        taken = min(length, left)
        left -= taken
        if taken:
            found.append((pointer, taken))
    return found


def _read(box: Box, fd: int, array: int, count: int, result: int, position: int | None) -> int:
    targets = pieces(box, array, count)
    box.memory.set_u32(result, 0)  # a bad pointer has to fail before the position moves
    data = memoryview(box.files.open_files.read(fd, sum(length for _, length in targets), position))
    done = 0
    for pointer, length in targets:
        part = data[done : done + length]
        box.memory.write(pointer, part)
        done += len(part)
    box.memory.set_u32(result, len(data))
    return 0


def _write(box: Box, fd: int, array: int, count: int, result: int, position: int | None) -> int:
    sources = pieces(box, array, count)
    box.memory.set_u32(result, 0)
    data = b"".join([box.memory.read(pointer, length) for pointer, length in sources])
    box.memory.set_u32(result, box.files.open_files.write(fd, data, position))
    return 0


def fd_read(box: Box, fd: int, array: int, count: int, result: int) -> int:
    return _read(box, fd, array, count, result, None)


def fd_pread(box: Box, fd: int, array: int, count: int, position: int, result: int) -> int:
    return _read(box, fd, array, count, result, position)


def fd_write(box: Box, fd: int, array: int, count: int, result: int) -> int:
    return _write(box, fd, array, count, result, None)


def fd_pwrite(box: Box, fd: int, array: int, count: int, position: int, result: int) -> int:
    return _write(box, fd, array, count, result, position)


def fd_close(box: Box, fd: int) -> int:
    box.files.open_files.close(fd)
    return 0


def fd_seek(box: Box, fd: int, offset: int, whence: int, result: int) -> int:
    box.memory.set_u64(result, 0)
    box.memory.set_u64(result, box.files.open_files.seek(fd, offset, whence))
    return 0


def fd_sync(box: Box, fd: int) -> int:
    box.files.open_files.get(fd)
    return 0


def fd_fdstat_get(box: Box, fd: int, buffer: int) -> int:
    box.memory.write(buffer, pack_fdstat(box.files.open_files.get(fd).node))
    return 0


def fstat64(box: Box, fd: int, buffer: int) -> int:
    return write_stat(box, box.files.open_files.get(fd).node, buffer)


def fstatfs64(box: Box, fd: int, _size: int, buffer: int) -> int:
    box.files.open_files.get(fd)
    return write_statfs(box, buffer)


def fchdir(box: Box, fd: int) -> int:
    box.files.change_directory(box.files.open_files.get(fd).node)
    return 0


def fchmod(box: Box, fd: int, permissions: int) -> int:
    box.files.tree.set_permissions(box.files.open_files.get(fd).node, permissions)
    return 0


def fchown32(box: Box, fd: int, _owner: int, _group: int) -> int:
    box.files.open_files.get(fd)
    return 0


def ftruncate64(box: Box, fd: int, size: int) -> int:
    box.files.open_files.resize(fd, size)
    return 0


def fallocate(box: Box, fd: int, mode: int, offset: int, length: int) -> int:
    if mode:
        raise FsError(errno.EOPNOTSUPP)
    box.files.open_files.allocate(fd, offset, length)
    return 0


def fadvise64(box: Box, fd: int, _offset: int, _length: int, _advice: int) -> int:
    box.files.open_files.get(fd)
    return 0


def dup(box: Box, fd: int) -> int:
    return box.files.open_files.add(box.files.open_files.get(fd))


def dup3(box: Box, fd: int, new_fd: int, flags: int) -> int:
    if flags & ~_O_CLOEXEC:
        raise FsError(errno.EINVAL)
    return box.files.open_files.duplicate_to(fd, new_fd, close_on_exec=bool(flags))


def ioctl(box: Box, fd: int, _request: int, _varargs: int) -> int:
    box.files.open_files.get(fd)
    return -errno.ENOTTY


def getdents64(box: Box, fd: int, buffer: int, size: int) -> int:
    if size < DIRENT_BYTES:
        raise FsError(errno.EINVAL)
    count = min(size // DIRENT_BYTES, MAX_DIRENTS)
    if buffer + count * DIRENT_BYTES > box.memory.size:
        raise MemoryFault
    found = box.files.open_files.list_directory(fd, count)
    data = b"".join([pack_dirent(name, node, position) for name, node, position in found])
    box.memory.write(buffer, data)
    return len(data)


def fcntl64(box: Box, fd: int, command: int, varargs: int) -> int:
    open_files = box.files.open_files
    open_file = open_files.get(fd)
    if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
        lowest = box.memory.u32(varargs)
        if lowest >= MAX_DESCRIPTORS:
            raise FsError(errno.EINVAL)
        return open_files.add(open_file, lowest=lowest, close_on_exec=command == _F_DUPFD_CLOEXEC)
    if command == _F_GETFD:
        return _FD_CLOEXEC if fd in open_files.close_on_exec else 0
    if command == _F_SETFD:
        change = (
            open_files.close_on_exec.add if box.memory.u32(varargs) & _FD_CLOEXEC else open_files.close_on_exec.discard
        )
        change(fd)
        return 0
    if command == _F_GETFL:
        return open_file.flags
    if command == _F_SETFL:
        open_file.flags = open_file.flags & ~_SETTABLE | box.memory.u32(varargs) & _SETTABLE
        return 0
    return _lock(box, command, varargs)


def _lock(box: Box, command: int, varargs: int) -> int:
    """Advisory locks: nobody else could hold one."""
    if command == _F_GETLK:
        box.memory.write(box.memory.u32(varargs), _F_UNLCK.to_bytes(2, "little"))
        return 0
    if command in (_F_SETLK, _F_SETLKW):
        return 0
    raise FsError(errno.EINVAL)


def poll(box: Box, array: int, count: int, _timeout_ms: int) -> int:
    if count > MAX_POLLED:
        raise FsError(errno.EINVAL)
    box.memory.read(array, 8 * count)
    ready = 0
    for entry in range(array, array + 8 * count, 8):
        word = box.memory.u32(entry + 4)
        fd = box.memory.u32(entry)
        events = _POLLIN_OUT if fd in box.files.open_files.table else _POLLNVAL
        events &= word | _POLL_ALWAYS | _POLLNVAL
        if signed(fd) < 0:
            events = 0
        ready += bool(events)
        box.memory.set_u32(entry + 4, word & 0xFFFF | events << 16)
    return ready


_BOUNDED = "in-memory files; at most 1024 pieces and 64 MiB per call"
IMPORTS: dict[str, Import] = {
    "fd_read": wasi(fd_read, "real", f"{_BOUNDED}; stdin is at its end"),
    "fd_pread": wasi(fd_pread, "real", _BOUNDED),
    "fd_write": wasi(
        fd_write, "real", f"{_BOUNDED}; the quota counts; stdout and stderr are output of the cell, capped"
    ),
    "fd_pwrite": wasi(fd_pwrite, "real", f"{_BOUNDED}; the quota counts"),
    "fd_close": wasi(fd_close, "real", "the sandbox's own descriptor table, 256 at most"),
    "fd_seek": wasi(fd_seek, "real", "position of an in-memory file"),
    "fd_sync": wasi(fd_sync, "benign", "memory needs no flush"),
    "fd_fdstat_get": wasi(fd_fdstat_get, "real", "file, directory or unknown; never a terminal"),
    "__syscall_fstat64": syscall(fstat64, "real", "metadata of an in-memory node"),
    "__syscall_fstatfs64": syscall(fstatfs64, "real", "the sandbox's own quotas, nothing of the host's disk"),
    "__syscall_fchdir": syscall(fchdir, "real", "working directory inside the sandbox"),
    "__syscall_fchmod": syscall(fchmod, "real", "bits are stored, not enforced"),
    "__syscall_fchown32": syscall(fchown32, "benign", "there is one user; stores nothing"),
    "__syscall_ftruncate64": syscall(ftruncate64, "real", "holes count against the quota"),
    "__syscall_fallocate": syscall(fallocate, "real", "extends within the quota; modes get EOPNOTSUPP"),
    "__syscall_fadvise64": syscall(fadvise64, "benign", "advice about caching, nothing to cache"),
    "__syscall_fdatasync": syscall(fd_sync, "benign", "memory needs no flush"),
    "__syscall_dup": syscall(dup, "real", "the sandbox's own descriptor table"),
    "__syscall_dup3": syscall(dup3, "real", "the sandbox's own descriptor table"),
    "__syscall_ioctl": syscall(ioctl, "errno", "ENOTTY: no device has controls"),
    "__syscall_getdents64": syscall(getdents64, "real", "at most 1024 entries per call"),
    "__syscall_fcntl64": syscall(
        fcntl64, "real", "duplication and flags; advisory locks always succeed, no one else is there"
    ),
    "__syscall_poll": syscall(
        poll, "benign", "answers at once without waiting: every open descriptor is ready; 256 at most"
    ),
    "_mmap_js": constant(
        -errno.ENODEV, "real", "a copy of the file, read through `fd_pread`; answered in the shim, without one ENODEV"
    ),
    "_munmap_js": constant(
        -errno.EINVAL, "real", "what changed goes back through `fd_pwrite`; answered in the shim, without one EINVAL"
    ),
    "_msync_js": constant(-errno.EINVAL, "real", "as munmap; answered in the shim, without one EINVAL"),
}
