"""Opening an image file: whole, cut, foreign, of another format."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import wasm
from cloche.wasm_sandbox.image.load import load_image, verify
from cloche.wasm_sandbox.image.manifest import FORMAT, Manifest, Package, parse_manifest
from cloche.wasm_sandbox.image.sections import MANIFEST_SECTION, STDLIB_SECTION

MANIFEST = Manifest(
    format=FORMAT,
    pyodide="1",
    python="3.14",
    binaryen="2",
    wasmtime="3",
    guest="aa",
    lock="bb",
    abi="2026_0",
    scratch=16,
    interrupt=24,
    buffer=32,
    buffer_bytes=65536,
    memory_pages=1,
    exports=["memory"],
    inputs={"a": "b"},
    preloaded=["json"],
    modules=1,
    packages=[Package("six", "1.0", "six-1.0-py3-none-any.whl", "cc")],
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))


def image_bytes(manifest: bytes | None = None) -> bytes:
    sections = [
        wasm.Section(wasm.MEMORIES, b"\x01\x00\x01"),
        wasm.custom(MANIFEST_SECTION, MANIFEST.to_json() if manifest is None else manifest),
        wasm.custom(STDLIB_SECTION, b"PK" + bytes(range(256)) * 8),
    ]
    return wasm.build(sections)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "image.wasm"
    path.write_bytes(data)
    return path


def test_a_whole_image_has_manifest_module_and_archive(tmp_path: Path) -> None:
    data = image_bytes()
    image = load_image(written(tmp_path, data))
    assert image.manifest == MANIFEST
    assert image.module == wasm.build([wasm.Section(wasm.MEMORIES, b"\x01\x00\x01")])
    assert bytes(image.stdlib) == b"PK" + bytes(range(256)) * 8
    assert image.sha256 == hashlib.sha256(data).hexdigest()


def test_an_image_that_is_cut_anywhere_is_refused_with_the_command(tmp_path: Path) -> None:
    data = image_bytes()
    for length in (0, 1, 7, 8, 9, 13, 20, 40, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError, match="cloche image build"):
            load_image(written(tmp_path, data[:length]))


@pytest.mark.parametrize("data", [b"x" * 5000, wasm.MAGIC, wasm.build([wasm.Section(wasm.MEMORIES, b"\x01\x00\x01")])])
def test_a_file_that_is_no_image_of_ours_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match="no image of cloche"):
        load_image(written(tmp_path, data))


def test_a_missing_file_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(tmp_path / "absent.wasm")


def test_code_behind_our_sections_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image of cloche"):
        load_image(written(tmp_path, image_bytes() + b"\x05\x03\x01\x00\x01"))


def test_another_format_is_named(tmp_path: Path) -> None:
    raw = json.dumps({**json.loads(MANIFEST.to_json()), "format": 99}).encode()
    with pytest.raises(ImageError, match=f"has format 99, this cloche reads {FORMAT}"):
        load_image(written(tmp_path, image_bytes(raw)))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "packages": [{}]}', b"\xff"])
def test_a_damaged_manifest_is_an_image_error(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ImageError, match="cloche image build"):
        load_image(written(tmp_path, image_bytes(raw)))


def test_verify_compares_a_cached_image_with_its_name(tmp_path: Path) -> None:
    data = image_bytes()
    folder = tmp_path / "images"
    folder.mkdir()
    good = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.wasm"
    good.write_bytes(data)
    assert verify(good).manifest == MANIFEST
    changed = bytearray(data)
    changed[-1] ^= 1
    good.write_bytes(changed)
    with pytest.raises(ImageError, match="was changed after it was built"):
        verify(good)


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"format":' + b"9" * 100_000 + b"}", b"\xff\xfe", b"[]", b"{}"])
def test_a_manifest_that_a_stranger_made_up_is_an_image_error(raw: bytes) -> None:
    with pytest.raises(ImageError):
        parse_manifest(raw)
