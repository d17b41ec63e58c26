"""Fetches hash-pinned wheels and reads them as hostile archives: pure Python, bounded sizes, no path out of place."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import ImageError
from .requirements import Requirement, normalised, read_requirements
from .sources import sha256_file
from .stages import Progress, write_atomically

GUEST_PYTHON = "3.14"
MAX_WHEEL_BYTES = 64 * 1024 * 1024
MAX_EXPANDED_BYTES = 256 * 1024 * 1024
"""Of all wheels of one image together; every sandbox maps them."""
MAX_FILES = 20_000
_PIP_TIMEOUT_S = 600
_NATIVE_SUFFIXES = (".so", ".pyd", ".dylib", ".dll", ".a", ".wasm")
_NATIVE = "native wheels cannot be baked into an image yet, only pure-Python ones (-none-any.whl)"
_PIP_VARIABLES = (
    "HOME",
    "USERPROFILE",
    "PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A checked wheel: who it is and the files that go into the image."""

    name: str
    version: str
    file: str
    sha256: str
    files: dict[str, bytes]

    @property
    def top_level(self) -> frozenset[str]:
        """What it adds at the top of the import path."""
        tops = (name.partition("/")[0].removesuffix(".py") for name in self.files)
        return frozenset(top for top in tops if not top.endswith(".dist-info"))


def fetch_wheels(requirements: Path, cache: Path, progress: Progress) -> list[Wheel]:
    """The wheels of the requirements file, in the order of their names, from `cache` or from the package index.

    Raises:
        ImageError: a line is not pinned, a wheel is not there, not the pinned one, native, too large or malformed.
    """
    wanted = sorted(read_requirements(requirements), key=lambda item: item.name)
    missing = [item for item in wanted if _cached(cache, item) is None]
    if missing:
        progress(f"fetching {', '.join(item.name for item in missing)}")
        _download(missing, cache)
    budget = MAX_EXPANDED_BYTES
    wheels: list[Wheel] = []
    seen: dict[str, str] = {}
    for item in wanted:
        path = _cached(cache, item)
        if path is None:
            raise ImageError(f"the index has no pinned wheel of {item.name} {item.version}")
        wheel = read_wheel(path, budget)
        if (normalised(wheel.name), wheel.version) != (item.name, item.version):
            raise ImageError(f"{wheel.file} is not {item.name} {item.version}")
        for name in wheel.files:
            if seen.setdefault(name, wheel.file) != wheel.file:
                raise ImageError(f"{wheel.file} and {seen[name]} both have {name}")
        budget -= sum(map(len, wheel.files.values()))
        wheels.append(wheel)
    return wheels


def read_wheel(path: Path, budget: int = MAX_EXPANDED_BYTES) -> Wheel:
    """The wheel in this file; at most `budget` bytes of it are unpacked.

    Raises:
        ImageError: it is native, too large, or no proper wheel.
    """
    parts = path.name.removesuffix(".whl").split("-")
    if not path.name.endswith(".whl") or len(parts) not in (5, 6):
        raise ImageError(f"{path.name} is not the name of a wheel")
    if parts[-2:] != ["none", "any"]:
        raise ImageError(f"{path.name}: {_NATIVE}")
    if path.stat().st_size > MAX_WHEEL_BYTES:
        raise ImageError(f"{path.name} is larger than {MAX_WHEEL_BYTES >> 20} MB")
    raw = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            files = _read_files(archive, path.name, budget)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as exc:
        raise ImageError(f"{path.name} is damaged: {exc}") from exc
    return Wheel(parts[0], parts[1], path.name, hashlib.sha256(raw).hexdigest(), files)


