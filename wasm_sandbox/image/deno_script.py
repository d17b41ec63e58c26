"""The Deno host as JavaScript: stripped of its types once per machine, kept in the cache.

Nothing is run that this process has not checked: the folder is ours alone, and each file has the hash that the record
says. The record's name has the hash of the TypeScript and the release of Deno, so a change of either makes a new one.
A wheel brings them ready-made (`PACKAGED`, written by `make wheel`), for the sources that it was built from.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from ...deno_host import HOST_DIR
from ...deno_host.npm import deno_executable
from ...runtime.errors import ImageError
from .stages import write_atomically
from .store import cache_dir, not_private, require_private

PACKAGED = Path(__file__).resolve().parents[1] / "deno_scripts.json"
"""The hash of the TypeScript, and the scripts; in a wheel only."""
MAIN, READER, RECORD = "main.js", "stdin_reader.js", "record.json"
_TOOL = "strip_types.ts"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class HostScript:
    """What a Deno process runs."""

    main: Path
    """The script to start. Its folder is all that the process has to be able to read."""
    reader: bytes
    """Source of the second thread, for `DenoAssets.boot_frame`."""


def host_script() -> HostScript:
    """The host's scripts, from the cache or made now (a tenth of a second).

    Raises:
        ImageError: Deno is missing or fails, or the cache cannot be written or is not private.
    """
    sources = _sources()
    folder = _root() / _key(sources)
    kept = _kept(folder)
    if kept is None:
        _write(folder, _packaged(sources) or _stripped(sources))
        kept = _kept(folder)
    if kept is None:
        raise ImageError(f"{folder} cannot be used; delete it and try again")
    return HostScript(folder / MAIN, kept[READER])


def _sources() -> dict[str, bytes]:
    names = [path.name for path in sorted(HOST_DIR.glob("*.ts")) if not path.name.endswith(("_test.ts", ".d.ts"))]
    return {name: (HOST_DIR / name).read_bytes() for name in names if name != _TOOL}


def pack_scripts(target: Path = PACKAGED) -> None:
    """Write the scripts of these sources for a wheel. Raises ImageError as `host_script` does."""
    sources = _sources()
    texts = {name: text.decode("utf-8") for name, text in _stripped(sources).items()}
    record = {"sources": _digest(sources), "scripts": texts}
    write_atomically(target, json.dumps(record, sort_keys=True, indent=0).encode())


def _packaged(sources: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """What the wheel brought, if it is of these very sources."""
    try:
        record = json.loads(PACKAGED.read_bytes())
        if record["sources"] == _digest(sources):
            return {str(name): str(text).encode("utf-8") for name, text in record["scripts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none, or none of ours: Deno makes them
    return None


def _digest(sources: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256((HOST_DIR / _TOOL).read_bytes())
    for name, text in sources.items():
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _key(sources: Mapping[str, bytes]) -> str:
    try:
        release = version("deno")
    except PackageNotFoundError:
        release = "unknown"
    return f"{_digest(sources)[:16]}-{release}"


def _root() -> Path:
    root = cache_dir() / "deno-host"
    root.mkdir(exist_ok=True, mode=0o700)
    require_private(root)
    return root


def _kept(folder: Path) -> dict[str, bytes] | None:
    """The scripts of this folder, if they are whole and ours."""
    try:
        if not_private(folder) or not_private(folder / RECORD):
            return None
        record = json.loads((folder / RECORD).read_bytes())
        files = {name: (folder / name).read_bytes() for name in cast("dict[str, str]", record)}
    except (OSError, ValueError):
        return None
    sound = all(hashlib.sha256(text).hexdigest() == record[name] for name, text in files.items())
    return files if sound and {MAIN, READER} <= files.keys() else None


def _stripped(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    command = [
        str(deno_executable()), "run", "--quiet", "--no-config", "--no-lock", "--no-prompt", "--no-remote", "--no-npm",
        f"--allow-read={HOST_DIR}", str(HOST_DIR / _TOOL), str(HOST_DIR), *sources,
    ]  # fmt: skip
    environment = {"DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1", "DENO_DIR": str(_root() / "deno")}
    try:
        done = subprocess.run(  # noqa: S603  # our own executable and arguments
            command,
            cwd=HOST_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        scripts = cast("dict[str, str]", json.loads(done.stdout))
    except subprocess.CalledProcessError as exc:
        last = bytes(exc.stderr)[-1000:].decode("utf-8", "replace").strip()
        raise ImageError(f"Deno does not make the host's scripts: {last or exc.returncode}") from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        raise ImageError(f"Deno does not make the host's scripts: {exc}") from exc
    return {name: text.encode("utf-8") for name, text in scripts.items()}


def _write(folder: Path, scripts: Mapping[str, bytes]) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    for name, text in scripts.items():
        write_atomically(folder / name, text)
    # The record comes last: a folder without one is not used.
    record = {name: hashlib.sha256(text).hexdigest() for name, text in scripts.items()}
    write_atomically(folder / RECORD, json.dumps(record, sort_keys=True).encode())
