"""The host's own way in: reading, writing, listing, and what changed under /out."""

from __future__ import annotations

import gc
import itertools
import sys
from functools import partial

import pytest

from cloche.wasm_sandbox import errno
from cloche.wasm_sandbox.filesystem import FileSystem, FsError
from cloche.wasm_sandbox.filesystem.descriptors import O_CREAT, O_RDWR, O_TRUNC, O_WRONLY
from cloche.wasm_sandbox.filesystem.nodes import File
from cloche.wasm_sandbox.filesystem.system import AT_FDCWD


def make(max_files: int = 50, max_bytes: int = 1_000) -> FileSystem:
    clock = itertools.count(1_000)
    return FileSystem(
        {"/lib/python314.zip": b"zip", "/lib/extra/a.py": b"1"}, max_files, max_bytes, lambda: next(clock)
    )


def rename(files: FileSystem, old: bytes, new: bytes) -> None:
    files.tree.rename(files.find(AT_FDCWD, old, follow=False), files.find(AT_FDCWD, new, follow=False))


def refused(files: FileSystem, path: str, data: bytes | None = None) -> str:
    action = partial(files.read_file, path) if data is None else partial(files.write_file, path, data)
    with pytest.raises(FsError) as caught:
        action()
    return str(caught.value)


def test_files_of_the_image_lie_where_they_were_put_and_are_not_copied() -> None:
    data = memoryview(b"x" * 1000)
    files = FileSystem({"/lib/a/b.zip": data}, 0, 0, lambda: 0)
    node = files.node(AT_FDCWD, b"/lib/a/b.zip", follow=True)
    assert isinstance(node, File)
    assert isinstance(node.data, memoryview)
    assert node.data.obj is data.obj
    assert node.data.readonly
    with pytest.raises(FsError):
        files.write_file("/lib/a/c", b"")


def test_a_sandbox_that_needs_no_file_makes_none() -> None:
    files = make()
    marker = files.generation
    files.limit(max_files=1, max_bytes=5)
    assert vars(files)["_contents"] is None

    files.write_file("/out/a", b"12345")

    assert files.changed_under("/out", marker) == [("/out/a", 5)]
    assert sorted(files.open_files.table) == [0, 1, 2]
    assert files.working_directory() == b"/home/web_user"
    assert "no space left" in refused(files, "/out/b", b"")


def test_closing_is_quiet_before_the_first_file_and_twice() -> None:
    files = make()
    files.close()
    assert vars(files)["_contents"] is None
    files.write_file("/out/a", b"1")
    files.close()
    files.close()
    assert not files.open_files.table
    assert files.cwd is files.tree.root
    assert not files.tree.root.entries


def test_writing_makes_folders_and_replaces_contents() -> None:
    files = make()
    files.write_file("/data/in/table.csv", b"a,b")
    files.write_file("/data/in/table.csv", b"c")
    files.write_file("relative.txt", b"r")
    assert files.read_file("/data/in/table.csv") == b"c"
    assert files.list_files() == ["/data/in/table.csv", "/home/web_user/relative.txt"]
    assert (files.quota.files, files.quota.bytes) == (4, 2)


def test_refusals_say_what_is_wrong() -> None:
    files = make(max_bytes=10)
    assert refused(files, "/none") == "no such file or directory"
    assert refused(files, "/tmp") == "is a directory"
    assert refused(files, "/tmp", b"") == "is a directory"
    assert refused(files, "/dev/null") == "invalid argument"
    assert refused(files, "/dev/null", b"x") == "invalid argument"
    assert refused(files, "/tmp/f", b"x" * 11) == "no space left: the sandbox's limit on files or file bytes is reached"
    assert refused(files, "/tmp/f/", b"") == "is a directory"
    assert refused(files, "", b"") == "no such file or directory"
    assert files.list_files() == []


def test_failed_write_leaves_the_old_content() -> None:
    files = make(max_bytes=10)
    files.write_file("/tmp/f", b"old")
    assert refused(files, "/tmp/f", b"x" * 11).startswith("no space left")
    assert files.read_file("/tmp/f") == b"old"
    files.write_file("/tmp/f", b"x" * 10)


def test_limits_may_change_and_what_exists_stays() -> None:
    files = make()
    files.write_file("/tmp/f", b"12345")
    files.limit(max_files=1, max_bytes=3)
    assert files.read_file("/tmp/f") == b"12345"
    assert refused(files, "/tmp/g", b"").startswith("no space left")
    files.write_file("/tmp/f", b"1")


def test_new_and_changed_files_under_a_folder_are_found() -> None:
    files = make()
    files.write_file("/out/old", b"1")
    files.write_file("/out/touched", b"1")
    marker = files.generation
    assert files.changed_under("/out", marker) == []
    files.write_file("/out/b/new", b"123")
    fd = files.open(AT_FDCWD, b"/out/touched", O_WRONLY, 0)
    files.open_files.write(fd, b"22")
    files.write_file("/tmp/elsewhere", b"")
    assert files.changed_under("/out", marker) == [("/out/b/new", 3), ("/out/touched", 2)]
    assert files.changed_under("/out", 0) == [("/out/b/new", 3), ("/out/old", 1), ("/out/touched", 2)]


def test_files_that_were_moved_in_with_their_folder_count_as_new() -> None:
    files = make()
    files.write_file("/tmp/a/b/f", b"1")
    files.write_file("/out/kept", b"1")
    marker = files.generation
    rename(files, b"/tmp/a", b"/out/a")
    assert files.changed_under("/out", marker) == [("/out/a/b/f", 1)]


def test_truncating_and_making_empty_files_are_changes() -> None:
    files = make()
    files.write_file("/out/f", b"1")
    marker = files.generation
    files.open(AT_FDCWD, b"/out/f", O_RDWR | O_TRUNC, 0)
    files.open(AT_FDCWD, b"/out/empty", O_CREAT | O_RDWR, 0o600)
    assert files.changed_under("/out/", marker) == [("/out/empty", 0), ("/out/f", 0)]


@pytest.mark.guarantee("G27")
def test_links_and_folders_are_no_artifacts() -> None:
    files = make()
    files.write_file("/tmp/secret", b"1")
    files.tree.new_symlink(files.find(AT_FDCWD, b"/out/link", follow=False), b"/tmp/secret")
    files.tree.new_symlink(files.find(AT_FDCWD, b"/out/lib", follow=False), b"/lib")
    assert files.changed_under("/out", 0) == []


def test_closing_frees_contents_without_the_garbage_collector() -> None:
    files = make()
    files.write_file("/tmp/a/b/c", b"1")
    files.open(AT_FDCWD, b"/tmp/a/b/c", O_RDWR, 0)
    gc.disable()
    try:
        node = files.node(AT_FDCWD, b"/tmp/a/b/c", follow=True)
        assert isinstance(node, File)
        content = node.data
        del node
        files.close()
        assert sys.getrefcount(content) == 2  # this name and the call's argument
    finally:
        gc.enable()


def test_error_numbers_have_texts() -> None:
    numbers = [value for name, value in vars(errno).items() if name.startswith("E")]
    assert len(set(numbers)) == len(numbers) == 26
    assert not [n for n in numbers if errno.describe(n).startswith("error ")]
    assert errno.describe(9999) == "error 9999"
