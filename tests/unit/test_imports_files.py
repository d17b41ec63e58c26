"""File imports as the guest's C library calls them: struct layouts, error signs, bounds on what one call may ask."""

from __future__ import annotations

import struct

import pytest
from tests.support.fake_box import PAGE, STDLIB, FakeBox

from cloche.wasm_sandbox import errno
from cloche.wasm_sandbox.filesystem.descriptors import MAX_DESCRIPTORS
from cloche.wasm_sandbox.imports import ALL_IMPORTS
from cloche.wasm_sandbox.imports.descriptors import MAX_IO_BYTES
from cloche.wasm_sandbox.memory import MemoryFault

AT_FDCWD = -100
O_CREAT, O_RDWR, O_DIRECTORY, O_CLOEXEC = 0o100, 2, 0o200000, 0o2000000


def test_open_write_seek_read_and_close_work_together() -> None:
    box = FakeBox()
    fd = box.open("/tmp/f", O_CREAT | O_RDWR)
    assert fd == 3
    assert box.write(fd, b"hello") == (0, 5)
    where = box.room(8)
    assert box.call("fd_seek", fd, 1, 0, where) == 0
    assert box.memory.read(where, 8) == struct.pack("<q", 1)
    assert box.read(fd, 100) == (0, b"ello")
    assert box.call("fd_close", fd) == 0
    assert box.call("fd_close", fd) == errno.EBADF


def test_pieces_are_gathered_and_scattered_in_order() -> None:
    box = FakeBox()
    fd, count = box.open("/tmp/f", O_CREAT | O_RDWR), box.room(4)
    parts = [(box.put(b"abc"), 3), (0, 0), (box.put(b"defg"), 4)]
    assert box.call("fd_pwrite", fd, *box.pieces(*parts), 2, count) == 0
    assert box.files.read_file("/tmp/f") == b"\0\0abcdefg"
    targets = [(box.room(4), 4), (box.room(2), 2), (box.room(9), 9)]
    assert box.call("fd_pread", fd, *box.pieces(*targets), 1, count) == 0
    assert box.memory.u32(count) == 8
    assert [box.memory.read(*target) for target in targets] == [b"\0abc", b"de", b"fg" + bytes(7)]


def test_number_of_pieces_is_capped() -> None:
    box = FakeBox()
    for count in (1025, 2**31, 2**32 - 1):
        assert box.call("fd_write", 1, 0, count, box.room(4)) == errno.EINVAL
        assert box.call("fd_read", 0, 0, count, box.room(4)) == errno.EINVAL
    assert box.call("fd_write", 1, 0, 0, box.room(4)) == 0


def test_bytes_of_one_call_are_capped_and_the_count_says_so() -> None:
    size = 48 * 1024 * 1024
    box = FakeBox(pages=1024, limit_pages=1024, max_bytes=2 * MAX_IO_BYTES)
    fd, count = box.open("/tmp/f", O_CREAT | O_RDWR), box.room(4)
    assert box.call("fd_write", fd, *box.pieces((PAGE, size), (PAGE, size)), count) == 0
    assert box.memory.u32(count) == MAX_IO_BYTES == box.files.quota.bytes


def test_bad_pointers_are_faults_and_move_nothing() -> None:
    box = FakeBox()
    fd = box.open("/tmp/f", O_CREAT | O_RDWR)
    box.write(fd, b"hello")
    end = box.memory.size
    for array, count, result in [
        (end - 4, 1, 0),
        (box.put(struct.pack("<II", end - 2, 4)), 1, box.room(4)),
        (box.put(struct.pack("<II", 2**32 - 1, 2**32 - 1)), 1, box.room(4)),
        (box.put(struct.pack("<II", 0, 4)), 1, end - 3),
    ]:
        with pytest.raises(MemoryFault):
            box.call("fd_write", fd, array, count, result)
        with pytest.raises(MemoryFault):
            box.call("fd_read", fd, array, count, result)
    assert box.files.open_files.get(fd).position == 5
    assert box.files.read_file("/tmp/f") == b"hello"


def test_fault_answers_are_efault_in_the_convention_of_the_call() -> None:
    assert ALL_IMPORTS["fd_read"].fault == errno.EFAULT
    assert ALL_IMPORTS["__syscall_openat"].fault == -errno.EFAULT
    assert ALL_IMPORTS["__syscall_socket"].fault < 0


