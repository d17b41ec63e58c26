"""What the tests do as an ordinary user, where they run as root: files that belong to one, and commands that are one.

The rule: in a user namespace root has only the users that its map names, so a test asks `missing_user` first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
NOBODY = 65534


def missing_user(uid: int) -> str | None:
    """Why no file and no process can belong to this user here, or None if it can."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # no user namespaces
    if any(int(first) <= uid < int(first) + int(count) for first, _, count in map(str.split, lines)):
        return None
    return f"this user namespace has no user {uid}"


def run_as_nobody(root: Path, home: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments as nobody, who may read the checkout `root` and owns the folder `home`."""
    os.chown(home, NOBODY, NOBODY)
    folders = {str(root), sys.prefix, sys.base_prefix, str(home)}
    environ = {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/tmp", **variables}
    return subprocess.run(
        [sys.executable, str(SUPPORT / "as_nobody.py"), ":".join(sorted(folders)), sys.executable, *command],
        env=environ, cwd="/", capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
