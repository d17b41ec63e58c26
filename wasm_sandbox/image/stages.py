"""Results of the build's slow steps, kept by the hash of their inputs. A kept result is checked before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ...runtime.errors import ImageError
from ...runtime.plain import record

Progress = Callable[[str], None]
"""Takes one sentence about what the build does now."""
_DIGEST_BYTES = 32


@record
class Result:
    """What a stage made, and its sha256."""

    data: bytes
    sha256: str


class Stages:
    """A folder of results."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress

    def run(self, name: str, inputs: Mapping[str, str], make: Callable[[], bytes]) -> Result:
        """The kept result of `make` for these inputs, or a new one. `inputs` has all that the result depends on."""
        key = hashlib.sha256(json.dumps([name, dict(inputs)], sort_keys=True).encode()).hexdigest()[:16]
        path = self.directory / f"{name}-{key}"
        kept = _read(path)
        if kept is not None:
            return kept
        self.progress(name)
        started = time.monotonic()
        data = make()
        result = Result(data, hashlib.sha256(data).hexdigest())
        write_atomically(path, bytes.fromhex(result.sha256) + data)
        self.progress(f"{name}: {len(data) / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")
        return result


def _read(path: Path) -> Result | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    data = raw[_DIGEST_BYTES:]
    digest = hashlib.sha256(data).digest()
    return Result(data, digest.hex()) if digest == raw[:_DIGEST_BYTES] else None


def write_atomically(path: Path, data: bytes | memoryview, mode: int = 0o600) -> None:
    """Write the file so that nobody ever sees a part of it.

    Raises:
        ImageError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)  # never through somebody's link
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise ImageError(f"cannot write {path}: {exc.strerror}; free some space or set CLOCHE_CACHE") from exc
