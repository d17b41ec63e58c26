"""What an image says about itself: the custom section `cloche.manifest`."""

from __future__ import annotations

import json
from typing import Any, cast

from ...runtime.errors import ImageError
from ...runtime.plain import field, record

FORMAT = 1
"""Rises when an older reader could misread an image."""


@record
class Package:
    """A wheel that was baked in."""

    name: str
    version: str
    file: str
    sha256: str


@record
class Manifest:
    """Facts about one image, all of them fixed when it was built."""

    format: int
    pyodide: str
    python: str
    binaryen: str
    wasmtime: str
    """The release that booted it; the code in the image is not bound to it."""
    guest: str
    """sha256 over the guest's own package."""
    lock: str
    """sha256 of pyodide-lock.json, which describes what Pyodide's release holds."""
    abi: str
    """Pyodide's ABI of native wheels."""
    scratch: int
    """Address of the shim's area; see shim.wat."""
    interrupt: int
    """Address of the interrupt flag."""
    buffer: int
    buffer_bytes: int
    memory_pages: int
    """Linear memory at the start, in pages of 64 KiB."""
    exports: list[str]
    inputs: dict[str, str]
    """sha256 of each file that came from npm."""
    preloaded: list[str]
    """Modules that are in `sys.modules` already."""
    modules: int
    """Modules in the archive."""
    packages: list[Package] = field(default_factory=list[Package])

    def to_json(self) -> bytes:
        from dataclasses import asdict  # 10 ms, and only a build comes here

        return json.dumps(asdict(cast("Any", self)), sort_keys=True, separators=(",", ":")).encode("utf-8")


def parse_manifest(raw: bytes | memoryview) -> Manifest:
    """The manifest in these bytes.

    Raises:
        ImageError: they are none, or one of another format.
    """
    try:
        data = json.loads(bytes(raw))
        if data["format"] != FORMAT:
            raise ImageError(
                f"the image has format {data['format']}, this cloche reads {FORMAT}; run `cloche image build`"
            )
        packages = [Package(**package) for package in data.pop("packages")]
        return Manifest(packages=packages, **data)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ImageError("the image's manifest is damaged; run `cloche image build`") from exc
