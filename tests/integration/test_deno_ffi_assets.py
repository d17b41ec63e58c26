"""What a worker with `js_ffi` is made of: pinned files from the cache, nothing fetched, compiled once."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from cloche import ImageError
from cloche.wasm_sandbox.image import deno_ffi
from cloche.wasm_sandbox.image.load import Image, load_image
from cloche.wasm_sandbox.image.store import cache_dir, find_image

pytestmark = pytest.mark.deno


@pytest.fixture(scope="module")
def image() -> Image:
    return load_image(find_image())


def no_compile(sources: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Each source as its own .pyc."""
    return dict(sources)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has Pyodide's files."""
    npm = (cache_dir() / "npm").resolve()
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    (place / "npm").symlink_to(npm)
    monkeypatch.setenv("CLOCHE_CACHE", str(place))
    return place


def test_without_the_files_of_pyodide_the_error_says_what_to_run(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ImageError, match="run `cloche image build` once"):
        deno_ffi.ffi_assets(image, no_compile)


def test_a_file_that_is_not_the_pinned_one_is_not_used(
    image: Image, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deno_ffi.DIGESTS, "pyodide.asm.wasm", "0" * 64)
    with pytest.raises(ImageError, match=r"pyodide\.asm\.wasm"):
        deno_ffi.ffi_assets(image, no_compile)
    assert cache.is_dir()


def test_the_parts_are_there_and_the_library_is_compiled_once(image: Image, cache: Path) -> None:
    asked: list[int] = []

    def compile_sources(sources: Mapping[str, bytes]) -> Mapping[str, bytes]:
        asked.append(len(sources))
        assert all(path.startswith("/lib/python314.zip/") for path in sources)
        return no_compile(sources)

    assets = deno_ffi.ffi_assets(image, compile_sources)
    again = deno_ffi.ffi_assets(image, compile_sources)
    assert (len(asked), again) == (1, assets)
    with zipfile.ZipFile(io.BytesIO(assets.library)) as library:
        names = set(library.namelist())
    assert {"pyodide/ffi/__init__.pyc", "_pyodide/_base.py", "ctypes/__init__.pyc", "_cloche/entry.pyc"} <= names
    folder = assets.main.parent
    assert folder.is_relative_to(cache)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "pyodide.asm.mjs").read_bytes().count(b'Module["maxHeap"]??') == 1


def test_the_boot_frame_says_how_long_its_parts_are(image: Image, cache: Path) -> None:
    head, *parts = deno_ffi.ffi_assets(image, no_compile).boot_frame()
    length, header_length = struct.unpack_from("<II", head)
    header = json.loads(head[8:])
    assert header["attachments"] == [len(part) for part in parts]
    assert length == 4 + header_length + sum(map(len, parts))
    assert header["image"] == image.sha256
    assert cache.is_dir()
