"""The cache folder, which image is used, and what is remembered about a file."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import store
from cloche.wasm_sandbox.image.stages import Stages, write_atomically


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLOCHE_IMAGE", raising=False)
    monkeypatch.setattr(store, "PACKAGED", tmp_path / "packaged.wasm")


def test_the_cache_folder_is_made_for_its_user_alone() -> None:
    assert store.cache_dir().stat().st_mode & 0o777 == 0o700


def test_the_cache_follows_its_variable_then_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("CLOCHE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_dir() == tmp_path / "xdg" / "cloche"


def test_a_cache_that_others_can_write_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(ImageError, match="can be written by other users; remove it, or set CLOCHE_CACHE"):
        store.cache_dir()


def test_a_cache_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(ImageError, match="is a symbolic link"):
        store.cache_dir()


@pytest.mark.guarantee("G40")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no mode bits")
def test_a_cache_below_a_folder_that_others_can_write_is_refused_for_they_could_put_another_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "shared"
    (above / "cache").mkdir(parents=True, mode=0o700)
    above.chmod(0o777)
    monkeypatch.setenv("CLOCHE_CACHE", str(above / "cache"))
    with pytest.raises(ImageError, match=r"shared can be written by other users, so the cache .* can be replaced"):
        store.cache_dir()
    (tmp_path / "link").symlink_to(above)
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "link" / "cache"))
    with pytest.raises(ImageError, match="shared can be written by other users"):
        store.cache_dir()
    above.chmod(0o1777)  # as /tmp is: only owners rename
    assert store.cache_dir() == tmp_path / "link" / "cache"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="it gives a folder away")
def test_a_cache_below_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = tmp_path / "theirs"
    above.mkdir()
    os.chown(above, 12345, 12345)
    monkeypatch.setenv("CLOCHE_CACHE", str(above / "cache"))
    with pytest.raises(ImageError, match="theirs belongs to user 12345"):
        store.cache_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no mode bits")
def test_folders_above_the_cache_are_made_for_its_user_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "a" / "b" / "cache"))
    before = os.umask(0)
    try:
        store.cache_dir()
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/cache")] == [0o700] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_file_is_never_written_through_a_link_that_somebody_put_in_its_way(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched", encoding="utf-8")
    (tmp_path / f".out.{os.getpid()}.{threading.get_ident()}.part").symlink_to(victim)
    write_atomically(tmp_path / "out", b"image")
    assert (tmp_path / "out").read_bytes() == b"image"
    assert victim.read_text(encoding="utf-8") == "untouched"


def test_a_cache_that_cannot_be_made_is_an_image_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ImageError, match="cannot be made"):
        store.cache_dir()


def test_without_an_image_the_error_names_the_command() -> None:
    with pytest.raises(ImageError, match="cloche image build"):
        store.find_image()


def test_the_variable_wins_over_the_packaged_image_and_that_over_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = store.cache_dir() / "images"
    images.mkdir()
    (images / "0123.wasm").write_bytes(b"")
    (images / "current").write_text("0123.wasm", encoding="utf-8")
    assert store.find_image() == images / "0123.wasm"
    store.PACKAGED.write_bytes(b"")
    assert store.find_image() == store.PACKAGED
    (tmp_path / "mine.wasm").write_bytes(b"")
    monkeypatch.setenv("CLOCHE_IMAGE", str(tmp_path / "mine.wasm"))
    assert store.find_image() == tmp_path / "mine.wasm"
    monkeypatch.setenv("CLOCHE_IMAGE", str(tmp_path / "absent.wasm"))
    with pytest.raises(ImageError, match="names .*absent.wasm, which is no file"):
        store.find_image()


def test_a_pointer_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    images = store.cache_dir() / "images"
    images.mkdir()
    (tmp_path / "cache" / "elsewhere.wasm").write_bytes(b"")
    (images / "current").write_text("../elsewhere.wasm", encoding="utf-8")
    assert store.current_image(store.cache_dir()) is None


def test_a_changed_file_is_hashed_again_even_when_size_and_mtime_are_set_back(tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_bytes(b"a" * 1000)
    before, times = store.file_sha256(path), path.stat()
    assert store.file_sha256(path) == before
    path.write_bytes(b"b" * 1000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.file_sha256(path) != before


@pytest.mark.parametrize("text", ["", "[]", '{"state": 1}', "\xff"])
def test_a_damaged_record_of_a_hash_is_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / "code"
    path.write_bytes(b"a")
    digest = store.file_sha256(path)
    (record,) = (store.cache_dir() / "seals").iterdir()
    record.write_bytes(text.encode("latin-1"))
    assert store.file_sha256(path) == digest


def test_a_kept_result_is_used_again_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> bytes:
        made.append("x")
        return b"result"

    stages = Stages(tmp_path / "stages", lambda _sentence: None)
    first = stages.run("step", {"input": "1"}, make)
    assert stages.run("step", {"input": "1"}, make) == first
    assert len(made) == 1
    (kept,) = (tmp_path / "stages").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    assert stages.run("step", {"input": "1"}, make) == first
    assert len(made) == 2
    stages.run("step", {"input": "2"}, make)
    assert len(made) == 3
