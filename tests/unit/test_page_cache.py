"""A module that the system has dropped is read in one sweep before it is mapped; one that is there is left alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cloche.wasm_sandbox.page_cache import read_once

SIZE = 3_000_001


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "module.cwasm"
    path.write_bytes(os.urandom(SIZE))
    return path


def drop(path: Path) -> None:
    """Have the system forget what it holds of the file. Skips where it keeps it (tmpfs, other systems)."""
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("only Linux tells what is in memory")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], SIZE - 1, os.RWF_NOWAIT)
        except BlockingIOError:
            return
    pytest.skip("this file system keeps the file in memory")


def test_a_file_that_is_not_in_memory_is_read_and_then_it_is(file: Path) -> None:
    drop(file)
    assert read_once(file)
    assert not read_once(file)


def test_a_file_whose_end_is_missing_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def preadv(_descriptor: int, _buffers: list[bytearray], at: int, _flags: int) -> int:
        looked_at.append(at)
        if at > SIZE * 0.9:
            raise BlockingIOError(errno.EAGAIN, "not here")
        return 1

    monkeypatch.setattr(os, "preadv", preadv, raising=False)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    assert read_once(file)
    assert looked_at[0] == 0
    assert SIZE * 0.9 < looked_at[-1] < SIZE


def test_a_file_system_that_cannot_tell_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "preadv", preadv, raising=False)
    monkeypatch.setattr(os, "RWF_NOWAIT", 8, raising=False)
    assert not read_once(file)


def test_a_system_that_cannot_tell_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    assert not read_once(file)


def test_an_empty_file_has_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert not read_once(tmp_path / "empty")


def test_what_cannot_be_read_is_left_to_whoever_maps_it(tmp_path: Path) -> None:
    assert not read_once(tmp_path / "missing")
    assert not read_once(tmp_path)
