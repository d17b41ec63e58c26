"""Open files: descriptor numbers, what they share after `dup`, reading, writing and seeking.

The number of descriptors is capped. A read returns no more than the file has; a write asks the quota through the tree.
"""

from __future__ import annotations

from collections.abc import Callable

from ...runtime.plain import dataclass
from .. import errno
from .nodes import Device, Directory, File, FsError, Node
from .tree import Tree

MAX_DESCRIPTORS = 256
MAX_DEVICE_READ_BYTES = 64 * 1024
MAX_OFFSET = (1 << 63) - 1

O_ACCMODE = 0o3
O_RDONLY, O_WRONLY, O_RDWR = 0, 1, 2
O_CREAT = 0o100
O_EXCL = 0o200
O_TRUNC = 0o1000
O_APPEND = 0o2000
O_NONBLOCK = 0o4000
O_DIRECTORY = 0o200000
O_NOFOLLOW = 0o400000
O_CLOEXEC = 0o2000000

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2

Output = Callable[[int, bytes], None]
"""Takes bytes that the guest wrote to its raw stdout (1) or stderr (2)."""


@dataclass(slots=True, eq=False, repr=False)
class OpenFile:
    """An open file description: what all descriptors made by `dup` share."""

    node: Node
    flags: int
    position: int = 0
    listing: tuple[bytes, ...] | None = None
    """Names of a directory as they were when reading it began."""
    descriptors: int = 0


