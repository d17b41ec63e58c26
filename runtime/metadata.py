"""What a result was made with: versions, image and walls. One shared object per source of workers, not one per cell.

The rule: only what the host knows by itself stands here; nothing comes from a worker or a guest. A wall is listed as
active on the word of the jail's report, as in `Runtime.walls()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..wasm_sandbox.pinned import WASMTIME
from .plain import dataclass
from .walls import Isolation, Wall

VERSION = "0.1.0"
"""Of this package; a test compares it with `cloche.__version__`."""

if TYPE_CHECKING:
    from ..wasm_sandbox.image.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The machinery behind a cell. Equal for all cells of one runtime, isolation and fork server."""

    cloche: str
    """Version of this package."""
    engine: str
    """Name of the engine, such as "wasmtime"."""
    isolation: str
    """process or thread."""
    wasmtime: str
    """Release of the engine's library; the one that the code was compiled for. Empty for another engine."""
    pyodide: str
    """Release whose build of CPython the image is."""
    python: str
    """Version of the guest's CPython."""
    image: str
    """sha256 of the image, hexadecimal."""
    walls: tuple[str, ...]
    """Names of the walls that were active around the guest, in the order of `Runtime.walls()`."""

    def to_json(self) -> dict[str, object]:
        """As plain data, for a log or an audit record."""
        from dataclasses import asdict

        return {**asdict(self), "walls": list(self.walls)}


def metadata_of(
    manifest: Manifest, image: str, isolation: Isolation, walls: Sequence[Wall], engine: str = "wasmtime"
) -> Metadata:
    """The metadata of sandboxes from this image (its sha256) behind these walls."""
    return Metadata(
        cloche=VERSION,
        engine=engine,
        isolation=isolation,
        wasmtime=WASMTIME if engine == "wasmtime" else "",
        pyodide=manifest.pyodide,
        python=manifest.python,
        image=image,
        walls=tuple(wall.name for wall in walls if wall.active),
    )
