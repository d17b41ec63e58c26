"""Builds `wasm_sandbox/image.wasm` when it is missing or older than its sources, and compiles it for this machine.

A file beside the image keeps the hash of the sources and of the image itself, so a changed guest, a changed builder and
a damaged image are all noticed.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from cloche.runtime.errors import ClocheError
from cloche.wasm_sandbox.image.compile import compiled_module
from cloche.wasm_sandbox.image.load import load_image

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "wasm_sandbox" / "image.wasm"
STAMP = ROOT / "wasm_sandbox" / "image.wasm.inputs"
SOURCES = (
    "wasm_sandbox/guest/**/*",
    "wasm_sandbox/*.py",
    "wasm_sandbox/imports/*.py",
    "wasm_sandbox/image/*",
    "deno_host/*",
    "runtime/value*.py",  # the codec is baked into the guest too
)


def main() -> int:
    """Returns the exit code."""
    try:
        inputs = _inputs_digest()
        if not IMAGE.is_file() or _read_stamp() != f"{inputs} {_digest(IMAGE)}":
            _build(inputs)
        _compile()
    except ClocheError as exc:
        print(f"image: {exc}", file=sys.stderr)
        return 1
    return 0


def _build(inputs: str) -> None:
    from cloche.wasm_sandbox.image.build import build_image  # late: the usual run has nothing to build

    started = time.monotonic()
    print("image: building wasm_sandbox/image.wasm from its pinned inputs", flush=True)
    build_image(IMAGE, progress=_say)
    STAMP.write_text(f"{inputs} {_digest(IMAGE)}", encoding="utf-8")
    print(f"image: built in {time.monotonic() - started:.0f} s")


def _compile() -> None:
    """Machine code for both isolations, in the user's cache, so that no test or demo waits for it."""
    image = load_image(IMAGE)
    for epochs in (False, True):
        compiled_module(image, epochs, progress=_say)


def _say(sentence: str) -> None:
    print(f"image: {sentence}", flush=True)


def _inputs_digest() -> str:
    """One hash over all that the image depends on, names included."""
    files = {path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file()}
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.suffix != ".pyc":
            digest.update(f"{path.relative_to(ROOT)} {_digest(path)}\n".encode())
    return digest.hexdigest()


def _read_stamp() -> str:
    try:
        return STAMP.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