def _read_files(archive: zipfile.ZipFile, wheel: str, budget: int) -> dict[str, bytes]:
    items = archive.infolist()
    if len(items) > MAX_FILES:
        raise ImageError(f"{wheel} has more than {MAX_FILES} files")
    files: dict[str, bytes] = {}
    for item in items:
        _check_item(item, wheel)
        if item.is_dir():
            continue
        if item.file_size > budget:
            raise ImageError(f"{wheel} expands to more than {MAX_EXPANDED_BYTES >> 20} MB with the others")
        with archive.open(item) as packed:
            data = packed.read(item.file_size + 1)  # the size in the header may lie; zipfile checks the sum at the end
        if len(data) != item.file_size:
            raise ImageError(f"{wheel}: {item.filename} is not as large as it says")
        budget -= len(data)
        target = _target(item.filename)
        if target is None:
            continue
        if target in files:
            raise ImageError(f"{wheel} has {target} twice")
        files[target] = data
    return files


def _check_item(item: zipfile.ZipInfo, wheel: str) -> None:
    name = item.orig_filename
    parts = name.rstrip("/").split("/")
    if not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise ImageError(f"{wheel} has a file outside its place: {name[:100]!r}")
    kind = stat.S_IFMT(item.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ImageError(f"{wheel}: {name} is neither a file nor a folder")
    if name.lower().endswith(_NATIVE_SUFFIXES) or ".so." in name:
        raise ImageError(f"{wheel} has compiled code ({name}); {_NATIVE}")


def _target(name: str) -> str | None:
    """Where the file goes in the archive; None for what a sandbox has no use for."""
    if name.endswith(".pyc"):
        return None
    parts = name.split("/")
    if parts[0].endswith(".data"):
        return "/".join(parts[2:]) if parts[1:2] in (["purelib"], ["platlib"]) and len(parts) > 2 else None
    return name


# --- the download -----------------------------------------------------------------------------------------------------


def _cached(cache: Path, item: Requirement) -> Path | None:
    """A wheel in the cache that the requirement accepts. Its folder is named by its hash, which is checked here."""
    for digest in sorted(item.hashes):
        for path in sorted((cache / digest).glob("*.whl")):
            if sha256_file(path) == digest:
                return path
    return None


def _download(missing: list[Requirement], cache: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cloche-wheels-") as name:
        folder = Path(name)
        (folder / "requirements.txt").write_text("".join(map(_line, missing)), encoding="utf-8")
        _run_pip(folder, missing)
        for path in sorted(folder.glob("*.whl")):
            digest = sha256_file(path)
            if not any(digest in item.hashes for item in missing):
                raise ImageError(f"{path.name} has a hash that nobody asked for")
            write_atomically(cache / digest / path.name, path.read_bytes())


def _line(item: Requirement) -> str:
    return (
        " ".join([f"{item.name}=={item.version}", *(f"--hash=sha256:{digest}" for digest in sorted(item.hashes))])
        + "\n"
    )


def _run_pip(folder: Path, missing: list[Requirement]) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "--only-binary", ":all:",
        "--python-version", GUEST_PYTHON, "--implementation", "py", "--abi", "none", "--platform", "any",
        "--disable-pip-version-check", "--no-input", "--quiet", "--dest", ".", "-r", "requirements.txt",
    ]  # fmt: skip
    keep = {
        k: v
        for k, v in os.environ.items()
        if k in _PIP_VARIABLES or k.startswith("PIP_") or k.lower().endswith("_proxy")
    }
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and arguments
            command,
            cwd=folder,
            env=keep,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"pip did not finish in {_PIP_TIMEOUT_S} s; is there a network?") from None
    if done.returncode == 0:
        return
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    said = " ".join(line for line in lines if not line.startswith("WARNING"))[-1500:]
    names = ", ".join(f"{item.name}=={item.version}" for item in missing)
    if "No module named pip" in said:
        raise ImageError(f"baking packages needs pip in this environment: {sys.executable} -m ensurepip")
    if "No matching distribution" in said:
        raise ImageError(f"no pure-Python wheel found for one of {names}; {_NATIVE}. pip says: {said}")
    raise ImageError(f"pip could not fetch {names}: {said}")
