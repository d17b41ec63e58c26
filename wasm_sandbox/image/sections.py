"""An image file, mapped, and where its parts lie: all that a worker needs of it, and the little that this takes.

The rule: nothing is copied, and the file is trusted to be whole only as far as its sections are.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from ...runtime.errors import ImageError
from ...runtime.plain import record
from . import wasm

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_SECTION, STDLIB_SECTION = "cloche.manifest", "cloche.stdlib"
STDLIB_PATH = "/lib/python314.zip"
"""Where the guest's own `sys.path` looks for it."""
_MAX_SECTIONS = 64


@record
class Parts:
    """Views of one mapping, which lives as long as they do."""

    module: memoryview
    """The wasm without our custom sections: what gets compiled."""
    manifest: memoryview
    stdlib: memoryview
    """The archive of the standard library, the guest's own package and the packages that were baked in."""


def open_parts(path: str | Path) -> Parts:
    """The parts of the image in this file.

    Raises:
        ImageError: the file is missing, cut or no image of ours.
    """
    try:
        with open(path, "rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as exc:
        raise unreadable(path, exc) from exc
    try:
        end, sections = _our_sections(view)
        return Parts(view[:end], sections[MANIFEST_SECTION], sections[STDLIB_SECTION])
    except (wasm.WasmError, KeyError, IndexError, UnicodeDecodeError):
        raise ImageError(f"{path} is damaged or no image of cloche; {_remedy(path)}") from None


def unreadable(path: str | Path, exc: OSError | ValueError) -> ImageError:
    """The error for a file that cannot be read, or (ValueError) is empty."""
    reason = exc.strerror if isinstance(exc, OSError) else exc
    return ImageError(f"the image {path} cannot be read ({reason}); {_remedy(path)}")


def _remedy(path: str | Path) -> str:
    from pathlib import Path

    from .store import remedy

    return remedy(Path(path))


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
