"""Where images and compiled modules live: a cache folder that only its user can write, and which image is used.

Loading a compiled module is running native code. So nothing is read from a folder that others could have written.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from ...runtime.errors import ImageError

CURRENT = "current"
"""File in the images' folder that names the one in use."""
PACKAGED = Path(__file__).resolve().parents[1] / "image.wasm"
_SEAL_NAMES = 2**61 - 1
_BUILD = "run `cloche image build`"
_OVERFLOW_UID = 65534
_OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_dir() -> Path:
    """The cache folder, made if it is missing: CLOCHE_CACHE, else XDG_CACHE_HOME/cloche, else the platform's place.

    Raises:
        ImageError: it cannot be made, or somebody else can write to it.
    """
    path = _chosen_cache()
    try:
        _make_private(path)
    except OSError as exc:
        raise ImageError(
            f"the cache folder {path} cannot be made ({exc.strerror}); set CLOCHE_CACHE to another place"
        ) from exc
    require_private(path)
    if reason := _loose_above(path):
        raise ImageError(f"{reason}, so the cache {path} below it can be replaced; set CLOCHE_CACHE to another place")
    return path


def _make_private(path: Path) -> None:
    """`mkdir` gives its mode to the last folder alone; others may come from an empty umask."""
    for folder in (*reversed(path.parents), path):
        folder.mkdir(exist_ok=True, mode=0o700)


def _loose_above(path: Path) -> str | None:
    """What is wrong with a folder above: who can write there puts another in place of the one that was checked."""
    if sys.platform == "win32":
        return None
    for above in dict.fromkeys((*path.parents, *path.resolve().parents)):
        found = above.lstat()
        mode = found.st_mode
        if found.st_uid not in (0, os.getuid(), *_unmapped()):
            return f"{above} belongs to user {found.st_uid}"
        if stat.S_ISLNK(mode) or mode & stat.S_ISVTX:
            continue  # a link has no mode; in a sticky folder only owners rename
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())):
            return f"{above} can be written by other users"
    return None


def _unmapped() -> tuple[int, ...]:
    """How the owners outside of a container's user namespace look from inside; nobody inside has their rights."""
    try:
        everybody = Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", "4294967295"]
    except OSError:
        return ()
    return () if everybody else (_OVERFLOW_UID,)


def _chosen_cache() -> Path:
    if chosen := os.environ.get("CLOCHE_CACHE"):
        return Path(chosen).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "cloche"
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cloche"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "cloche" / "cache"
    return home / ".cache" / "cloche"


def require_private(path: Path) -> None:
    """Check that this folder or file is ours, that nobody else can write to it, and that it is no link.

    Raises:
        ImageError: it is not; the message says what to do.
    """
    reason = not_private(path)
    if reason:
        raise ImageError(f"{path} {reason}; remove it, or set CLOCHE_CACHE to a folder that only you can write")


def not_private(path: Path) -> str | None:
    """Why the path is not safe to load code from, or None."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if sys.platform == "win32":  # the profile's access list keeps others out; there are no mode bits to check
        return None
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    if found.st_mode & _OTHERS_CAN_WRITE:
        return "can be written by other users"
    return None


def find_image() -> Path:
    """The image to use: CLOCHE_IMAGE, else the packaged one, else the last one built here.

    Raises:
        ImageError: there is none; the message names the command that makes one.
    """
    if chosen := os.environ.get("CLOCHE_IMAGE"):
        path = Path(chosen)
        if not path.is_file():
            raise ImageError(f"CLOCHE_IMAGE names {path}, which is no file; correct it, or unset it and {_BUILD}")
        return path
    if PACKAGED.is_file():
        return PACKAGED
    current = current_image(cache_dir())
    if current is None:
        raise ImageError(f"there is no image yet; {_BUILD}")
    return current


def remedy(path: Path) -> str:
    """What makes the image at this path good again, as a message says it.

    A build writes into the cache; an image anywhere else would go on being the one in use, and damaged.
    """
    if path.absolute() == PACKAGED:
        return "run `make image` in a checkout, or install cloche again"
    if path.absolute().parent == _chosen_cache() / "images":
        return _BUILD
    return f"build it again with `cloche image build --out {path}`, or name another"


def current_image(cache: Path) -> Path | None:
    """The image that the last build left, None if there is none."""
    try:
        name = (cache / "images" / CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    path = cache / "images" / name
    return path if path.name == name and path.is_file() else None


def images(cache: Path) -> list[Path]:
    """Every image in the cache."""
    return sorted((cache / "images").glob("*.wasm"))


def file_sha256(path: Path) -> str:
    """sha256 of the file, remembered in the cache for as long as the file is untouched.

    Hashing image and compiled module (100 MB) costs 100 ms or, without SHA instructions, 300; a start has 300 in all.
    So a file is hashed once after each change. Device, inode, size, mtime and ctime tell of a change: ctime moves
    with every write and cannot be set back without being root, and the record lies in a folder that only we can write.
    """
    state = _state(path)
    record = _seal(path)
    try:
        kept = json.loads(record.read_bytes())
        if kept["state"] == state and not_private(record) is None:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record, or none of ours: hash the file
    import hashlib  # OpenSSL, which most starts do not need

    from .stages import write_atomically

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _state(path) == state:
        write_atomically(record, json.dumps({"state": state, "sha256": digest}).encode())
    return digest


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _seal(path: Path) -> Path:
    """Two paths may get one name: `_state` tells their files apart."""
    number = int.from_bytes(os.fsencode(path.absolute()), "big") % _SEAL_NAMES
    return cache_dir() / "seals" / f"{number:016x}.json"
