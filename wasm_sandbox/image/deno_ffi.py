"""What a Deno worker with `js_ffi` is made of: the full Pyodide, pinned, with the guest and the library of our image.

The rule: nothing is fetched here. The files are those of the npm package that images are built from, each checked by
its hash; they are in the cache once an image was built. One place of Pyodide's glue is patched, so that its heap has a
cap that can be set; a release in which that place looks different is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ...deno_host.npm import PINNED, PYODIDE_VERSION
from ...runtime.errors import ImageError
from .archive import pack, unpack
from .deno_script import host_script
from .load import Image
from .sections import STDLIB_PATH
from .sources import HERE
from .stages import write_atomically
from .store import cache_dir, require_private

MAIN, GLUE = "ffi_main.js", "pyodide.asm.mjs"
PRELUDE = "guest_ffi.py"
_WASM, _LIBRARY = "pyodide.asm.wasm", "python_stdlib.zip"
_PACKAGE = f"pyodide/{PYODIDE_VERSION}"
DIGESTS = {
    GLUE: "f7cdc8ece80678ceb712f8e65ebe6d3a83203a180c399865f49612a051693635",
    _WASM: PINNED[f"{_PACKAGE}/{_WASM}"],
    _LIBRARY: PINNED[f"{_PACKAGE}/{_LIBRARY}"],
}
"""sha256 of each file that is used."""
_HEAP_CAP = (b"getHeapMax=()=>4294901760", b'getHeapMax=()=>Module["maxHeap"]??4294901760')
_NEEDED = ("pyodide/", "_pyodide/", "ctypes/")
"""Parts of Pyodide's library that the image leaves out."""
Compile = Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
"""Sources by path in the guest to the contents of their .pyc."""


@dataclass(frozen=True, slots=True)
class FfiAssets:
    """The parts of a worker, in the order in which the process wants them."""

    main: Path
    """The script to start. Its folder is all that the process has to be able to read."""
    reader: bytes
    image: str
    """sha256 of the image that the library and the guest are from."""
    python: str
    code: bytes
    library: bytes
    prelude: bytes

    def boot_frame(self) -> Iterator[bytes]:
        """The first thing on the process's stdin, in pieces: a frame, see docs/design/deno.md."""
        parts = (self.reader, self.code, self.library, self.prelude)
        fields = {"image": self.image, "pyodide": PYODIDE_VERSION, "python": self.python}
        record = {"type": "ffi_boot", "attachments": [len(part) for part in parts], **fields}
        header = json.dumps(record, separators=(",", ":")).encode("ascii")
        yield struct.pack("<II", 4 + len(header) + sum(map(len, parts)), len(header)) + header
        yield from parts


def ffi_assets(image: Image, compile_sources: Compile) -> FfiAssets:
    """The parts of workers that run the full Pyodide with the guest of this image. Takes half a second.

    Args:
        image: verified by the caller.
        compile_sources: asked once per machine and image, for what would else be compiled at every start.

    Raises:
        ImageError: Pyodide's own files are not in the cache, or the image has another Pyodide.
    """
    if image.manifest.pyodide != PYODIDE_VERSION:
        raise ImageError(f"js_ffi needs an image of Pyodide {PYODIDE_VERSION}; run `cloche image build`")
    script = host_script()
    scripts = {path.name: path.read_bytes() for path in script.main.parent.glob("*.js")}
    main = _scripts_with_glue(scripts)
    library = _library(image, compile_sources)
    prelude = (HERE / PRELUDE).read_bytes()
    python = image.manifest.python
    return FfiAssets(main, script.reader, image.sha256, python, _pinned(_WASM), library, prelude)


def _library(image: Image, compile_sources: Compile) -> bytes:
    """The image's archive and what it leaves out: one zip, as the guest is used to."""
    with zipfile.ZipFile(BytesIO(_pinned(_LIBRARY))) as archive:
        names = [name for name in archive.namelist() if name.startswith(_NEEDED) and not name.endswith("/")]
        more = {name: archive.read(name) for name in names}
    return pack(_with_compiled(image, more, compile_sources) | unpack(bytes(image.stdlib)))


def _with_compiled(image: Image, files: dict[str, bytes], compile_sources: Compile) -> dict[str, bytes]:
    """The files and a .pyc beside each .py, from the cache or made now."""
    folder = cache_dir() / "deno-host"
    folder.mkdir(exist_ok=True, mode=0o700)
    require_private(folder)
    kept = folder / f"ffi-library-{image.sha256[:16]}.zip"
    if kept.is_file():
        require_private(kept)
        with contextlib.suppress(zipfile.BadZipFile, ValueError):
            return unpack(kept.read_bytes())
    sources = {f"{STDLIB_PATH}/{name}": data for name, data in files.items() if name.endswith(".py")}
    made = compile_sources(sources)
    whole = files | {f"{path.removeprefix(STDLIB_PATH)[1:]}c": made[path] for path in sources}
    write_atomically(kept, pack(whole))
    return whole


def _scripts_with_glue(scripts: dict[str, bytes]) -> Path:
    """A private folder with the host's scripts and Pyodide's glue; the path of the script to start."""
    glue = _pinned(GLUE)
    if glue.count(_HEAP_CAP[0]) != 1:
        raise ImageError("Pyodide's glue is not the one that js_ffi knows")
    files = {**scripts, GLUE: glue.replace(*_HEAP_CAP)}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    folder = cache_dir() / "deno-host" / f"ffi-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    require_private(folder.parent)
    require_private(folder)
    for name, data in files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink() or path.read_bytes() != data:
            write_atomically(path, data)
    return folder / MAIN


def _pinned(name: str) -> bytes:
    """The file of Pyodide's package, from whichever registry's folder of the cache has it."""
    for path in sorted((cache_dir() / "npm").glob(f"npm/*/{_PACKAGE}/{name}")):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == DIGESTS[name]:
            return data
    raise ImageError(
        f"js_ffi needs {name} of Pyodide {PYODIDE_VERSION}, which is not in the cache; run `cloche image build` once"
    )
