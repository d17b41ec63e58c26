"""Opens an image: maps the file, finds its parts, knows its hash. Reads a few kilobytes of it.

An image is data; what runs natively is the compiled module that compile.py makes of it. `load_image` trusts the file to
be whole only as far as its sections are; `verify` recomputes the hash.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

from ...runtime.errors import ImageError
from ...runtime.plain import record
from . import wasm
from .manifest import MANIFEST_SECTION, STDLIB_SECTION, Manifest, parse_manifest
from .store import file_sha256, remedy

_MAX_SECTIONS = 64


@record
class Image:
    """One image, mapped. The mapping lives as long as the object and its views."""

    path: Path
    sha256: str
    manifest: Manifest
    module: memoryview
    """The wasm without our custom sections: what gets compiled."""
    stdlib: memoryview
    """The archive of the standard library, the guest's own package and the packages that were baked in."""


def load_image(path: Path, sha256: str | None = None) -> Image:
    """The image in this file.

    Args:
        sha256: of the file, for a worker process: its host has just looked, and it has no cache folder of its own.

    Raises:
        ImageError: the file is missing, cut or no image of ours.
    """
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        digest = sha256 or file_sha256(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc  # ValueError: an empty file cannot be mapped
        raise ImageError(f"the image {path} cannot be read ({reason}); {remedy(path)}") from exc
    try:
        end, parts = _our_sections(view)
        manifest = parse_manifest(parts[MANIFEST_SECTION])
        return Image(path, digest, manifest, view[:end], parts[STDLIB_SECTION])
    except (wasm.WasmError, KeyError, IndexError, UnicodeDecodeError):
        raise ImageError(f"{path} is damaged or no image of cloche; {remedy(path)}") from None


def verify(path: Path) -> Image:
    """The image, after reading all of it: its hash computed anew, its name compared with it.

    Raises:
        ImageError: it is damaged, or it is not the file that its name says.
    """
    image = load_image(path)
    digest = hashlib.sha256()
    digest.update(image.module.obj)  # the whole mapping
    if digest.hexdigest() != image.sha256 or not _name_fits(path, image.sha256):
        raise ImageError(f"the image {path} was changed after it was built; {remedy(path)}")
    return image


def _name_fits(path: Path, digest: str) -> bool:
    """Images in the cache are named by the start of their hash; other files may have any name."""
    if path.parent.name != "images":
        return True
    return path.stem == digest[:16]


def _our_sections(view: memoryview) -> tuple[int, dict[str, memoryview]]:
    """Where our sections begin (they are the last ones), and their bodies."""
    if bytes(view[:8]) != wasm.MAGIC:
        raise wasm.WasmError("not a wasm module")
    at, end = 8, len(view)
    parts: dict[str, memoryview] = {}
    for _ in range(_MAX_SECTIONS):
        if at == len(view):
            break
        header = bytes(view[at : at + 64])
        size, start = wasm.read_leb(header, 1)
        body = at + start
        if body + size > len(view):
            raise wasm.WasmError("cut in a section")
        if header[0] == wasm.CUSTOM:
            name, skip = wasm.read_text(header[start:], 0)
            end = min(end, at)
            parts[name] = view[body + skip : body + size]
        elif parts:
            raise wasm.WasmError("our sections are not the last ones")
        at = body + size
    if at != len(view):
        raise wasm.WasmError("too many sections")
    return end, parts
