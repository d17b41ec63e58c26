"""Looking paths up, making, moving and removing: the rules of POSIX, and those of the sandbox."""

from __future__ import annotations

import itertools

import pytest

from cloche.wasm_sandbox import errno
from cloche.wasm_sandbox.filesystem import FileSystem, FsError
from cloche.wasm_sandbox.filesystem.descriptors import (
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
)
from cloche.wasm_sandbox.filesystem.nodes import Directory, Node, Symlink
from cloche.wasm_sandbox.filesystem.system import AT_FDCWD


def make(max_files: int = 50, max_bytes: int = 10_000) -> FileSystem:
    clock = itertools.count(1_000)
    return FileSystem({"/lib/python314.zip": b"zip"}, max_files, max_bytes, lambda: next(clock))


def get(files: FileSystem, path: bytes, *, follow: bool = True) -> Node:
    return files.node(AT_FDCWD, path, follow=follow)


def mkdir(files: FileSystem, path: bytes) -> Directory:
    return files.make_directory(AT_FDCWD, path, 0o777)


def link(files: FileSystem, path: bytes, target: bytes) -> Symlink:
    return files.tree.new_symlink(files.find(AT_FDCWD, path, follow=False), target)


def rename(files: FileSystem, old: bytes, new: bytes) -> None:
    files.tree.rename(files.find(AT_FDCWD, old, follow=False), files.find(AT_FDCWD, new, follow=False))


def unlink(files: FileSystem, path: bytes) -> None:
    files.tree.unlink(files.find(AT_FDCWD, path, follow=False))


def rmdir(files: FileSystem, path: bytes) -> None:
    files.tree.remove_directory(files.find(AT_FDCWD, path, follow=False))


def failure(action: object, *arguments: object) -> int:
    with pytest.raises(FsError) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_sandbox_begins_with_its_folders_devices_and_the_image() -> None:
    files = make()
    assert sorted(files.tree.root.entries) == [b"dev", b"home", b"lib", b"out", b"tmp"]
    assert files.working_directory() == b"/home/web_user"
    assert files.read_file("/lib/python314.zip") == b"zip"
    assert files.list_files() == []
    assert (files.quota.files, files.quota.bytes) == (0, 0)


def test_dots_and_doubled_slashes_are_walked_like_posix() -> None:
    files = make()
    files.write_file("/tmp/a/b", b"x")
    assert get(files, b"/tmp//./a/../a/b") is get(files, b"/tmp/a/b")
    assert get(files, b"/../../tmp/..") is files.tree.root
    assert failure(get, files, b"/tmp/none/../a") == errno.ENOENT
    assert failure(get, files, b"/tmp/a/b/..") == errno.ENOTDIR
    assert failure(get, files, b"/tmp/a/b/") == errno.ENOTDIR
    assert failure(get, files, b"/tmp/a/b/.") == errno.ENOTDIR
    assert failure(get, files, b"") == errno.ENOENT


def test_relative_paths_start_at_the_working_directory_even_after_it_moved() -> None:
    files = make()
    files.write_file("/tmp/a/b", b"x")
    files.change_directory(get(files, b"/tmp/a"))
    rename(files, b"/tmp/a", b"/out/c")
    assert files.read_file("b") == b"x"
    assert files.working_directory() == b"/out/c"


def test_removed_working_directory_holds_nothing_and_has_no_path() -> None:
    files = make()
    mkdir(files, b"/tmp/a")
    files.change_directory(get(files, b"/tmp/a"))
    rmdir(files, b"/tmp/a")
    assert failure(files.working_directory) == errno.ENOENT
    assert failure(files.open, AT_FDCWD, b"x", O_CREAT | O_WRONLY, 0o666) == errno.ENOENT
    assert get(files, b"..") is get(files, b"/tmp")