def test_stat_has_the_layout_of_the_c_library() -> None:
    box = FakeBox()
    box.files.write_file("/tmp/f", b"x" * 1000)
    buffer = box.room(96)
    assert box.call("__syscall_stat64", box.text("/tmp/f"), buffer) == 0
    fields = struct.unpack("<IIIIIIqiiqI4xqI4xqI4xQ", box.memory.read(buffer, 96))
    _, mode, links, uid, gid, _, size, block_bytes, blocks, *times, inode = fields
    assert (mode, links, uid, gid, size, block_bytes, blocks) == (0o100644, 1, 0, 0, 1000, 4096, 2)
    assert times[0] == times[2] == times[4] == 1_767_225_600
    node = box.files.node(0, b"/tmp/f", follow=True)
    assert (times[3], inode) == (node.mtime_ns % 10**9, node.ino)


def test_stat_of_a_descriptor_a_link_and_an_empty_path() -> None:
    box = FakeBox()
    assert box.call("__syscall_symlinkat", box.text("/lib/python314.zip"), AT_FDCWD, box.text("/tmp/l")) == 0
    buffer, link = box.room(96), box.text("/tmp/l")

    def mode() -> int:
        return box.memory.u32(buffer + 4)

    assert (box.call("__syscall_stat64", link, buffer), mode()) == (0, 0o100444)
    assert (box.call("__syscall_lstat64", link, buffer), mode()) == (0, 0o120777)
    assert (box.call("__syscall_newfstatat", AT_FDCWD, link, buffer, 0x100), mode()) == (0, 0o120777)
    fd = box.open("/tmp", O_DIRECTORY)
    assert (box.call("__syscall_newfstatat", fd, box.text("l"), buffer, 0), mode()) == (0, 0o100444)
    assert (box.call("__syscall_newfstatat", fd, box.text(""), buffer, 0x1000), mode()) == (0, 0o040755)
    assert box.call("__syscall_newfstatat", fd, box.text(""), buffer, 0) == -errno.ENOENT
    assert (box.call("__syscall_fstat64", 1, buffer), mode()) == (0, 0o020666)
    assert box.call("__syscall_fstat64", 200, buffer) == -errno.EBADF


def test_statfs_shows_the_quota_and_nothing_of_the_host() -> None:
    box = FakeBox(max_files=20, max_bytes=40960)
    box.files.write_file("/tmp/f", b"x" * 5000)
    buffer = box.room(68)
    assert box.call("__syscall_statfs64", box.text("/"), 88, buffer) == 0
    _, block, blocks, free, available, files, free_files, _, name_max, fragment, _ = struct.unpack(
        "<IIqqqqqQIII", box.memory.read(buffer, 68)
    )
    assert (block, blocks, free, available, files, free_files) == (4096, 10, 8, 8, 20, 19)
    assert (name_max, fragment) == (255, 4096)
    assert box.call("__syscall_fstatfs64", 0, 88, buffer) == 0
    box.files.limit(max_files=0, max_bytes=0)
    assert box.call("__syscall_fstatfs64", 0, 88, buffer) == 0
    assert struct.unpack("<q", box.memory.read(buffer + 16, 8)) == (0,)


def test_directory_entries_have_the_layout_of_the_c_library() -> None:
    box = FakeBox()
    box.files.write_file("/out/name", b"")
    box.call("__syscall_symlinkat", box.text("x"), AT_FDCWD, box.text("/out/link"))
    fd, buffer = box.open("/out", O_DIRECTORY), box.room(280 * 5)
    assert box.call("__syscall_getdents64", fd, buffer, 279) == -errno.EINVAL
    assert box.call("__syscall_getdents64", fd, buffer, 280 * 3 + 100) == 280 * 3
    found = [struct.unpack("<QqHB256s", box.memory.read(buffer + 280 * i, 275)) for i in range(3)]
    assert [(length, kind, name.rstrip(b"\0")) for _, _, length, kind, name in found] == [
        (280, 4, b"."),
        (280, 4, b".."),
        (280, 8, b"name"),
    ]
    assert found[2][0] == box.files.node(0, b"/out/name", follow=True).ino
    assert box.call("__syscall_getdents64", fd, buffer, 280 * 5) == 280
    assert box.memory.read(buffer + 18, 5) == b"\x0alink"
    assert box.call("__syscall_getdents64", fd, buffer, 280 * 5) == 0
    assert box.call("__syscall_getdents64", 0, buffer, 280) == -errno.ENOTDIR


