"""The standard library as the guest reads it: one zip, not compressed, each source with its compiled form beside it.

`zipimport` takes the .pyc without a look at the source (unchecked hash), so an import costs no compiling; the .py stays
for tracebacks and `inspect`. The bytes depend on the contents only.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from ...runtime.errors import ImageError
from .boot import Interpreter
from .sections import STDLIB_PATH
from .sources import HERE

NATIVE_LIST = "_cloche_native.txt"
"""In the archive: packages that Pyodide has as native wheels, a line each: import name, tab, package, tab, version."""
_LEFT_OUT = ("pyodide/", "_pyodide/", "ctypes/", "site-packages/", "idlelib/", "__phello__/")
"""Parts of Pyodide's archive that need its JavaScript side (ctypes calls through it), or that nobody needs."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_STDLIB_BYTES = 64 * 1024 * 1024
_UNIX = 3


def stdlib_sources(packed: bytes) -> dict[str, bytes]:
    """The files of Pyodide's `python_stdlib.zip`, in order."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = sorted(item.filename for item in archive.infolist() if not item.is_dir())
        if sum(item.file_size for item in archive.infolist()) > _MAX_STDLIB_BYTES:
            raise ImageError("python_stdlib.zip is larger than any standard library")
        return {name: archive.read(name) for name in names if not name.startswith(_LEFT_OUT)}


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip with these files, stored, sorted by name, with fixed times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            item = zipfile.ZipInfo(name, _EPOCH)
            item.create_system = _UNIX
            item.external_attr = 0o644 << 16
            archive.writestr(item, files[name])
    return out.getvalue()


def unpack(archive: bytes) -> dict[str, bytes]:
    """The files of an archive that `pack` made."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return {item.filename: packed.read(item) for item in packed.infolist()}


def with_compiled(interpreter: Interpreter, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files and a .pyc beside each .py, compiled inside the guest."""
    result = dict(files)
    pending = iter([(name, source) for name, source in sorted(files.items()) if name.endswith(".py")])
    expected = ""

    def answer(message: bytes) -> bytes:
        nonlocal expected
        if message != b"next":
            path, _, code = message.removeprefix(b"done").partition(b"\0")
            if path.decode() != expected:
                raise ImageError(f"the guest compiled {path!r} where {expected} was asked for")
            if code:
                result[expected.removeprefix(f"{STDLIB_PATH}/") + "c"] = code
            return b""
        name, source = next(pending, ("", b""))
        expected = f"{STDLIB_PATH}/{name}"
        return expected.encode() + b"\0" + source if name else b""

    interpreter.run((HERE / "guest_compile.py").read_text(encoding="utf-8"), answer)
    return result
