"""The cache of compiled modules: what is not surely ours is removed, reported and made anew, never loaded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import compile as compiled
from cloche.wasm_sandbox.image.store import cache_dir

SHA = "ab" * 32
SMALL = bytes(wasmtime.wat2wasm('(module (func (export "one") (result i32) (i32.const 1)))'))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))


def compile_small(heard: list[str] | None = None, *, epochs: bool = False) -> Path:
    return compiled.compile_cached(SMALL, SHA, epochs, (heard if heard is not None else []).append)


def test_a_module_is_compiled_once_and_found_again_in_silence() -> None:
    heard: list[str] = []
    path = compile_small(heard)
    assert [sentence.partition(" ")[0] for sentence in heard] == ["compiling", "compiled:"]
    before = path.stat()
    again: list[str] = []
    assert compile_small(again) == path
    assert again == []
    assert path.stat() == before


def test_modes_have_entries_of_their_own() -> None:
    assert compile_small() != compile_small(epochs=True)
    assert [entry.mode for entry in compiled.entries(cache_dir())] == ["epochs", "plain"]


def _flip(code: Path) -> None:
    data = bytearray(code.read_bytes())
    data[len(data) // 2] ^= 1
    code.write_bytes(data)


def _cut(code: Path) -> None:
    code.write_bytes(code.read_bytes()[:-1])


def _foreign_release(code: Path) -> None:
    record = json.loads((code.parent / compiled.RECORD).read_bytes())
    (code.parent / compiled.RECORD).write_text(json.dumps({**record, "wasmtime": "1.0"}), encoding="utf-8")


def _foreign_image(code: Path) -> None:
    record = json.loads((code.parent / compiled.RECORD).read_bytes())
    (code.parent / compiled.RECORD).write_text(json.dumps({**record, "image": "cd" * 32}), encoding="utf-8")


def _link(code: Path) -> None:
    elsewhere = code.parent.parent / "elsewhere"
    code.rename(elsewhere)
    code.symlink_to(elsewhere)


def _link_folder(code: Path) -> None:
    elsewhere = code.parent.parent / "elsewhere"
    code.parent.rename(elsewhere)
    code.parent.symlink_to(elsewhere)


DAMAGES: list[Callable[[Path], object]] = [
    _flip,
    _cut,
    _foreign_release,
    _foreign_image,
    _link,
    _link_folder,
    lambda code: code.unlink(),
    lambda code: code.chmod(0o666),
    lambda code: code.parent.chmod(0o770),
    lambda code: (code.parent / compiled.RECORD).unlink(),
    lambda code: (code.parent / compiled.RECORD).write_bytes(b"no json"),
    lambda code: (code.parent / compiled.RECORD).write_bytes(b"[]"),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.guarantee("G40")
def test_an_entry_that_is_not_surely_ours_is_reported_and_compiled_again(damage: Callable[[Path], object]) -> None:
    code = compile_small()
    good = code.read_bytes()
    damage(code)
    heard: list[str] = []
    assert compile_small(heard) == code
    assert "it is removed and compiled again" in heard[0]
    assert code.read_bytes() == good
    assert not code.is_symlink()
    silent: list[str] = []
    assert compile_small(silent) == code
    assert silent == []


def test_a_folder_of_compiled_modules_that_others_can_write_is_refused() -> None:
    code = compile_small()
    code.parent.parent.chmod(0o777)
    with pytest.raises(ImageError, match="can be written by other users"):
        compile_small()


def test_many_threads_that_need_the_same_module_compile_it_once() -> None:
    heard: list[str] = []
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(compile_small(heard))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(set(paths)) == 1
    assert len(paths) == 4
    assert sum(sentence.startswith("compiling") for sentence in heard) == 1


def test_an_entry_that_another_process_is_writing_is_left_alone_until_it_is_done() -> None:
    fcntl = pytest.importorskip("fcntl")
    code = compile_small()
    good = code.read_bytes()
    (code.parent / compiled.RECORD).unlink()
    waiting = threading.Event()
    with code.parent.with_name(code.parent.name + ".lock").open("a+b") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        thread = threading.Thread(
            target=lambda: compiled.compile_cached(SMALL, SHA, False, lambda _text: waiting.set())
        )
        thread.start()
        assert waiting.wait(30)
        assert code.read_bytes() == good
    thread.join(30)
    assert not thread.is_alive()
    assert compile_small() == code


def test_pruning_leaves_alone_what_another_process_is_writing() -> None:
    fcntl = pytest.importorskip("fcntl")
    code = compile_small()
    (code.parent / compiled.RECORD).unlink()
    with code.parent.with_name(code.parent.name + ".lock").open("a+b") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        assert compiled.prune(cache_dir(), set()) == []
    assert compiled.prune(cache_dir(), set()) == [code.parent]


def test_pruning_keeps_the_modules_of_the_images_in_use() -> None:
    kept, gone = compile_small(), compiled.compile_cached(SMALL, "cd" * 32, False)
    assert compiled.prune(cache_dir(), {SHA}) == [gone.parent]
    assert kept.exists()
    assert not gone.parent.exists()
