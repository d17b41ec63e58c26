"""Machine code of an image, made once per machine and kept in the cache.

Nothing is loaded that this process has not checked: the folder and its files are ours alone and no links, the record
fits the image, the settings, the wasmtime release and the machine, and the code has the hash that the record says. An
entry that fails is removed, reported and made anew.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...runtime.errors import ImageError
from ...runtime.plain import record
from ..pinned import WASMTIME, machine
from .load import Image
from .store import cache_dir, file_sha256, not_private, require_private

if TYPE_CHECKING:
    from .stages import Progress

CODE, RECORD = "module.cwasm", "entry.json"
_LOCK_TIMEOUT_S = 600
_LOCK_POLL_S = 0.1


@record
class Entry:
    """One compiled module in the cache."""

    path: Path
    image: str
    """sha256 of the image, or its first 16 digits where the record cannot be read."""
    mode: str
    size: int
    problem: str | None
    """Why it will not be loaded; None for a sound one."""


def _silent(_sentence: str) -> None:
    pass


def compiled_module(image: Image, epochs: bool, progress: Progress = _silent) -> Path:
    """The compiled module of the image, from the cache or made now (about ten seconds of both cores).

    Args:
        epochs: with epoch checks, for thread isolation.
        progress: hears what is done when it takes longer than a moment.

    Raises:
        ImageError: the cache cannot be written or is not private.
    """
    return compile_cached(image.module, image.sha256, epochs, progress)


def already_compiled(image: Image, epochs: bool) -> Path | None:
    """The compiled module of the image if it is in the cache and sound; nothing is made or removed."""
    folder = _root() / entry_name(image.sha256, epochs)
    return folder / CODE if _refusal(folder, _expected(image.sha256, epochs)) is None else None


def compile_cached(module: bytes | memoryview, sha256: str, epochs: bool, progress: Progress = _silent) -> Path:
    """`compiled_module` for any module; `sha256` names it."""
    folder = _root() / entry_name(sha256, epochs)
    expected = _expected(sha256, epochs)
    if _refusal(folder, expected) is None:
        return folder / CODE
    with _lock(folder.with_name(folder.name + ".lock"), progress):
        # Only here is an entry removed: outside the lock it may be one that another process is writing.
        problem = _refusal(folder, expected)
        if problem is not None:
            if folder.exists() or folder.is_symlink():
                progress(f"the compiled module {folder.name} {problem}; it is removed and compiled again")
                _remove(folder)
            _compile(module, folder, expected, epochs, progress)
    return folder / CODE


def entry_name(sha256: str, epochs: bool) -> str:
    return f"{sha256[:16]}-{_mode(epochs)}-{WASMTIME}-{_machine()}"


def entries(cache: Path) -> list[Entry]:
    """Every compiled module in the cache, sound or not."""
    found: list[Entry] = []
    for folder in sorted(path for path in (cache / "compiled").glob("*-*") if path.is_dir()):
        record = _read_record(folder) or {}
        image, mode = str(record.get("image", folder.name[:16])), str(record.get("mode", "?"))
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        found.append(Entry(folder, image, mode, size, _problem(folder, record)))
    return found


def prune(cache: Path, keep: set[str]) -> list[Path]:
    """Remove compiled modules of images that are not in `keep` (sha256), and those that will not be loaded.

    One that a process is writing now is left alone. So are the empty lock files: who waits for one holds it open.
    """
    gone: list[Path] = []
    for entry in entries(cache):
        if entry.problem is None and entry.image in keep:
            continue
        with entry.path.with_name(entry.path.name + ".lock").open("a+b") as lock:
            if _try_lock(lock.fileno()):
                _remove(entry.path)
                gone.append(entry.path)
    return gone


def _mode(epochs: bool) -> str:
    return "epochs" if epochs else "plain"


def _machine() -> str:
    return f"{sys.platform}-{machine()}"


def _root() -> Path:
    root = cache_dir() / "compiled"
    root.mkdir(exist_ok=True, mode=0o700)
    require_private(root)
    return root


def _expected(sha256: str, epochs: bool) -> dict[str, str]:
    """What a record must say, apart from hash and size of the code."""
    return {"image": sha256, "mode": _mode(epochs), "wasmtime": WASMTIME, "machine": _machine()}


def _refusal(folder: Path, expected: dict[str, str]) -> str | None:
    """Why the entry may not be loaded for this image, these settings and this machine, or None."""
    if not folder.exists():
        return "is missing"
    record = _read_record(folder) if not_private(folder) is None else None
    problem = _problem(folder, record or {})
    if problem is None and record is not None:
        wrong = [key for key, value in expected.items() if record.get(key) != value]
        problem = f"is for another {', '.join(wrong)}" if wrong else None
    return problem


def _problem(folder: Path, record: dict[str, object]) -> str | None:
    """Why the code of this entry may not be loaded, or None."""
    code = folder / CODE
    try:
        reason = not_private(folder) or not_private(code) or not_private(folder / RECORD)
    except FileNotFoundError:
        return "is incomplete"
    if reason:
        return reason
    if not record:
        return "has no readable record"
    whole = code.stat().st_size == record.get("size") and file_sha256(code) == record.get("sha256")
    return None if whole else "is damaged"


def _read_record(folder: Path) -> dict[str, object] | None:
    try:
        record = json.loads((folder / RECORD).read_bytes()[:65536])
    except (OSError, ValueError):
        return None
    return cast("dict[str, object]", record) if isinstance(record, dict) else None


def _compile(
    module: bytes | memoryview, folder: Path, expected: dict[str, str], epochs: bool, progress: Progress
) -> None:
    import hashlib

    from ..native import NativeEngine  # the host of workers, which finds it compiled, never loads wasmtime
    from .stages import write_atomically

    progress(f"compiling the image for this machine, {expected['mode']} mode (once, about 10 s)")
    started = time.monotonic()
    code = NativeEngine(epochs=epochs).compile(bytes(module))
    record = {**expected, "sha256": hashlib.sha256(code).hexdigest(), "size": len(code)}
    folder.mkdir(mode=0o700, exist_ok=True)
    write_atomically(folder / CODE, code)
    # The record comes last: an entry without one is not used.
    write_atomically(folder / RECORD, json.dumps(record, sort_keys=True).encode())
    file_sha256(folder / CODE)  # read back now, so that the next start finds it checked
    progress(f"compiled: {len(code) / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")


def _remove(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
    else:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path, progress: Progress) -> Generator[None, None, None]:
    """One process compiles at a time; the others wait and find the result."""
    with path.open("a+b") as file:
        waiting, deadline = False, time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(file.fileno()):
            if not waiting:
                progress("another process is compiling this image; waiting for it")
                waiting = True
            if time.monotonic() > deadline:
                raise ImageError(f"{path} is held by another process; end that process and try again")
            time.sleep(_LOCK_POLL_S)
        yield  # the lock goes with the descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