class Descriptors:
    """The descriptor table of one sandbox."""

    def __init__(self, tree: Tree, random: Callable[[int], bytes], output: Output) -> None:
        self.table: dict[int, OpenFile] = {}
        self.close_on_exec: set[int] = set()
        self._tree = tree
        self._random = random
        self._output = output

    def get(self, fd: int) -> OpenFile:
        open_file = self.table.get(fd)
        if open_file is None:
            raise FsError(errno.EBADF)
        return open_file

    def check_room(self) -> None:
        """EMFILE unless one more descriptor fits."""
        if len(self.table) >= MAX_DESCRIPTORS:
            raise FsError(errno.EMFILE)

    def add(self, open_file: OpenFile, *, lowest: int = 0, close_on_exec: bool = False) -> int:
        """The lowest free number from `lowest` on, now meaning `open_file`."""
        for fd in range(lowest, MAX_DESCRIPTORS):
            if fd not in self.table:
                self._assign(fd, open_file, close_on_exec=close_on_exec)
                return fd
        raise FsError(errno.EMFILE)

    def duplicate_to(self, fd: int, new_fd: int, *, close_on_exec: bool) -> int:
        """`dup3`: `new_fd` is closed first if it is open."""
        open_file = self.get(fd)
        if fd == new_fd:
            raise FsError(errno.EINVAL)
        if not 0 <= new_fd < MAX_DESCRIPTORS:
            raise FsError(errno.EBADF)
        if new_fd in self.table:
            self.close(new_fd)
        self._assign(new_fd, open_file, close_on_exec=close_on_exec)
        return new_fd

    def close(self, fd: int) -> None:
        open_file = self.get(fd)
        del self.table[fd]
        self.close_on_exec.discard(fd)
        open_file.descriptors -= 1
        if open_file.descriptors == 0 and isinstance(open_file.node, File):
            open_file.node.opens -= 1
            self._tree.release(open_file.node)

    def _assign(self, fd: int, open_file: OpenFile, *, close_on_exec: bool) -> None:
        if open_file.descriptors == 0 and isinstance(open_file.node, File):
            open_file.node.opens += 1
        open_file.descriptors += 1
        self.table[fd] = open_file
        if close_on_exec:
            self.close_on_exec.add(fd)

    # --- contents -----------------------------------------------------------------------------------------------------

    def read(self, fd: int, size: int, position: int | None = None) -> bytes:
        """At most `size` bytes, from `position` or from where the description stands (which then moves)."""
        open_file = self.get(fd)
        if open_file.flags & O_ACCMODE == O_WRONLY:
            raise FsError(errno.EBADF)
        node = open_file.node
        if isinstance(node, Directory):
            raise FsError(errno.EISDIR)
        if isinstance(node, File):
            start = _at(open_file, position)
            data = bytes(node.data[start : start + size])
            if position is None:
                open_file.position += len(data)
            return data
        if position is not None:
            raise FsError(errno.ESPIPE)
        if isinstance(node, Device) and node.name == "urandom":
            return self._random(min(size, MAX_DEVICE_READ_BYTES))
        return b""

    def write(self, fd: int, data: bytes, position: int | None = None) -> int:
        """Write all of `data`; the number of bytes."""
        open_file = self.get(fd)
        if open_file.flags & O_ACCMODE == O_RDONLY:
            raise FsError(errno.EBADF)
        node = open_file.node
        if isinstance(node, File):
            start = _at(open_file, position)
            if position is None and open_file.flags & O_APPEND and data:
                start = node.size
            written = self._tree.write(node, start, data)
            if position is None:
                open_file.position = start + written
            return written
        if position is not None:
            raise FsError(errno.ESPIPE)
        if isinstance(node, Device) and node.name in ("stdout", "stderr"):
            self._output(1 if node.name == "stdout" else 2, data)
        return len(data)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        """The new position. In a directory positions are those that reading it gave; 0 starts anew."""
        open_file = self.get(fd)
        node = open_file.node
        if not isinstance(node, File | Directory):
            raise FsError(errno.ESPIPE)
        if whence not in (SEEK_SET, SEEK_CUR, SEEK_END):
            raise FsError(errno.EINVAL)
        end = node.size if isinstance(node, File) else 0
        position = offset + (0, open_file.position, end)[whence]
        if position < 0:
            raise FsError(errno.EINVAL)
        if position > MAX_OFFSET:
            raise FsError(errno.EOVERFLOW)
        if position == 0 or position != open_file.position:
            open_file.listing = None
        open_file.position = position
        return position

    def resize(self, fd: int, size: int) -> None:
        """`ftruncate`."""
        self._tree.resize(self._writable_file(fd), _checked_size(size))

    def allocate(self, fd: int, offset: int, length: int) -> None:
        """`fallocate` without flags: the file reaches at least to `offset + length`."""
        file = self._writable_file(fd)
        if offset < 0 or length <= 0:
            raise FsError(errno.EINVAL)
        if offset + length > file.size:
            self._tree.resize(file, offset + length)

    def list_directory(self, fd: int, count: int) -> list[tuple[bytes, Node, int]]:
        """The next `count` entries of an open directory: name, node and the position after it. Empty at the end."""
        open_file = self.get(fd)
        directory = open_file.node
        if not isinstance(directory, Directory):
            raise FsError(errno.ENOTDIR)
        if open_file.listing is None:
            open_file.listing = (b".", b"..", *directory.entries)
        found: list[tuple[bytes, Node, int]] = []
        listing = open_file.listing
        while open_file.position < len(listing) and len(found) < count:
            name = listing[open_file.position]
            open_file.position += 1
            node = {b".": directory, b"..": directory.parent}.get(name) or directory.entries.get(name)
            if node is not None:  # else removed since
                found.append((name, node, open_file.position))
        if open_file.position >= len(listing):
            open_file.listing = ()
        return found

    def _writable_file(self, fd: int) -> File:
        open_file = self.get(fd)
        if not isinstance(open_file.node, File) or open_file.flags & O_ACCMODE == O_RDONLY:
            raise FsError(errno.EINVAL)
        return open_file.node


def _at(open_file: OpenFile, position: int | None) -> int:
    if position is None:
        return open_file.position
    if position < 0:
        raise FsError(errno.EINVAL)
    return position


def _checked_size(size: int) -> int:
    if size < 0:
        raise FsError(errno.EINVAL)
    return size