def test_names_and_paths_have_a_greatest_length() -> None:
    files = make()
    files.write_file("/tmp/" + "n" * 255, b"")
    assert failure(files.write_file, "/tmp/" + "n" * 256, b"") == errno.ENAMETOOLONG
    assert failure(get, files, b"/tmp/" + b"n" * 256) == errno.ENAMETOOLONG
    assert get(files, b"/" * 4091 + b"tmp") is get(files, b"/tmp")
    assert failure(get, files, b"/" * 4093 + b"tmp") == errno.ENAMETOOLONG
    assert failure(files.write_file, "a/" * 3000 + "b", b"") == errno.ENAMETOOLONG


def test_new_names_are_text_without_nul() -> None:
    files = make()
    assert failure(mkdir, files, b"/tmp/\xff") == errno.EILSEQ
    assert failure(mkdir, files, b"/tmp/a\0b") == errno.EINVAL
    assert failure(files.write_file, "/tmp/\udcff", b"") == errno.EILSEQ
    files.write_file("/tmp/ü\n", b"1")
    assert files.list_files() == ["/tmp/ü\n"]


def test_symbolic_links_are_followed_inside_the_sandbox_only() -> None:
    files = make()
    files.write_file("/tmp/a/file", b"x")
    link(files, b"/tmp/up", b"../../../../../../tmp/a")
    link(files, b"/tmp/a/here", b"file")
    link(files, b"/tmp/host", b"/etc/passwd")
    assert files.read_file("/tmp/up/here") == b"x"
    assert get(files, b"/tmp/a/here", follow=False).mode == 0o120777
    assert failure(files.read_file, "/tmp/host") == errno.ENOENT
    assert failure(files.open, AT_FDCWD, b"/tmp/a/here", O_NOFOLLOW, 0) == errno.ELOOP


def test_link_at_the_end_is_followed_when_a_slash_comes_after() -> None:
    files = make()
    link(files, b"/tmp/l", b"/out")
    assert get(files, b"/tmp/l", follow=False) is not get(files, b"/out")
    assert get(files, b"/tmp/l/", follow=False) is get(files, b"/out")


def test_loops_of_links_end() -> None:
    files = make()
    link(files, b"/tmp/a", b"b")
    link(files, b"/tmp/b", b"a")
    link(files, b"/tmp/self", b"self/self/self")
    assert failure(get, files, b"/tmp/a") == errno.ELOOP
    assert failure(get, files, b"/tmp/self") == errno.ELOOP


def test_links_that_multiply_paths_end_quickly() -> None:
    files = make()
    link(files, b"/tmp/l0", b"/tmp/" + b"./" * 2000)
    for n in range(1, 4):
        link(files, b"/tmp/l%d" % n, b"/".join([b"l%d" % (n - 1)] + [b"l%d" % (n - 1)] * 20))
    assert failure(get, files, b"/tmp/l3") == errno.ELOOP


def test_creating_through_a_dangling_link_makes_its_target() -> None:
    files = make()
    link(files, b"/tmp/l", b"target")
    assert failure(files.open, AT_FDCWD, b"/tmp/l", O_CREAT | O_EXCL | O_WRONLY, 0o666) == errno.EEXIST
    files.open(AT_FDCWD, b"/tmp/l", O_CREAT | O_WRONLY, 0o666)
    assert files.list_files() == ["/tmp/target"]


def test_target_of_a_link_counts_as_bytes_and_has_a_greatest_length() -> None:
    files = make()
    link(files, b"/tmp/l", b"x" * 4095)
    assert files.quota.bytes == 4095
    assert failure(link, files, b"/tmp/m", b"x" * 4096) == errno.ENAMETOOLONG
    assert failure(link, files, b"/tmp/m", b"") == errno.ENOENT
    unlink(files, b"/tmp/l")
    assert (files.quota.files, files.quota.bytes) == (0, 0)


