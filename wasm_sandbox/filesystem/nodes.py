"""What the tree is made of: plain data, one object per file, with the accounting of what a guest has used.

Nothing here is shared between sandboxes except the bytes of base files, which are read-only.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NoReturn

from ...runtime.plain import dataclass, field
from .. import errno

TYPE_FILE = 0o100000
TYPE_DIRECTORY = 0o040000
TYPE_SYMLINK = 0o120000
TYPE_DEVICE = 0o020000

DeviceName = Literal["null", "stdin", "stdout", "stderr", "urandom"]


class FsError(Exception):
    """A file operation that failed; `errno` is the guest's number (wasm_sandbox/errno.py)."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number

    def __str__(self) -> str:
        return errno.describe(self.errno)


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """What all kinds have in common. Times are nanoseconds since 1970; reads do not touch `atime_ns`."""

    type_bits: ClassVar[int] = 0

    ino: int
    permissions: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    placed: int = 0
    """The tree's generation when the node got its present place (created or renamed)."""
    linked: bool = True
    """False once it has no name any more; an open file can outlive its name."""
    sealed: bool = False
    """Part of the image: neither the node nor a directory's list of entries can be changed."""
    fixed: bool = False
    """Neither removed nor renamed."""

    @property
    def mode(self) -> int:
        return self.type_bits | self.permissions

    @property
    def size(self) -> int:
        return 0


@dataclass(slots=True, eq=False, repr=False)
class File(Node):
    """A plain file. `data` is a memoryview for files of the image."""

    type_bits: ClassVar[int] = TYPE_FILE

    data: bytearray | memoryview = field(default_factory=bytearray)
    written: int = 0
    """The tree's generation at the last change of the content."""
    opens: int = 0
    """Open file descriptions that refer to it."""

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(slots=True, eq=False, repr=False)
class Directory(Node):
    """A folder. The root is its own parent."""

    type_bits: ClassVar[int] = TYPE_DIRECTORY

    entries: dict[bytes, Node] = field(default_factory=dict[bytes, Node])
    parent: Directory = None  # type: ignore[assignment]  # set by whoever makes it: the root refers to itself

    @property
    def size(self) -> int:
        return 4096


@dataclass(slots=True, eq=False, repr=False)
class Symlink(Node):
    """A symbolic link; its target is looked up inside the sandbox like any path."""

    type_bits: ClassVar[int] = TYPE_SYMLINK

    target: bytes = b""

    @property
    def size(self) -> int:
        return len(self.target)


@dataclass(slots=True, eq=False, repr=False)
class Device(Node):
    """One of the few devices."""

    type_bits: ClassVar[int] = TYPE_DEVICE

    name: DeviceName = "null"


@dataclass(slots=True)
class Quota:
    """What the guest may create and what it has. Holes count as bytes; so do targets of symbolic links."""

    max_files: int
    max_bytes: int
    files: int = 0
    bytes: int = 0
    refused: dict[str, int] = field(default_factory=dict[str, int])
    """What was asked for in vain, at its highest, by the name of the limit; whoever reads it empties it."""

    def take_file(self) -> None:
        if self.files >= self.max_files:
            self._refuse("files", self.files + 1)
        self.files += 1

    def take_bytes(self, count: int) -> None:
        """Ask before allocating."""
        self.check_bytes(count)
        self.bytes += count

    def check_bytes(self, count: int) -> None:
        """ENOSPC, and a note of it, unless `count` bytes more fit."""
        if count > self.max_bytes - self.bytes:
            self._refuse("file_bytes", self.bytes + count)

    def _refuse(self, limit: str, wanted: int) -> NoReturn:
        self.refused[limit] = max(wanted, self.refused.get(limit, 0))
        raise FsError(errno.ENOSPC)

    def give_back(self, node: Node) -> None:
        """The node is gone for good."""
        self.files -= 1
        if isinstance(node, File | Symlink):
            self.bytes -= node.size
