"""An image as the Deno host takes it: the module without its memory, the memory beside it, and nothing else changed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import wasm
from cloche.wasm_sandbox.image.deno_assets import MAX_PAGES, DenoAssets, deno_assets
from cloche.wasm_sandbox.image.load import Image, load_image
from cloche.wasm_sandbox.image.manifest import FORMAT, Manifest
from cloche.wasm_sandbox.image.sections import MANIFEST_SECTION, STDLIB_SECTION
from cloche.wasm_sandbox.image.wasm import Section

SEGMENTS = ((8, b"tea"), (70_000, b"milk" * 100))
ARCHIVE = b"the standard library"


def module(segment_kind: int = 0) -> list[Section]:
    """A module with an import, a memory of two pages, an export and two segments."""
    segments = [bytes((segment_kind,)) + wasm.i32_const(at) + wasm.leb(len(part)) + part for at, part in SEGMENTS]
    imported = wasm.text("env") + wasm.text("f") + bytes((wasm.FUNCTION, 0))
    return [
        Section(1, wasm.vector([b"\x60\0\0"])),
        Section(wasm.IMPORTS, wasm.vector([imported])),
        Section(wasm.MEMORIES, wasm.vector([b"\1\2\x80\x80\4"])),
        Section(wasm.EXPORTS, wasm.vector([wasm.export("memory", wasm.MEMORY, 0)])),
        Section(wasm.DATA_COUNT, wasm.leb(len(segments))),
        Section(wasm.DATA, wasm.vector(segments)),
    ]


def image_of(folder: Path, sections: list[Section]) -> Image:
    manifest = Manifest(
        format=FORMAT, pyodide="", python="", binaryen="", wasmtime="", guest="", lock="", abi="", scratch=64,
        interrupt=72, buffer=80, buffer_bytes=65536, memory_pages=2, exports=[], inputs={}, preloaded=[], modules=0,
    )  # fmt: skip
    ours = [wasm.custom(MANIFEST_SECTION, manifest.to_json()), wasm.custom(STDLIB_SECTION, ARCHIVE)]
    path = folder / "image.wasm"
    path.write_bytes(wasm.build([*sections, *ours]))
    return load_image(path, "ab" * 32)


@pytest.fixture
def assets(tmp_path: Path) -> DenoAssets:
    return deno_assets(image_of(tmp_path, module()))


def boot(assets: DenoAssets, memory_bytes: int | None = None) -> tuple[dict[str, object], list[bytes]]:
    first, *parts = (bytes(part) for part in assets.boot_frame(b"reader", memory_bytes))
    length, header_length = struct.unpack_from("<II", first)
    assert len(first) == 8 + header_length
    assert length == len(first) - 4 + sum(map(len, parts))
    return json.loads(first[8:]), parts


def test_the_memory_is_imported_shared_and_nothing_of_it_is_left_inside(assets: DenoAssets) -> None:
    sections = wasm.parse(assets.code)
    assert [section.id for section in sections] == [1, wasm.IMPORTS, wasm.EXPORTS]
    entries = list(wasm.imports(sections))
    assert [(entry.module, entry.name, entry.kind) for entry in entries] == [
        ("env", "memory", wasm.MEMORY),
        ("env", "f", wasm.FUNCTION),
    ]
    assert entries[0].raw.endswith(b"\2\3\1" + wasm.leb(MAX_PAGES))


def test_every_segment_goes_where_the_image_had_it(assets: DenoAssets) -> None:
    assert [(at, bytes(part)) for at, part in assets.segments] == list(SEGMENTS)


def test_the_boot_frame_lists_its_parts_in_the_order_of_their_use(assets: DenoAssets) -> None:
    header, parts = boot(assets)
    assert parts == [b"reader", assets.code, ARCHIVE, *(part for _, part in SEGMENTS)]
    assert header == {
        "type": "boot",
        "attachments": [len(part) for part in parts],
        "image": "ab" * 32,
        "pages": 2,
        "max_pages": MAX_PAGES,
        "interrupt": 72,
        "output_state": 76,
        "buffer_bytes": 65536,
        "stdlib_path": "/lib/python314.zip",
        "segments": [8, 70_000],
    }


@pytest.mark.parametrize(
    ("memory_bytes", "pages"), [(0, 2), (10 * 65536, 10), (10 * 65536 + 1, 10), (1 << 40, MAX_PAGES)]
)
def test_the_most_memory_is_in_whole_pages_and_never_less_than_the_start(
    assets: DenoAssets, memory_bytes: int, pages: int
) -> None:
    assert boot(assets, memory_bytes)[0]["max_pages"] == pages


def test_an_image_with_a_segment_that_is_not_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cloche image build"):
        deno_assets(image_of(tmp_path, module(segment_kind=2)))


def test_an_image_that_is_cut_is_refused(tmp_path: Path) -> None:
    cut = module()
    cut[-1] = Section(wasm.DATA, cut[-1].body[:-100] + b"\xff" * 2)
    with pytest.raises(ImageError, match="cloche image build"):
        deno_assets(image_of(tmp_path, cut))