def test_open_flags_mean_what_posix_says() -> None:
    files = make()
    assert failure(files.open, AT_FDCWD, b"/tmp/f", O_WRONLY, 0) == errno.ENOENT
    assert failure(files.open, AT_FDCWD, b"/tmp/f/", O_CREAT | O_WRONLY, 0) == errno.EISDIR
    assert failure(files.open, AT_FDCWD, b"/tmp/f", 3, 0) == errno.EINVAL
    fd = files.open(AT_FDCWD, b"/tmp/f", O_CREAT | O_EXCL | O_WRONLY, 0o777)
    files.open_files.write(fd, b"abc")
    assert get(files, b"/tmp/f").permissions == 0o755
    assert failure(files.open, AT_FDCWD, b"/tmp/f", O_CREAT | O_EXCL, 0) == errno.EEXIST
    assert failure(files.open, AT_FDCWD, b"/tmp/f", O_DIRECTORY, 0) == errno.ENOTDIR
    assert failure(files.open, AT_FDCWD, b"/tmp", O_RDWR, 0) == errno.EISDIR
    assert failure(files.open, AT_FDCWD, b"/tmp", O_CREAT, 0) == errno.EISDIR
    files.open(AT_FDCWD, b"/tmp/f", O_TRUNC, 0)
    assert files.read_file("/tmp/f") == b"abc"
    files.open(AT_FDCWD, b"/tmp/f", O_TRUNC | O_WRONLY, 0)
    assert files.read_file("/tmp/f") == b""


def test_paths_relative_to_a_descriptor_need_a_directory() -> None:
    files = make()
    files.write_file("/out/f", b"x")
    folder = files.open(AT_FDCWD, b"/out", O_DIRECTORY, 0)
    file = files.open(folder, b"f", 0, 0)
    assert files.open_files.read(file, 10) == b"x"
    assert failure(files.open, file, b"f", 0, 0) == errno.ENOTDIR
    assert failure(files.open, 99, b"f", 0, 0) == errno.EBADF
    files.open(99, b"/out/f", 0, 0)


def test_files_of_the_image_and_its_folders_cannot_be_changed() -> None:
    files = make()
    path = b"/lib/python314.zip"
    assert failure(files.open, AT_FDCWD, path, O_WRONLY, 0) == errno.EROFS
    assert failure(files.open, AT_FDCWD, path, O_RDWR | O_TRUNC, 0) == errno.EROFS
    assert failure(files.resize, get(files, path), 0) == errno.EROFS
    assert failure(unlink, files, path) == errno.EROFS
    assert failure(rename, files, path, b"/tmp/x") == errno.EROFS
    assert failure(mkdir, files, b"/lib/x") == errno.EROFS
    assert failure(mkdir, files, b"/dev/x") == errno.EROFS
    assert failure(rmdir, files, b"/dev/null") == errno.EROFS
    assert failure(files.write_file, "/lib/python314.zip", b"") == errno.EROFS
    assert failure(files.tree.set_permissions, get(files, path), 0o777) == errno.EROFS
    assert failure(files.tree.set_times, get(files, path), 1, 1) == errno.EROFS
    files.write_file("/tmp/x", b"mine")
    assert failure(rename, files, b"/tmp/x", path) == errno.EROFS
    assert files.read_file("/lib/python314.zip") == b"zip"


def test_the_sandbox_keeps_its_own_folders() -> None:
    files = make()
    for folder in (b"/tmp", b"/out", b"/home/web_user"):
        assert failure(rmdir, files, folder) == errno.EBUSY
        assert failure(rename, files, folder, b"/elsewhere") == errno.EBUSY
    assert failure(rmdir, files, b"/") == errno.EBUSY
    assert failure(rename, files, b"/", b"/tmp/x") == errno.EBUSY
    mkdir(files, b"/new")
    rmdir(files, b"/new")


