"""Reading, writing, seeking, truncating: contents, descriptors and the byte quota."""

from __future__ import annotations

import itertools

import pytest

from cloche.wasm_sandbox import errno
from cloche.wasm_sandbox.filesystem import FileSystem, FsError
from cloche.wasm_sandbox.filesystem.descriptors import (
    MAX_DESCRIPTORS,
    O_APPEND,
    O_CREAT,
    O_DIRECTORY,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
)
from cloche.wasm_sandbox.filesystem.nodes import File
from cloche.wasm_sandbox.filesystem.system import AT_FDCWD

MIB = 1024 * 1024


def make(max_bytes: int = 10_000) -> FileSystem:
    clock = itertools.count(1_000)
    return FileSystem({"/lib/python314.zip": b"zip"}, 50, max_bytes, lambda: next(clock), random=lambda n: b"r" * n)


def new(files: FileSystem, path: str = "/tmp/f", flags: int = O_RDWR) -> int:
    return files.open(AT_FDCWD, path.encode(), flags | O_CREAT, 0o666)


def failure(action: object, *arguments: object) -> int:
    with pytest.raises(FsError) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_what_was_written_is_read_again() -> None:
    files = make()
    fd, io = new(files), files.open_files
    assert io.write(fd, b"hello world") == 11
    assert io.read(fd, 10) == b""
    assert io.seek(fd, 6, 0) == 6
    assert io.read(fd, 100) == b"world"
    assert io.read(fd, 3, 0) == b"hel"
    assert io.write(fd, b"J", 0) == 1
    assert io.seek(fd, -11, 2) == 0
    assert io.read(fd, 5) == b"Jello"
    assert io.seek(fd, 0, 1) == 5


def test_access_mode_of_the_descriptor_is_kept() -> None:
    files = make()
    write_only = new(files, flags=O_WRONLY)
    read_only = files.open(AT_FDCWD, b"/tmp/f", O_RDONLY, 0)
    assert failure(files.open_files.read, write_only, 1) == errno.EBADF
    assert failure(files.open_files.write, read_only, b"x") == errno.EBADF
    assert failure(files.open_files.resize, read_only, 0) == errno.EINVAL
    assert failure(files.open_files.read, 77, 1) == errno.EBADF


def test_append_always_writes_at_the_end() -> None:
    files = make()
    files.write_file("/tmp/f", b"abc")
    fd = files.open(AT_FDCWD, b"/tmp/f", O_RDWR | O_APPEND, 0)
    files.open_files.seek(fd, 0, 0)
    files.open_files.write(fd, b"def")
    files.open_files.write(fd, b"X", 0)
    assert files.read_file("/tmp/f") == b"Xbcdef"


def test_hole_reads_as_zeros_and_counts_against_the_quota() -> None:
    files = make(max_bytes=100)
    fd, io = new(files), files.open_files
    io.seek(fd, 90, 0)
    io.write(fd, b"0123456789")
    assert files.read_file("/tmp/f") == bytes(90) + b"0123456789"
    assert files.quota.bytes == 100
    assert failure(io.write, fd, b"x") == errno.ENOSPC
    assert io.write(fd, b"over", 50) == 4


def test_far_seek_and_write_allocates_nothing() -> None:
    files = make(max_bytes=100)
    fd, io = new(files), files.open_files
    assert io.seek(fd, 2**62, 0) == 2**62
    assert failure(io.write, fd, b"x") == errno.ENOSPC
    assert failure(io.write, fd, b"x", 2**63 - 1) == errno.ENOSPC
    assert io.read(fd, 2**31) == b""
    assert failure(io.resize, fd, 2**63 - 1) == errno.ENOSPC
    assert failure(io.allocate, fd, 2**63 - 1, 2**63 - 1) == errno.ENOSPC
    assert files.read_file("/tmp/f") == b""
    assert files.quota.bytes == 0


def test_seek_checks_whence_sign_and_range() -> None:
    files = make()
    fd, io = new(files), files.open_files
    assert failure(io.seek, fd, 0, 3) == errno.EINVAL
    assert failure(io.seek, fd, -1, 0) == errno.EINVAL
    io.seek(fd, 2**63 - 1, 0)
    assert failure(io.seek, fd, 1, 1) == errno.EOVERFLOW
    assert failure(io.seek, 0, 0, 0) == errno.ESPIPE
    assert failure(io.read, fd, 1, -1) == errno.EINVAL
    assert failure(io.write, fd, b"x", -1) == errno.EINVAL


def test_truncate_cuts_and_extends_and_the_quota_follows() -> None:
    files = make()
    fd, io = new(files), files.open_files
    io.write(fd, b"0123456789")
    io.resize(fd, 4)
    assert files.quota.bytes == 4
    io.resize(fd, 6)
    assert files.read_file("/tmp/f") == b"0123\0\0"
    assert failure(io.resize, fd, -1) == errno.EINVAL
    io.allocate(fd, 2, 6)
    io.allocate(fd, 0, 1)
    assert files.read_file("/tmp/f") == b"0123" + bytes(4)
    assert failure(io.allocate, fd, 0, 0) == errno.EINVAL
    assert failure(io.allocate, fd, -1, 5) == errno.EINVAL
    folder = files.open(AT_FDCWD, b"/tmp", 0, 0)
    assert failure(io.resize, folder, 0) == errno.EINVAL


