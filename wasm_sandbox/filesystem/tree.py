"""The tree of files: looking paths up, making, moving and removing nodes, changing contents.

Rules: every walk is bounded (path length, name length, number of symbolic links); the quota is asked before anything is
allocated; nodes of the image are never changed. Permission bits are stored and not enforced: the guest is its own root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

from .. import errno
from .nodes import Directory, File, FsError, Node, Quota, Symlink

NAME_MAX = 255
PATH_MAX = 4095
"""Bytes of one path, without its NUL."""
IMAGE_TIME_NS = 1_767_225_600 * 1_000_000_000
"""Times of what the sandbox begins with (2026-01-01): a constant, so that equal images make equal trees."""
MAX_LINKS = 40
"""Symbolic links followed in one lookup."""
_ZEROS = bytes(1 << 20)
_SLACK_BYTES = 4096
"""Unused room of a bytearray that is not worth a copy."""


class Place(NamedTuple):
    """Where a path leads: a name in a directory, and the node there if there is one.

    `name` is empty when the path ends in the root, `.` or `..`.
    """

    parent: Directory
    name: bytes
    node: Node | None
    slash: bool
    """The path ended in a slash; only for names that do not exist yet (an existing one is then a directory)."""


class Tree:
    """Nodes and what may be done with them. Paths are relative to the directory given."""

    def __init__(self, quota: Quota, clock: Callable[[], int]) -> None:
        self.quota = quota
        self.generation = 0
        """Rises with every change; compare with `Node.placed` and `File.written`."""
        self._clock = clock
        self.next_ino = 2
        self.root = Directory(1, 0o755, IMAGE_TIME_NS, IMAGE_TIME_NS, IMAGE_TIME_NS, fixed=True)
        self.root.parent = self.root

    # --- looking up ---------------------------------------------------------------------------------------------------

    def find(self, start: Directory, path: bytes, *, follow: bool = True) -> Place:
        """Where the path leads. The last name need not exist; all before it must be directories.

        Args:
            follow: a symbolic link at the end is followed too.
        """
        rest = _components(path)
        parent = self._base(start, path)
        last, node, links = b"", cast("Node", parent), 0
        while rest:
            name = rest.pop()
            if name in (b"", b"."):
                last = b"" if name else last
                continue
            if not isinstance(node, Directory):
                raise FsError(errno.ENOTDIR)
            if name == b"..":
                parent = node = node.parent
                last = b""
                continue
            parent, last, node = node, name, _child(node, name, rest)
            if node is _MISSING:
                return Place(parent, last, None, bool(rest))
            if isinstance(node, Symlink) and (follow or rest):
                links += 1
                if links > MAX_LINKS:
                    raise FsError(errno.ELOOP)
                rest.extend(_components(node.target))
                node = parent = self._base(parent, node.target)
                last = b""
            elif rest and not isinstance(node, Directory):
                raise FsError(errno.ENOTDIR)
        return Place(parent, last, node, False)

    def get(self, start: Directory, path: bytes, *, follow: bool = True) -> Node:
        """The node at the path, which must exist."""
        node = self.find(start, path, follow=follow).node
        if node is None:
            raise FsError(errno.ENOENT)
        return node

    def get_directory(self, start: Directory, path: bytes) -> Directory:
        node = self.get(start, path)
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR)
        return node

    def path_of(self, directory: Directory) -> bytes:
        """Absolute path of a directory, at most PATH_MAX bytes."""
        names: list[bytes] = []
        length = 0
        while directory is not self.root:
            name = _name_in_parent(directory)
            length += len(name) + 1
            if length > PATH_MAX:
                raise FsError(errno.ENAMETOOLONG)
            names.append(name)
            directory = directory.parent
        return b"/" + b"/".join(reversed(names))

    def files_under(self, start: Directory, prefix: bytes) -> Iterator[tuple[bytes, File, int]]:
        """Plain files of the guest below a directory: path, node, and the generation at which it came to its place.

        No link is followed. What lies deeper than a path can say is left out; no host call could name it.
        """
        stack = [(prefix, start, 0)]
        while stack:
            path, directory, placed = stack.pop()
            for name, node in directory.entries.items():
                below = path + b"/" + name
                if len(below) > PATH_MAX:
                    continue
                came = max(placed, node.placed)
                if isinstance(node, Directory):
                    stack.append((below, node, came))
                elif isinstance(node, File) and not node.sealed:
                    yield below, node, came

    # --- making -------------------------------------------------------------------------------------------------------

    def new_file(self, place: Place, permissions: int) -> File:
        self._check_new(place)
        self.quota.take_file()
        file = File(self._next_inode(), permissions & 0o7777, *self._now3())
        file.written = self._put(place, file)
        return file

    def new_directory(self, place: Place, permissions: int) -> Directory:
        self._check_new(place)
        self.quota.take_file()
        directory = Directory(self._next_inode(), permissions & 0o7777, *self._now3(), parent=place.parent)
        self._put(place, directory)
        return directory

    def new_symlink(self, place: Place, target: bytes) -> Symlink:
        if not target or b"\0" in target:
            raise FsError(errno.ENOENT if not target else errno.EINVAL)
        if len(target) > PATH_MAX:
            raise FsError(errno.ENAMETOOLONG)
        self._check_new(place)
        self.quota.take_bytes(len(target))
        try:
            self.quota.take_file()
        except FsError:
            self.quota.bytes -= len(target)
            raise
        link = Symlink(self._next_inode(), 0o777, *self._now3(), target=target)
        self._put(place, link)
        return link

    # --- removing and moving ------------------------------------------------------------------------------------------

    def unlink(self, place: Place) -> None:
        if isinstance(place.node, Directory):
            raise FsError(errno.EISDIR)
        self._take_out(place, self._check_removable(place))

    def remove_directory(self, place: Place) -> None:
        if not place.name and place.node is not self.root:
            raise FsError(errno.EINVAL)
        node = self._check_removable(place)
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR)
        if node.entries:
            raise FsError(errno.ENOTEMPTY)
        self._take_out(place, node)

    def rename(self, old: Place, new: Place) -> None:
        """Move a node; one that is in the way is replaced if the kinds allow it."""
        node = self._check_removable(old)
        if new.node is node:
            return
        if isinstance(node, Directory) and _is_inside(new.parent, node):
            raise FsError(errno.EINVAL)
        if new.node is None:
            if new.slash and not isinstance(node, Directory):
                raise FsError(errno.ENOTDIR)
            self._check_new(new)
        else:
            self._check_replaceable(node, new)
            self._take_out(new, new.node)
        del old.parent.entries[old.name]
        self._touch(old.parent)
        if isinstance(node, Directory):
            node.parent = new.parent
        self._put(new, node)
        node.ctime_ns = self._clock()

    def release(self, node: Node) -> None:
        """Give back what a node used, once it has neither a name nor an open description."""
        if not node.linked and not (isinstance(node, File) and node.opens):
            self.quota.give_back(node)

    # --- contents and attributes --------------------------------------------------------------------------------------

    def write(self, file: File, position: int, data: bytes) -> int:
        """Write all of `data`, filling a hole before it with zeros. ENOSPC: nothing was written."""
        if not data:
            return 0
        content = _writable(file)
        end = position + len(data)
        if end > len(content):
            self.quota.take_bytes(end - len(content))
            _fill(content, min(position, end))
        content[position:end] = data
        self._changed(file)
        return len(data)

    def resize(self, file: File, size: int) -> None:
        """Cut the file or extend it with zeros, which count."""
        content = _writable(file)
        if size > len(content):
            self.quota.take_bytes(size - len(content))
            _fill(content, size)
        elif size < len(content):
            self.quota.bytes -= len(content) - size
            del content[size:]
            # A shortened bytearray may keep its old room; the quota counts lengths, so the room has to follow them.
            if content.__alloc__() > size + size // 8 + _SLACK_BYTES:
                file.data = bytearray(content)
        self._changed(file)

    def set_permissions(self, node: Node, permissions: int) -> None:
        if node.sealed:
            raise FsError(errno.EROFS)
        node.permissions = permissions & 0o7777
        node.ctime_ns = self._clock()

    def set_times(self, node: Node, atime_ns: int | None, mtime_ns: int | None) -> None:
        """None leaves a time as it is."""
        if node.sealed:
            raise FsError(errno.EROFS)
        node.atime_ns = node.atime_ns if atime_ns is None else atime_ns
        node.mtime_ns = node.mtime_ns if mtime_ns is None else mtime_ns
        node.ctime_ns = self._clock()

    def now_ns(self) -> int:
        return self._clock()

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _base(self, directory: Directory, path: bytes) -> Directory:
        return self.root if path.startswith(b"/") else directory

    def add_fixed(self, directory: Directory, name: bytes, node: Node) -> None:
        """Place a node of the sandbox itself, outside the quota."""
        node.ino, node.fixed = self._next_inode(), True
        node.atime_ns = node.mtime_ns = node.ctime_ns = IMAGE_TIME_NS
        if isinstance(node, Directory):
            node.parent = directory
        directory.entries[name] = node

    def _next_inode(self) -> int:
        self.next_ino += 1
        return self.next_ino - 1

    def _now3(self) -> tuple[int, int, int]:
        now = self._clock()
        return now, now, now

    def _check_new(self, place: Place) -> None:
        """May a new name be put there?"""
        if place.node is not None:
            raise FsError(errno.EEXIST)
        if place.parent.sealed:
            raise FsError(errno.EROFS)
        if not place.parent.linked:
            raise FsError(errno.ENOENT)
        if b"\0" in place.name:
            raise FsError(errno.EINVAL)
        try:
            place.name.decode()
        except UnicodeDecodeError:
            raise FsError(errno.EILSEQ) from None

    def _check_removable(self, place: Place) -> Node:
        node = place.node
        if node is None:
            raise FsError(errno.ENOENT)
        if node.sealed or place.parent.sealed:
            raise FsError(errno.EROFS)
        if node.fixed or not place.name:
            raise FsError(errno.EBUSY)
        return node

    def _check_replaceable(self, node: Node, new: Place) -> None:
        target = self._check_removable(new)
        if isinstance(node, Directory):
            if not isinstance(target, Directory):
                raise FsError(errno.ENOTDIR)
            if target.entries:
                raise FsError(errno.ENOTEMPTY)
        elif isinstance(target, Directory):
            raise FsError(errno.EISDIR)

    def _put(self, place: Place, node: Node) -> int:
        self.generation += 1
        node.placed = self.generation
        place.parent.entries[place.name] = node
        self._touch(place.parent)
        return self.generation

    def _take_out(self, place: Place, node: Node) -> None:
        del place.parent.entries[place.name]
        node.linked = False
        self._touch(place.parent)
        self.release(node)

    def _touch(self, directory: Directory) -> None:
        directory.mtime_ns = directory.ctime_ns = self._clock()

    def _changed(self, file: File) -> None:
        self.generation += 1
        file.written = self.generation
        file.mtime_ns = file.ctime_ns = self._clock()


_MISSING = Node(0, 0, 0, 0, 0)
"""Stands for a last name that does not exist. Never placed in a tree."""


def _components(path: bytes) -> list[bytes]:
    """The names of a path, last one first."""
    if not path:
        raise FsError(errno.ENOENT)
    if len(path) > PATH_MAX:
        raise FsError(errno.ENAMETOOLONG)
    return path.split(b"/")[::-1]


def _child(directory: Directory, name: bytes, rest: list[bytes]) -> Node:
    if len(name) > NAME_MAX:
        raise FsError(errno.ENAMETOOLONG)
    child = directory.entries.get(name)
    if child is not None:
        return child
    if any(rest):
        raise FsError(errno.ENOENT)
    return _MISSING


def _name_in_parent(directory: Directory) -> bytes:
    for name, node in directory.parent.entries.items():
        if node is directory:
            return name
    raise FsError(errno.ENOENT)


def _is_inside(directory: Directory, ancestor: Directory) -> bool:
    while directory is not ancestor:
        if directory.parent is directory:
            return False
        directory = directory.parent
    return True


def _writable(file: File) -> bytearray:
    if file.sealed or not isinstance(file.data, bytearray):
        raise FsError(errno.EROFS)
    return file.data


def _fill(content: bytearray, size: int) -> None:
    """Extend with zeros up to `size`, in steps, so that no second copy of a large hole is made."""
    while len(content) < size:
        content += _ZEROS[: size - len(content)]
