"""An image as the Deno host takes it: the same interpreter, its memory beside the code instead of inside.

The rule: nothing is built here. The wasm loses its data section and imports a shared memory instead of defining one (so
that a second thread can set the interrupt flag); everything else is handed on as it stands in the image, unchanged and
uncopied. The image's own hash covers all of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ...runtime.errors import ImageError
from . import wasm
from .load import Image
from .sections import STDLIB_PATH
from .wasm import Section, WasmError

MAX_PAGES = 65535
"""Of the linear memory: the most that 32-bit pointers reach."""
_MEMORY_NAME = ("env", "memory")
_OUTPUT_STATE_AFTER = 4
"""Where the runner's byte is, from the interrupt flag; shim.wat documents it."""
_SHARED_WITH_MAXIMUM = 3
_ACTIVE, _LEFT_OUT = 0, (wasm.MEMORIES, wasm.DATA, wasm.DATA_COUNT)


@dataclass(frozen=True, slots=True)
class DenoAssets:
    """The parts of one image, in the order in which the process wants them."""

    image: str
    """sha256 of the image."""
    code: bytes
    """The module without its memory."""
    stdlib: memoryview
    segments: tuple[tuple[int, memoryview], ...]
    """Address and content of each part of the memory that is not zero."""
    pages: int
    interrupt: int
    output_state: int
    buffer_bytes: int

    def boot_frame(self, reader: bytes, memory_bytes: int | None = None) -> Iterator[bytes | memoryview]:
        """The first thing on the process's stdin, in pieces: a frame, see docs/design/deno.md.

        Args:
            reader: `HostScript.reader`.
            memory_bytes: the most that the linear memory may ever reach, whatever `start` says later.
        """
        parts = [memoryview(reader), memoryview(self.code), self.stdlib, *(part for _, part in self.segments)]
        most = MAX_PAGES if memory_bytes is None else max(self.pages, min(memory_bytes >> 16, MAX_PAGES))
        header = json.dumps(
            {
                "type": "boot",
                "attachments": [len(part) for part in parts],
                "image": self.image,
                "pages": self.pages,
                "max_pages": most,
                "interrupt": self.interrupt,
                "output_state": self.output_state,
                "buffer_bytes": self.buffer_bytes,
                "stdlib_path": STDLIB_PATH,
                "segments": [at for at, _ in self.segments],
            },
            separators=(",", ":"),
        ).encode("ascii")
        yield struct.pack("<II", 4 + len(header) + sum(map(len, parts)), len(header)) + header
        yield from parts


def deno_assets(image: Image) -> DenoAssets:
    """The parts of an image. The caller has verified the file; views into it live as long as `image`.

    Raises:
        ImageError: the image is none that the pipeline makes.
    """
    try:
        sections = _sections(image.module)
        code = wasm.build([_importing_memory(s) for s in sections if s.id not in _LEFT_OUT])
        segments = tuple(_segments(image.module))
    except (WasmError, IndexError) as exc:
        raise ImageError(f"the image {image.path} does not suit Deno: {exc}; run `cloche image build`") from exc
    manifest = image.manifest
    return DenoAssets(
        image.sha256,
        code,
        image.stdlib,
        segments,
        manifest.memory_pages,
        manifest.interrupt,
        manifest.interrupt + _OUTPUT_STATE_AFTER,
        manifest.buffer_bytes,
    )


def _sections(module: memoryview) -> list[Section]:
    """All sections, the data section empty: its 19 MB are not copied."""
    found: list[Section] = []
    for kind, start, end in _bounds(module):
        found.append(Section(kind, b"" if kind == wasm.DATA else bytes(module[start:end])))
    return found


def _bounds(module: memoryview) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each section's body."""
    at = len(wasm.MAGIC)
    if bytes(module[:at]) != wasm.MAGIC:
        raise WasmError("not a wasm module")
    while at < len(module):
        size, skip = wasm.read_leb(bytes(module[at + 1 : at + 11]), 0)
        start = at + 1 + skip
        if start + size > len(module):
            raise WasmError("cut in a section")
        yield module[at], start, start + size
        at = start + size


def _importing_memory(section: Section) -> Section:
    """The section of imports gets one more: the memory. It is the only one, so its number stays 0."""
    if section.id != wasm.IMPORTS:
        return section
    count, at = wasm.read_leb(section.body, 0)
    limits = bytes((_SHARED_WITH_MAXIMUM,)) + wasm.leb(1) + wasm.leb(MAX_PAGES)
    memory = b"".join(map(wasm.text, _MEMORY_NAME)) + bytes((wasm.MEMORY,)) + limits
    return Section(section.id, wasm.leb(count + 1) + memory + section.body[at:])


def _segments(module: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Address and bytes of each data segment."""
    for kind, start, end in _bounds(module):
        if kind == wasm.DATA:
            body = module[start:end]
            count, at = wasm.read_leb(bytes(body[:10]), 0)
            for _ in range(count):
                head = bytes(body[at : at + 24])
                after = wasm.skip_expression(head, 1)
                if head[0] != _ACTIVE:
                    raise WasmError("a segment that is not part of the memory's start")
                size, skip = wasm.read_leb(head, after)
                if at + skip + size > len(body):
                    raise WasmError("cut in a segment")
                yield wasm.read_i32_const(head[1:after]), body[at + skip : at + skip + size]
                at += skip + size