def test_room_of_shortened_files_goes_back_to_the_host() -> None:
    files = make(max_bytes=8 * MIB)
    held = 0
    for index in range(7):
        fd = new(files, f"/tmp/{index}")
        files.open_files.resize(fd, 8 * MIB - files.quota.bytes)
        files.open_files.resize(fd, MIB)
        node = files.open_files.get(fd).node
        assert isinstance(node, File)
        assert isinstance(node.data, bytearray)
        held += node.data.__alloc__()
    assert held <= 1.2 * files.quota.bytes


def test_unlinked_file_lives_and_counts_until_its_last_close() -> None:
    files = make()
    fd, io = new(files), files.open_files
    io.write(fd, b"abc")
    other = io.add(io.get(fd))
    files.tree.unlink(files.find(AT_FDCWD, b"/tmp/f", follow=False))
    assert files.list_files() == []
    assert io.read(other, 3, 0) == b"abc"
    io.write(fd, b"def")
    io.close(fd)
    assert (files.quota.files, files.quota.bytes) == (1, 6)
    io.close(other)
    assert (files.quota.files, files.quota.bytes) == (0, 0)
    assert failure(io.close, other) == errno.EBADF


def test_duplicates_share_their_position_and_take_the_lowest_number() -> None:
    files = make()
    files.write_file("/tmp/f", b"abcdef")
    io = files.open_files
    fd = files.open(AT_FDCWD, b"/tmp/f", O_RDONLY, 0)
    assert fd == 3
    assert io.add(io.get(fd)) == 4
    assert io.add(io.get(fd), lowest=10) == 10
    io.read(fd, 2)
    assert io.read(10, 2) == b"cd"
    assert io.duplicate_to(fd, 0, close_on_exec=False) == 0
    assert io.read(0, 2) == b"ef"
    assert failure(lambda: io.duplicate_to(fd, fd, close_on_exec=False)) == errno.EINVAL
    assert failure(lambda: io.duplicate_to(fd, MAX_DESCRIPTORS, close_on_exec=False)) == errno.EBADF


@pytest.mark.guarantee("G34")
def test_number_of_descriptors_is_capped_before_anything_is_made() -> None:
    files = make()
    opened: list[int] = []
    while len(files.open_files.table) < MAX_DESCRIPTORS:
        opened.append(files.open(AT_FDCWD, b"/dev/null", O_RDWR, 0))
    assert failure(new, files) == errno.EMFILE
    assert failure(files.open_files.add, files.open_files.get(3)) == errno.EMFILE
    assert files.list_files() == []
    files.open_files.close(opened[5])
    assert new(files) == opened[5]


def test_devices_do_what_their_names_say() -> None:
    files = make()
    io = files.open_files
    null, urandom = (files.open(AT_FDCWD, f"/dev/{name}".encode(), O_RDWR, 0) for name in ("null", "urandom"))
    assert io.write(null, b"x" * 100) == 100
    assert io.read(null, 10) == b""
    assert io.read(urandom, 3) == b"rrr"
    assert len(io.read(urandom, 2**31)) == 64 * 1024
    assert io.read(0, 10) == b""
    assert failure(io.read, null, 1, 0) == errno.ESPIPE
    assert files.quota.bytes == 0


def test_raw_output_is_handed_on_up_to_its_cap() -> None:
    taken: list[tuple[int, bytes]] = []
    files = FileSystem({}, 10, 100, lambda: 0, output=lambda stream, data: taken.append((stream, data)))
    files.output_left = 6
    assert files.open_files.write(1, b"abcd") == 4
    assert files.open_files.write(2, b"efgh") == 4
    assert files.open_files.write(2, b"ijkl") == 4
    assert taken == [(1, b"abcd"), (2, b"ef")]
    assert files.output_dropped == 6


def test_listing_a_directory_survives_changes_to_it() -> None:
    files = make()
    for name in "abc":
        files.write_file(f"/tmp/{name}", b"")
    fd, io = files.open(AT_FDCWD, b"/tmp", O_DIRECTORY, 0), files.open_files
    first = io.list_directory(fd, 3)
    assert [(name, position) for name, _, position in first] == [(b".", 1), (b"..", 2), (b"a", 3)]
    files.tree.unlink(files.find(AT_FDCWD, b"/tmp/b", follow=False))
    files.write_file("/tmp/d", b"")
    assert [name for name, _, _ in io.list_directory(fd, 10)] == [b"c"]
    assert io.list_directory(fd, 10) == []
    io.seek(fd, 0, 0)
    assert [name for name, _, _ in io.list_directory(fd, 10)] == [b".", b"..", b"a", b"c", b"d"]
    assert failure(io.read, fd, 1) == errno.EISDIR
    assert failure(io.list_directory, new(files), 1) == errno.ENOTDIR


def test_listing_goes_on_from_an_earlier_position() -> None:
    files = make()
    for name in "abc":
        files.write_file(f"/tmp/{name}", b"")
    fd, io = files.open(AT_FDCWD, b"/tmp", O_DIRECTORY, 0), files.open_files
    entries = io.list_directory(fd, 10)
    io.seek(fd, entries[2][2], 0)
    assert [name for name, _, _ in io.list_directory(fd, 10)] == [b"b", b"c"]


def test_times_follow_changes_and_stay_what_they_were_set_to() -> None:
    files = make()
    files.write_file("/tmp/f", b"a")
    node = files.node(AT_FDCWD, b"/tmp/f", follow=True)
    folder = files.node(AT_FDCWD, b"/tmp", follow=True)
    before = node.mtime_ns
    files.write_file("/tmp/f", b"b")
    assert node.mtime_ns > before
    files.tree.set_times(node, 5, None)
    assert node.atime_ns == 5
    assert node.mtime_ns != 5
    files.write_file("/tmp/g", b"")
    assert folder.mtime_ns > node.mtime_ns