def test_longest_name_fits_a_directory_entry() -> None:
    box = FakeBox()
    box.files.write_file("/out/" + "n" * 255, b"")
    fd, buffer = box.open("/out", O_DIRECTORY), box.room(280 * 3)
    assert box.call("__syscall_getdents64", fd, buffer, 280 * 3) == 280 * 3
    assert box.memory.cstr(buffer + 2 * 280 + 19) == b"n" * 255


def test_paths_that_are_too_long_or_no_strings_are_told_apart() -> None:
    box = FakeBox()
    assert box.call("__syscall_chdir", box.text("x" * 5000)) == -errno.ENAMETOOLONG
    assert box.call("__syscall_chdir", 0) == -errno.ENOENT
    box.memory.write(box.memory.size - 3, b"abc")
    with pytest.raises(MemoryFault):
        box.call("__syscall_chdir", box.memory.size - 3)


def test_working_directory_is_written_only_where_it_fits() -> None:
    box = FakeBox()
    buffer = box.room(100)
    assert box.call("__syscall_getcwd", buffer, 0) == -errno.EINVAL
    assert box.call("__syscall_getcwd", buffer, 14) == -errno.ERANGE
    assert box.call("__syscall_getcwd", buffer, 15) == 15
    assert box.memory.cstr(buffer) == b"/home/web_user"
    fd = box.open("/tmp", O_DIRECTORY)
    assert box.call("__syscall_fchdir", fd) == 0
    assert box.call("__syscall_getcwd", buffer, 100) == 5
    assert box.call("__syscall_fchdir", 0) == -errno.ENOTDIR


def test_making_and_removing_by_path() -> None:
    box = FakeBox()
    assert box.call("__syscall_umask_js", 0o077) == 0o022
    assert box.call("__syscall_mkdirat", AT_FDCWD, box.text("/tmp/d"), 0o777) == 0
    assert box.files.node(0, b"/tmp/d", follow=True).permissions == 0o700
    assert box.call("__syscall_mknodat", AT_FDCWD, box.text("/tmp/d/f"), 0o100666, 0) == 0
    assert box.call("__syscall_mknodat", AT_FDCWD, box.text("/tmp/d/p"), 0o010666, 0) == -errno.EPERM
    assert box.call("__syscall_mknodat", AT_FDCWD, box.text("/tmp/d/c"), 0o020666, 0) == -errno.EPERM
    assert box.call("__syscall_renameat", AT_FDCWD, box.text("/tmp/d/f"), AT_FDCWD, box.text("/tmp/g")) == 0
    assert box.call("__syscall_unlinkat", AT_FDCWD, box.text("/tmp/g"), 1) == -errno.EINVAL
    assert box.call("__syscall_unlinkat", AT_FDCWD, box.text("/tmp/g"), 0) == 0
    assert box.call("__syscall_unlinkat", AT_FDCWD, box.text("/tmp/d"), 0) == -errno.EISDIR
    assert box.call("__syscall_rmdir", box.text("/tmp/d")) == 0
    assert box.files.quota.files == 0


def test_reading_a_link_is_cut_to_the_buffer_and_not_terminated() -> None:
    box = FakeBox()
    box.call("__syscall_symlinkat", box.text("target"), AT_FDCWD, box.text("/tmp/l"))
    buffer = box.put(b"-" * 10)
    assert box.call("__syscall_readlinkat", AT_FDCWD, box.text("/tmp/l"), buffer, 4) == 4
    assert box.memory.read(buffer, 10) == b"targ------"
    assert box.call("__syscall_readlinkat", AT_FDCWD, box.text("/tmp/l"), buffer, 2**32 - 1) == 6
    assert box.call("__syscall_readlinkat", AT_FDCWD, box.text("/tmp"), buffer, 9) == -errno.EINVAL


