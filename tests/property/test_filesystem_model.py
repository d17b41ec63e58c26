"""The in-memory file system against a real one: the same operations give the same results and the same error names.

The model is a temporary directory of the host. Paths have no `..` and links no absolute target, so nothing leaves it.
"""

from __future__ import annotations

import errno as host_errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cloche.wasm_sandbox import errno as guest_errno
from cloche.wasm_sandbox.filesystem import FileSystem, FsError
from cloche.wasm_sandbox.filesystem import descriptors as flags_of
from cloche.wasm_sandbox.filesystem.nodes import File, Symlink
from cloche.wasm_sandbox.filesystem.system import AT_FDCWD

GUEST_NAMES = {value: name for name, value in vars(guest_errno).items() if name.startswith("E")}
FLAGS = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW")
MAX_OPEN = 6

names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
dotted = st.tuples(paths, st.sampled_from(["", "", "", "/", "/."])).map("".join)
contents = st.binary(max_size=8)
offsets = st.integers(0, 20)


def outcome(action: Callable[[], object]) -> object:
    """The result, or the name of the error."""
    try:
        return action()
    except FsError as exc:
        return GUEST_NAMES[exc.errno]
    except OSError as exc:
        return host_errno.errorcode[exc.errno or 0]


class SameAsTheHost(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="cloche-model-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.files = FileSystem({}, 1_000, 1_000_000, lambda: 0)
        self.files.change_directory(self.files.node(AT_FDCWD, b"/tmp", follow=True))
        self.open: list[tuple[int, int, bool]] = []
        """Descriptor in the sandbox, on the host, opened for appending."""

    def teardown(self) -> None:
        for _, host_fd, _ in self.open:
            os.close(host_fd)
        shutil.rmtree(self.root)

    def same(self, guest: Callable[[], object], host: Callable[[], object]) -> object:
        guest_result, host_result = outcome(guest), outcome(host)
        assert guest_result == host_result
        return guest_result

    def place(self, path: str) -> str:
        return f"{self.root}/{path}"

    @precondition(lambda self: len(self.open) < MAX_OPEN)
    @rule(path=paths, access=st.sampled_from(["O_RDONLY", "O_WRONLY", "O_RDWR"]), extra=st.sets(st.sampled_from(FLAGS)))
    def open_file(self, path: str, access: str, extra: set[str]) -> None:
        if access == "O_RDONLY":
            extra -= {"O_TRUNC"}  # unspecified
        if "O_CREAT" in extra:
            extra -= {"O_DIRECTORY"}  # kernels differ
        if "O_CREAT" not in extra:
            extra -= {"O_EXCL"}  # undefined
        guest = sum(getattr(flags_of, name) for name in [access, *extra])
        host = sum(getattr(os, name) for name in [access, *extra])
        opened: list[int] = []

        def on_host() -> bool:
            opened.append(os.open(self.place(path), host))
            return True

        def in_guest() -> bool:
            opened.append(self.files.open(AT_FDCWD, path.encode(), guest, 0o666))
            return True

        if self.same(in_guest, on_host) is True:
            self.open.append((opened[0], opened[1], "O_APPEND" in extra))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), content=contents)
    def write(self, data: st.DataObject, content: bytes) -> None:
        guest, host, _ = data.draw(st.sampled_from(self.open))
        self.same(lambda: self.files.open_files.write(guest, content), lambda: os.write(host, content))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), content=contents, at=offsets)
    def write_at(self, data: st.DataObject, content: bytes, at: int) -> None:
        guest, host, append = data.draw(st.sampled_from(self.open))
        if not append:  # Linux appends there, against POSIX
            self.same(lambda: self.files.open_files.write(guest, content, at), lambda: os.pwrite(host, content, at))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=offsets, at=st.none() | offsets)
    def read(self, data: st.DataObject, size: int, at: int | None) -> None:
        guest, host, _ = data.draw(st.sampled_from(self.open))
        self.same(
            lambda: self.files.open_files.read(guest, size, at),
            lambda: os.read(host, size) if at is None else os.pread(host, size, at),
        )

    @precondition(lambda self: self.open)
    @rule(data=st.data(), offset=st.integers(-5, 30), whence=st.integers(0, 2))
    def seek(self, data: st.DataObject, offset: int, whence: int) -> None:
        guest, host, _ = data.draw(st.sampled_from(self.open))
        if isinstance(self.files.open_files.get(guest).node, File):
            self.same(lambda: self.files.open_files.seek(guest, offset, whence), lambda: os.lseek(host, offset, whence))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=offsets)
    def truncate_open_file(self, data: st.DataObject, size: int) -> None:
        guest, host, _ = data.draw(st.sampled_from(self.open))
        self.same(lambda: self.files.open_files.resize(guest, size), lambda: os.ftruncate(host, size))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.open))
        self.open.remove(entry)
        self.same(lambda: self.files.open_files.close(entry[0]), lambda: os.close(entry[1]))

    @rule(path=paths, size=offsets)
    def truncate(self, path: str, size: int) -> None:
        def in_guest() -> None:
            self.files.resize(self.files.node(AT_FDCWD, path.encode(), follow=True), size)

        self.same(in_guest, lambda: os.truncate(self.place(path), size))

    @rule(path=dotted)
    def make_directory(self, path: str) -> None:
        def in_guest() -> None:
            self.files.make_directory(AT_FDCWD, path.encode(), 0o777)

        self.same(in_guest, lambda: os.mkdir(self.place(path)))

    @rule(path=dotted)
    def remove_directory(self, path: str) -> None:
        place = self.place(path)
        if not os.path.islink(place.rstrip("/")):  # `rmdir link/`: Linux says ENOTDIR, POSIX removes the target
            self.same(
                lambda: self.files.tree.remove_directory(self.files.find(AT_FDCWD, path.encode(), follow=False)),
                lambda: os.rmdir(place),
            )

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.same(
            lambda: self.files.tree.unlink(self.files.find(AT_FDCWD, path.encode(), follow=False)),
            lambda: os.unlink(self.place(path)),
        )

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        def in_guest() -> None:
            source = self.files.find(AT_FDCWD, old.encode(), follow=False)
            self.files.tree.rename(source, self.files.find(AT_FDCWD, new.encode(), follow=False))

        self.same(in_guest, lambda: os.rename(self.place(old), self.place(new)))

    @rule(to=paths | paths.map("{}/.".format), path=paths)  # with a slash: O_CREAT says EISDIR before it looks
    def make_link(self, to: str, path: str) -> None:
        def in_guest() -> None:
            self.files.tree.new_symlink(self.files.find(AT_FDCWD, path.encode(), follow=False), to.encode())

        self.same(in_guest, lambda: os.symlink(to, self.place(path)))

    @rule(path=paths)
    def read_link(self, path: str) -> None:
        def in_guest() -> str:
            node = self.files.node(AT_FDCWD, path.encode(), follow=False)
            if not isinstance(node, Symlink):
                raise FsError(guest_errno.EINVAL)
            return node.target.decode()

        self.same(in_guest, lambda: os.readlink(self.place(path)))

    @rule(path=dotted, follow=st.booleans())
    def look(self, path: str, follow: bool) -> None:
        def in_guest() -> tuple[int, int | None]:
            node = self.files.node(AT_FDCWD, path.encode(), follow=follow)
            return stat.S_IFMT(node.mode), node.size if isinstance(node, File | Symlink) else None

        def on_host() -> tuple[int, int | None]:
            found = os.stat(self.place(path), follow_symlinks=follow)
            kind = stat.S_IFMT(found.st_mode)
            return kind, None if kind == stat.S_IFDIR else found.st_size

        self.same(in_guest, on_host)

    @invariant()
    def trees_are_the_same(self) -> None:
        root = self.files.node(AT_FDCWD, b"/tmp", follow=True)
        guest = {p.decode(): bytes(node.data) for p, node, _ in self.files.tree.files_under(root, b"")}  # type: ignore[arg-type]
        plain = [p for p in Path(self.root).rglob("*") if p.is_file() and not p.is_symlink()]
        assert guest == {str(p)[len(self.root) :]: p.read_bytes() for p in plain}


@pytest.mark.guarantee("G02")
def test_file_system_behaves_like_the_hosts() -> None:
    run_state_machine_as_test(SameAsTheHost, settings=settings(max_examples=40, stateful_step_count=40))
