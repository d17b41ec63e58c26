"""Hashes of the files that an image is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUEST = HERE.parent / "guest"
RUNTIME = HERE.parents[1] / "runtime"
"""Of the host. (`resolve` above: in a checkout the packages are links.)"""
CODEC = ("value_decoder.py", "value_encoder.py", "value_forms.py", "value_types.py", "values.py")
"""The codec, which the guest has as `_cloche.values`."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_source(*names: str) -> str:
    """One hash over files of this folder."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (HERE / name).read_bytes())
    return digest.hexdigest()


def guest_package() -> dict[str, bytes]:
    """The guest's own package as archive names and sources, in order."""
    files = {f"_cloche/{path.name}": path.read_bytes() for path in sorted(GUEST.glob("*.py"))}
    files |= {f"_cloche/{name}": (RUNTIME / name).read_bytes() for name in CODEC}
    files.setdefault("_cloche/__init__.py", b"")
    return dict(sorted(files.items()))


def guest_hash(package: Mapping[str, bytes] | None = None) -> str:
    """sha256 over the guest package, this version's by default: an image with another one is stale."""
    digest = hashlib.sha256()
    for name, source in (guest_package() if package is None else package).items():
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()