def test_access_knows_read_only_and_not_executable_files() -> None:
    box = FakeBox()
    box.files.write_file("/tmp/f", b"")
    zip_file, file = box.text(STDLIB), box.text("/tmp/f")
    assert box.call("__syscall_faccessat", AT_FDCWD, zip_file, 4, 0) == 0
    assert box.call("__syscall_faccessat", AT_FDCWD, zip_file, 2, 0) == -errno.EROFS
    assert box.call("__syscall_faccessat", AT_FDCWD, file, 6, 0) == 0
    assert box.call("__syscall_faccessat", AT_FDCWD, file, 1, 0) == -errno.EACCES
    assert box.call("__syscall_chmod", file, 0o755) == 0
    assert box.call("__syscall_faccessat", AT_FDCWD, file, 1, 0) == 0
    assert box.call("__syscall_faccessat", AT_FDCWD, file, 8, 0) == -errno.EINVAL
    assert box.call("__syscall_faccessat", AT_FDCWD, box.text("/etc/passwd"), 0, 0) == -errno.ENOENT


def test_times_can_be_set_left_alone_or_set_to_now() -> None:
    box = FakeBox()
    box.files.write_file("/tmp/f", b"")
    node, path = box.files.node(0, b"/tmp/f", follow=True), box.text("/tmp/f")
    times = box.put(struct.pack("<qI4xqI4x", -5, 7, 10, 9))
    assert box.call("__syscall_utimensat", AT_FDCWD, path, times, 0) == 0
    assert (node.atime_ns, node.mtime_ns) == (-5 * 10**9 + 7, 10 * 10**9 + 9)
    buffer = box.room(96)
    assert box.call("__syscall_stat64", path, buffer) == 0
    assert struct.unpack("<qI", box.memory.read(buffer + 40, 12)) == (-5, 7)
    times = box.put(struct.pack("<qI4xqI4x", 0, 0x3FFFFFFF, 0, 0x3FFFFFFE))
    assert box.call("__syscall_utimensat", AT_FDCWD, path, times, 0) == 0
    assert node.atime_ns > 10**18
    assert node.mtime_ns == 10 * 10**9 + 9
    fd = box.open("/tmp/f", O_RDWR)
    assert box.call("__syscall_utimensat", fd, 0, 0, 0) == 0
    assert node.mtime_ns > 10**18
    bad = box.put(struct.pack("<qI4xqI4x", 0, 10**9, 0, 0))
    assert box.call("__syscall_utimensat", AT_FDCWD, path, bad, 0) == -errno.EINVAL
    extreme = box.put(struct.pack("<qI4xqI4x", -(2**63), 0, 2**63 - 1, 999_999_999))
    assert box.call("__syscall_utimensat", AT_FDCWD, path, extreme, 0) == 0
    assert box.call("__syscall_stat64", path, buffer) == 0
    assert struct.unpack("<qI4xqI", box.memory.read(buffer + 40, 28)) == (-(2**63), 0, 2**63 - 1, 999_999_999)


def test_truncating_and_allocating() -> None:
    box = FakeBox(max_bytes=1000)
    box.files.write_file("/tmp/f", b"12345")
    assert box.call("__syscall_truncate64", box.text("/tmp/f"), 3) == 0
    assert box.call("__syscall_truncate64", box.text("/tmp/f"), -1) == -errno.EINVAL
    assert box.call("__syscall_truncate64", box.text("/tmp"), 0) == -errno.EISDIR
    assert box.call("__syscall_truncate64", box.text("/tmp/f"), 2**62) == -errno.ENOSPC
    fd = box.open("/tmp/f", O_RDWR)
    assert box.call("__syscall_ftruncate64", fd, 4) == 0
    assert box.call("__syscall_fallocate", fd, 1, 0, 10) == -errno.EOPNOTSUPP
    assert box.call("__syscall_fallocate", fd, 0, 0, 10) == 0
    assert box.files.read_file("/tmp/f") == b"123" + bytes(7)


