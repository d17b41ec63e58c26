"""Makes `.venv` hold exactly the locked requirements and this checkout; does nothing, offline, when it already does.

Only the standard library, because nothing is installed yet. A stamp in `.venv` keeps the hash of what was installed, so
a changed lock, a changed pyproject.toml or a moved checkout sets it up again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.txt"
STAMP = VENV / "cloche-setup.json"
PIPE_EVERY_S = 10.0


def main() -> int:
    """Returns the exit code: 0 when the environment is ready."""
    wanted = {"lock": _digest(LOCK), "package": _digest(ROOT / "pyproject.toml", str(ROOT))}
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    found = _read_stamp() if _works(python) else {}
    if found == wanted:
        return 0
    if not _works(python):
        _say(f"making .venv with Python {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    if found.get("lock") != wanted["lock"]:
        _install_lock(python)
    _say("installing this checkout (editable)")
    _pip(python, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    STAMP.write_text(json.dumps(wanted), encoding="utf-8")
    return 0


def _install_lock(python: Path) -> None:
    """Installs the lock with hashes required, showing one line of progress."""
    total = sum("==" in line for line in LOCK.read_text(encoding="utf-8").splitlines())
    _say(f"installing {total} locked packages, checked by hash")
    started, progress = time.monotonic(), _Progress()
    command = [python, "-m", "pip", "install", "--progress-bar", "off", "--require-hashes", "--requirement", LOCK]
    done = 0
    tail: list[str] = []
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - asked for with PIPE
        for line in pip.stdout:
            tail = [*tail[-30:], line]
            if line.startswith(("Collecting ", "Requirement already satisfied: ", "Ignoring ")):
                done += 1
                progress(f"{min(done, total)}/{total} {_package(line)}")
            elif line.startswith("Installing collected packages"):
                progress("all there, unpacking them", now=True)
    progress(None)
    if pip.returncode != 0:
        sys.exit("".join(tail) + "\npip could not install requirements/dev.txt; its last lines stand above.")
    _say(f"installed in {time.monotonic() - started:.0f} s")


def _package(line: str) -> str:
    """The name in one of pip's lines: `Collecting x==1 (from ...)`, `Requirement already satisfied: x==1 in ...`."""
    return (line.partition(": ")[2] or line.partition(" ")[2]).split(" ")[0].strip()


def _pip(python: Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\npip {' '.join(arguments)} failed; its output stands above.")


def _works(python: Path) -> bool:
    """True for an interpreter >= 3.11 with pip; a `.venv` of another machine or a half-made one is not."""
    if not python.exists():
        return False
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", probe], capture_output=True).returncode == 0


def _read_stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def _digest(path: Path, *more: str) -> str:
    return hashlib.sha256(path.read_bytes() + "".join(more).encode()).hexdigest()


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


class _Progress:
    """Rewrites one terminal line; in a pipe, a line every ten seconds."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PIPE_EVERY_S

    def __call__(self, text: str | None, now: bool = False) -> None:
        """What is being done; None: it is over. `now`: a line of its own in a pipe too."""
        if sys.stdout.isatty():
            print("\r\033[K" + ("" if text is None else f"setup: {text}"), end="", flush=True)
        elif text is not None and (now or time.monotonic() >= self._due):
            self._due = time.monotonic() + PIPE_EVERY_S
            _say(text)


if __name__ == "__main__":
    sys.exit(main())
