"""The file system of one sandbox: a tree over the image's files, a descriptor table, a working directory, quotas.

The guest reaches it through the host imports; the host reads and writes files through `read_file`, `write_file`,
`list_files` and `changed_under`. There is no way from here to a host file: contents are bytes in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...runtime.plain import dataclass
from .. import errno
from .descriptors import (
    O_ACCMODE,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    Descriptors,
    OpenFile,
    Output,
)
from .nodes import Device, DeviceName, Directory, File, FsError, Node, Quota
from .tree import PATH_MAX, Place, Tree

AT_FDCWD = 0xFFFFFF9C
"""-100 as the guest passes it."""
_DEVICES: tuple[DeviceName, ...] = ("null", "stdin", "stdout", "stderr", "urandom")
DEFAULT_OUTPUT_BYTES = 64 * 1024
_KEPT_FLAGS = O_ACCMODE | O_APPEND | O_NONBLOCK


def _nowhere(_stream: int, _data: bytes) -> None:
    """Without a taker, raw output is dropped."""


def _no_bytes(_size: int) -> bytes:
    return b""


@dataclass(slots=True, eq=False, repr=False)
class _Contents:
    tree: Tree
    open_files: Descriptors
    cwd: Directory


class FileSystem:
    """All files of one sandbox. Used by one thread at a time."""

    def __init__(
        self,
        base_files: Mapping[str, memoryview | bytes],
        max_files: int,
        max_bytes: int,
        clock: Callable[[], int],
        *,
        random: Callable[[int], bytes] | None = None,
        output: Output = _nowhere,
    ) -> None:
        """
        Args:
            base_files: absolute path to content, shared and never copied; they and their folders are read-only. The
                guest may write everywhere else: in `/`, `/tmp`, `/out` and its home, and those folders stay.
            max_files: files, directories and links that may exist beside them.
            max_bytes: bytes of those files.
            clock: wall clock in nanoseconds (`World.time_ns`).
            random: source of `/dev/urandom` (`World.random`); without one it reads as empty.
            output: takes raw output of descriptors 1 and 2 that did not go through the guest's runner.
        """
        self.quota = Quota(max_files, max_bytes)
        self.output = output
        self.output_left = DEFAULT_OUTPUT_BYTES
        """Bytes of raw output that are still passed on; the owner sets it anew for each cell. The rest is dropped."""
        self.output_dropped = 0
        self.umask = 0o022
        self._base_files = base_files
        self._clock = clock
        self._random = random or _no_bytes
        self._contents: _Contents | None = None

    @property
    def tree(self) -> Tree:
        return self._made().tree

    @property
    def open_files(self) -> Descriptors:
        return self._made().open_files

    @property
    def cwd(self) -> Directory:
        return self._made().cwd

    def _made(self) -> _Contents:
        """Made when a file is first needed: most cells need none, and everybody waits for a start."""
        contents = self._contents
        if contents is None:
            tree = Tree(self.quota, self._clock)
            cwd, streams = _furnish(tree, self._base_files)
            open_files = Descriptors(tree, self._random, self.raw_output)
            for device, flags in zip(streams, (O_RDONLY, O_WRONLY, O_WRONLY), strict=True):
                open_files.add(OpenFile(device, flags))
            contents = self._contents = _Contents(tree, open_files, cwd)
        return contents

    def limit(self, *, max_files: int, max_bytes: int) -> None:
        """Other quotas than at creation. What exists stays, also above them."""
        self.quota.max_files, self.quota.max_bytes = max_files, max_bytes

    def close(self) -> None:
        """Drop all contents now: folders refer to each other, and nobody wants to wait for the garbage collector."""
        contents = self._contents
        if contents is None:
            return
        contents.open_files.table.clear()
        stack = [contents.tree.root]
        while stack:
            directory = stack.pop()
            stack.extend(node for node in directory.entries.values() if isinstance(node, Directory))
            directory.entries = {}
        contents.cwd = contents.tree.root

    # --- for the host imports -----------------------------------------------------------------------------------------

    def at(self, dirfd: int, path: bytes) -> Directory:
        """The directory from which `path` is looked up, given the descriptor of an `...at` call."""
        if dirfd == AT_FDCWD or path.startswith(b"/"):
            return self.cwd
        node = self.open_files.get(dirfd).node
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR)
        return node

    def find(self, dirfd: int, path: bytes, *, follow: bool) -> Place:
        return self.tree.find(self.at(dirfd, path), path, follow=follow)

    def node(self, dirfd: int, path: bytes, *, follow: bool, allow_empty: bool = False) -> Node:
        """The node that an `...at` call means. With `allow_empty`, no path means the descriptor itself."""
        if allow_empty and not path:
            return self.cwd if dirfd == AT_FDCWD else self.open_files.get(dirfd).node
        return self.tree.get(self.at(dirfd, path), path, follow=follow)

    def open(self, dirfd: int, path: bytes, flags: int, permissions: int) -> int:
        """`openat`: a new descriptor."""
        if flags & O_ACCMODE == O_ACCMODE or (flags & O_CREAT and flags & O_DIRECTORY):
            raise FsError(errno.EINVAL)
        self.open_files.check_room()
        follow = not flags & O_NOFOLLOW and not (flags & O_CREAT and flags & O_EXCL)
        place = self.find(dirfd, path, follow=follow)
        node = place.node
        if node is None:
            node = self._create(place, flags, permissions)
        else:
            self._check_open(node, flags)
            if flags & O_TRUNC and flags & O_ACCMODE != O_RDONLY and isinstance(node, File):
                self.tree.resize(node, 0)
        return self.open_files.add(OpenFile(node, flags & _KEPT_FLAGS), close_on_exec=bool(flags & O_CLOEXEC))

    def make_directory(self, dirfd: int, path: bytes, permissions: int) -> Directory:
        """`mkdirat`. Slashes at the end mean nothing, so that a file or link there is simply in the way."""
        bare = path.rstrip(b"/") or path[:1]
        return self.tree.new_directory(self.find(dirfd, bare, follow=False), permissions & ~self.umask)

    def change_directory(self, node: Node) -> None:
        if not isinstance(node, Directory):
            raise FsError(errno.ENOTDIR)
        self._made().cwd = node

    def working_directory(self) -> bytes:
        if not self.cwd.linked:
            raise FsError(errno.ENOENT)
        return self.tree.path_of(self.cwd)

    def resize(self, node: Node, size: int) -> None:
        """`truncate`."""
        if isinstance(node, Directory):
            raise FsError(errno.EISDIR)
        if not isinstance(node, File) or size < 0:
            raise FsError(errno.EINVAL)
        self.tree.resize(node, size)

    def raw_output(self, stream: int, data: bytes) -> None:
        """Pass on what reached raw stdout (1) or stderr (2), as far as `output_left` goes; count the rest."""
        passed = data[: self.output_left]
        self.output_left -= len(passed)
        self.output_dropped += len(data) - len(passed)
        if passed:
            self.output(stream, passed)

    # --- for the host -------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Rises with every change; a marker for `changed_under`."""
        return 0 if self._contents is None else self._contents.tree.generation

    def read_file(self, path: str) -> bytes:
        """Content of a plain file; links are followed, inside the sandbox. Raises FsError."""
        node = self.tree.get(self.cwd, _encode(path))
        if isinstance(node, Directory):
            raise FsError(errno.EISDIR)
        if not isinstance(node, File):
            raise FsError(errno.EINVAL)
        return bytes(node.data)

    def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a plain file, with the folders above it. The quota counts.

        Raises:
            FsError: nothing was changed, except that folders may have been made.
        """
        raw = _encode(path)
        self._make_folders_above(raw)
        place = self.tree.find(self.cwd, raw)
        if place.node is not None:
            self._check_open(place.node, O_WRONLY)
            if not isinstance(place.node, File):
                raise FsError(errno.EINVAL)
        replaced = 0 if place.node is None else place.node.size
        self.quota.check_bytes(len(data) - replaced)
        file = place.node if isinstance(place.node, File) else self._create(place, O_CREAT, 0o666)
        self.tree.resize(file, 0)
        self.tree.write(file, 0, data)

    def list_files(self) -> list[str]:
        """Absolute paths of all plain files that are not part of the image, sorted."""
        return sorted(path.decode() for path, _, _ in self.tree.files_under(self.tree.root, b""))

    def changed_under(self, folder: str, since: int) -> list[tuple[str, int]]:
        """Plain files under `folder` that are new, moved there or changed after the marker `since`: path and size,
        sorted by path. No link is followed."""
        raw = _encode(folder).rstrip(b"/")
        found = self.tree.files_under(self.tree.get_directory(self.tree.root, raw or b"/"), raw)
        return sorted((path.decode(), node.size) for path, node, came in found if max(came, node.written) > since)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _create(self, place: Place, flags: int, permissions: int) -> File:
        if not flags & O_CREAT:
            raise FsError(errno.ENOENT)
        if place.slash:
            raise FsError(errno.EISDIR)
        return self.tree.new_file(place, permissions & ~self.umask)

    def _check_open(self, node: Node, flags: int) -> None:
        """May an existing node be opened so?"""
        if flags & O_CREAT and flags & O_EXCL:
            raise FsError(errno.EEXIST)
        writes = flags & O_ACCMODE in (O_WRONLY, O_RDWR)
        if isinstance(node, Directory):
            if writes or flags & O_CREAT:
                raise FsError(errno.EISDIR)
            return
        if flags & O_DIRECTORY:
            raise FsError(errno.ENOTDIR)
        if not isinstance(node, File | Device):
            raise FsError(errno.ELOOP)  # a link that is not to be followed
        if writes and isinstance(node, File) and node.sealed:
            raise FsError(errno.EROFS)

    def _make_folders_above(self, path: bytes) -> None:
        if len(path) > PATH_MAX:
            raise FsError(errno.ENAMETOOLONG)
        for above in _paths_above(path):
            place = self.tree.find(self.cwd, above)
            if place.node is None:
                self.tree.new_directory(place, 0o755)


def _furnish(tree: Tree, base_files: Mapping[str, memoryview | bytes]) -> tuple[Directory, list[Device]]:
    """Put in what a sandbox begins with; its home, and the devices behind descriptors 0 to 2."""
    root = tree.root
    _add_folder(tree, root, b"tmp")
    _add_folder(tree, root, b"out")
    home = _add_folder(tree, _add_folder(tree, root, b"home"), b"web_user")
    folder = _add_folder(tree, root, b"dev", sealed=True)
    devices = {name: Device(0, 0o666, 0, 0, 0, name=name) for name in _DEVICES}
    for name, device in devices.items():
        tree.add_fixed(folder, name.encode(), device)
    _add_folder(tree, root, b"lib", sealed=True)
    for path, content in base_files.items():
        _add_base_file(tree, path.encode(), content)
    return home, [devices["stdin"], devices["stdout"], devices["stderr"]]


def _add_folder(tree: Tree, parent: Directory, name: bytes, *, sealed: bool = False) -> Directory:
    folder = Directory(0, 0o755, 0, 0, 0, sealed=sealed)
    tree.add_fixed(parent, name, folder)
    return folder


def _add_base_file(tree: Tree, path: bytes, content: memoryview | bytes) -> None:
    *above, name = path.strip(b"/").split(b"/")
    folder = tree.root
    for part in above:
        below = folder.entries.get(part)
        folder = below if isinstance(below, Directory) else _add_folder(tree, folder, part, sealed=True)
    data = memoryview(content).toreadonly()
    tree.add_fixed(folder, name, File(0, 0o444, 0, 0, 0, sealed=True, data=data))


def _paths_above(path: bytes) -> list[bytes]:
    """`/a`, `/a/b` for `/a/b/c`."""
    return [path[:index] for index, byte in enumerate(path) if byte == ord("/") and index]


def _encode(path: str) -> bytes:
    try:
        return path.encode()
    except UnicodeEncodeError:
        raise FsError(errno.EILSEQ) from None