def test_descriptor_flags_and_duplicates() -> None:
    box = FakeBox()
    fd = box.open("/tmp/f", O_CREAT | O_RDWR | O_CLOEXEC)

    def fcntl(command: int, argument: int = 0) -> float | None:
        return box.call("__syscall_fcntl64", fd, command, box.put(struct.pack("<I", argument)))

    assert fcntl(1) == 1
    assert fcntl(2, 0) == 0
    assert fcntl(1) == 0
    assert fcntl(3) == O_RDWR
    assert fcntl(4, 0o2000 | 0o1) == 0
    assert fcntl(3) == O_RDWR | 0o2000
    assert fcntl(0, 10) == 10
    assert fcntl(1030, 10) == 11
    assert box.call("__syscall_fcntl64", 11, 1, 0) == 1
    assert fcntl(0, MAX_DESCRIPTORS) == -errno.EINVAL
    assert fcntl(0, 2**32 - 1) == -errno.EINVAL
    lock = box.put(b"\xff" * 16)
    assert fcntl(12, lock) == 0
    assert box.memory.read(lock, 3) == b"\x02\x00\xff"
    assert fcntl(13) == fcntl(14) == 0
    assert fcntl(99) == -errno.EINVAL
    assert box.call("__syscall_dup", fd) == 4
    assert box.call("__syscall_dup3", fd, 20, O_CLOEXEC) == 20
    assert box.call("__syscall_dup3", fd, fd, 0) == -errno.EINVAL
    assert box.call("__syscall_dup3", fd, 5, 1) == -errno.EINVAL
    assert box.call("__syscall_dup3", fd, -1, 0) == -errno.EBADF
    assert box.call("__syscall_dup", 200) == -errno.EBADF


def test_no_descriptor_is_a_terminal() -> None:
    box = FakeBox()
    buffer = box.room(24)
    file, folder = box.open("/tmp/f", O_CREAT | O_RDWR), box.open("/tmp", O_DIRECTORY)
    kinds: list[int] = []
    for fd in (0, 1, 2, file, folder):
        assert box.call("__syscall_ioctl", fd, 21523, 0) == -errno.ENOTTY
        assert box.call("fd_fdstat_get", fd, buffer) == 0
        kinds.append(box.memory.read(buffer, 1)[0])
    assert kinds == [0, 0, 0, 4, 3]
    assert box.call("__syscall_ioctl", 99, 21523, 0) == -errno.EBADF


def test_poll_answers_at_once_and_its_count_is_capped() -> None:
    box = FakeBox()
    entries = box.put(struct.pack("<ihhihhihh", 0, 5, -1, 99, 1, 0, -1, 7, 0))
    assert box.call("__syscall_poll", entries, 3, -1) == 2
    assert struct.unpack("<ihhihhihh", box.memory.read(entries, 24)) == (0, 5, 5, 99, 1, 32, -1, 7, 0)
    assert box.call("__syscall_poll", entries, 0, 10_000) == 0
    for count in (MAX_DESCRIPTORS + 1, 2**32 - 1):
        assert box.call("__syscall_poll", entries, count, 0) == -errno.EINVAL


def test_flushes_advice_and_owners_only_check_the_descriptor() -> None:
    box = FakeBox()
    path = box.text("/tmp")
    assert box.call("fd_sync", 1) == box.call("__syscall_fdatasync", 1) == 0
    assert box.call("fd_sync", 99) == errno.EBADF
    assert box.call("__syscall_fdatasync", 99) == -errno.EBADF
    assert box.call("__syscall_fadvise64", 1, 0, 0, 0) == 0
    assert box.call("__syscall_fchown32", 1, 5, 5) == 0
    assert box.call("__syscall_fchownat", AT_FDCWD, path, 5, 5, 0) == 0
    assert box.call("__syscall_fchownat", AT_FDCWD, box.text("/none"), 5, 5, 0) == -errno.ENOENT
    assert box.files.node(0, b"/tmp", follow=True).sealed is False


def test_mappings_pipes_and_sockets_are_refused_with_an_error() -> None:
    box = FakeBox()
    assert box.call("_mmap_js", 1, 3, 1, 0, 0, 0, 0) == -errno.ENODEV
    assert box.call("_munmap_js", 0, 1, 0, 0, 0, 0) == -errno.EINVAL
    assert box.call("__syscall_pipe", box.room(8)) == -errno.ENOSYS
    assert box.call("__syscall_socket", 2, 1, 0, 0, 0, 0) == -errno.ENETUNREACH
    assert box.call("__syscall_connect", 1, 0, 0, 0, 0, 0) == -errno.ENOTSOCK
    assert box.call("getaddrinfo", 0, 0, 0, 0) == -4
