"""Opens an image: maps the file, finds its parts, knows its hash. Reads a few kilobytes of it.

An image is data; what runs natively is the compiled module that compile.py makes of it. `load_image` trusts the file to
be whole only as far as its sections are; `verify` recomputes the hash.
"""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import ImageError
from ...runtime.plain import record
from .manifest import Manifest, parse_manifest
from .sections import open_parts, unreadable
from .store import file_sha256, remedy


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
    """The image in this file, whose `sha256` the caller may know.

    Raises:
        ImageError: the file is missing, cut or no image of ours.
    """
    parts = open_parts(path)
    try:
        digest = sha256 or file_sha256(path)
    except (OSError, ValueError) as exc:
        raise unreadable(path, exc) from exc
    return Image(path, digest, parse_manifest(parts.manifest), parts.module, parts.stdlib)


def verify(path: Path) -> Image:
    """The image, after reading all of it: its hash computed anew, its name compared with it.

    Raises:
        ImageError: it is damaged, or it is not the file that its name says.
    """
    image = load_image(path)
    import hashlib

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