def test_directories_are_made_and_removed_only_when_that_is_possible() -> None:
    files = make()
    mkdir(files, b"/tmp/a/")
    assert failure(mkdir, files, b"/tmp/a") == errno.EEXIST
    assert failure(mkdir, files, b"/tmp/none/b") == errno.ENOENT
    files.write_file("/tmp/a/f", b"")
    assert failure(mkdir, files, b"/tmp/a/f/b") == errno.ENOTDIR
    assert failure(rmdir, files, b"/tmp/a") == errno.ENOTEMPTY
    assert failure(rmdir, files, b"/tmp/a/f") == errno.ENOTDIR
    assert failure(unlink, files, b"/tmp/a") == errno.EISDIR
    assert failure(rmdir, files, b"/tmp/a/.") == errno.EINVAL
    assert failure(rmdir, files, b"/tmp/none") == errno.ENOENT
    unlink(files, b"/tmp/a/f")
    rmdir(files, b"/tmp/a")
    assert files.quota.files == 0


def test_rename_replaces_a_file_and_gives_its_bytes_back() -> None:
    files = make()
    files.write_file("/tmp/a", b"12345")
    files.write_file("/tmp/b", b"123")
    rename(files, b"/tmp/a", b"/tmp/b")
    assert files.list_files() == ["/tmp/b"]
    assert (files.quota.files, files.quota.bytes) == (1, 5)
    rename(files, b"/tmp/b", b"/tmp/b")
    assert files.read_file("/tmp/b") == b"12345"


def test_rename_refuses_what_would_break_the_tree() -> None:
    files = make()
    files.write_file("/tmp/d/e/f", b"")
    files.write_file("/tmp/file", b"")
    mkdir(files, b"/tmp/empty")
    assert failure(rename, files, b"/tmp/d", b"/tmp/d/e/x") == errno.EINVAL
    assert failure(rename, files, b"/tmp/d", b"/tmp/d/x") == errno.EINVAL
    assert failure(rename, files, b"/tmp/d/e", b"/tmp/d") == errno.ENOTEMPTY
    assert failure(rename, files, b"/tmp/d", b"/tmp/file") == errno.ENOTDIR
    assert failure(rename, files, b"/tmp/file", b"/tmp/d") == errno.EISDIR
    assert failure(rename, files, b"/tmp/file", b"/tmp/new/") == errno.ENOTDIR
    assert failure(rename, files, b"/tmp/none", b"/tmp/x") == errno.ENOENT
    rename(files, b"/tmp/d", b"/tmp/empty")
    rename(files, b"/tmp/empty", b"/tmp/again/")
    assert files.list_files() == ["/tmp/again/e/f", "/tmp/file"]


@pytest.mark.guarantee("G34")
def test_number_of_files_is_capped_and_removal_gives_room_again() -> None:
    files = make(max_files=3)
    files.write_file("/tmp/a", b"")
    mkdir(files, b"/tmp/b")
    link(files, b"/tmp/c", b"x")
    assert failure(mkdir, files, b"/tmp/d") == errno.ENOSPC
    assert failure(files.open, AT_FDCWD, b"/tmp/d", O_CREAT | O_WRONLY, 0o666) == errno.ENOSPC
    assert failure(link, files, b"/tmp/d", b"xyz") == errno.ENOSPC
    assert files.quota.bytes == 1
    unlink(files, b"/tmp/a")
    mkdir(files, b"/tmp/d")


def test_a_very_deep_tree_is_no_trouble() -> None:
    files = make(max_files=5_000)
    files.change_directory(get(files, b"/tmp"))
    for _ in range(4_000):
        files.change_directory(mkdir(files, b"deeper"))
    files.open(AT_FDCWD, b"hidden", O_CREAT | O_WRONLY, 0o666)
    assert failure(files.working_directory) == errno.ENAMETOOLONG
    assert files.list_files() == []  # no host path could name it
    rename(files, b"hidden", b"/tmp/found")
    assert files.list_files() == ["/tmp/found"]
    files.close()
    assert files.tree.root.entries == {}
