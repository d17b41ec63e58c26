"""Runs a command as an ordinary user without any right: `python as_nobody.py FOLDERS COMMAND...`, started by root.

The folders (with colons between them) are what the command needs to read. Where one lies below a folder that only root
may enter, this process gets a mount namespace of its own in which that folder is replaced by one with a way in.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path

NOBODY = 65534
_NEW_MOUNTS, _PRIVATE, _BIND, _RECURSIVE = 0x20000, 1 << 18, 4096, 16384
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if text is None else text.encode() for text in (source, target, kind, data)]
    if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]):
        number = ctypes.get_errno()
        raise OSError(number, f"mount on {target}: {os.strerror(number)}")


def closed_ancestor(path: Path) -> Path | None:
    """The topmost folder above `path` that others may not enter."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & stat.S_IXOTH), None)


def open_ways(folders: list[Path]) -> None:
    held = [(folder, os.open(folder, os.O_PATH)) for folder in folders]
    covered = {ancestor for folder in folders if (ancestor := closed_ancestor(folder))}
    for ancestor in sorted(covered):
        mount("none", str(ancestor), "tmpfs", 0, "mode=0755")
    for folder, descriptor in held:
        if any(ancestor in folder.parents for ancestor in covered):
            folder.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{descriptor}", str(folder), None, _BIND | _RECURSIVE)
        os.close(descriptor)


def main(folders: str, *command: str) -> None:
    if libc.unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount(None, "/", None, _RECURSIVE | _PRIVATE)
    open_ways(sorted({Path(folder).resolve() for folder in folders.split(":")}))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execv(command[0], command)  # noqa: S606  # the test's own command


if __name__ == "__main__":
    main(*sys.argv[1:])
