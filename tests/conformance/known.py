"""Failures that are known, each in a group that says why. Anything else is a finding.

The groups' tests stand in known_failures.txt: `[group]`, then one test per line, `*` for any text. A name covers the
tests below it too, so that a module stands for all it has.
"""

from __future__ import annotations

import fnmatch
import functools
from pathlib import Path

GROUPS: dict[str, str] = {
    "3.14": "CPython 3.14 does or says it differently from 3.13, whose tests these are.",
    "no sockets": "A guest has no sockets, no pipes and no resolver: the call is refused with an error number.",
    "no threads": "A guest has one thread; starting another raises RuntimeError.",
    "own loop": "asyncio runs on the sandbox's own event loop: there is always a current one, `asyncio.EventLoop` is a "
    "function that makes it, and it does not log slow callbacks.",
    "own builtins": "The sandbox adds `ToolError` to the builtins, and its `input()` only raises EOFError.",
    "clock": "A guest has no clock of CPU time; the wall clock stands in.",
    "quota": "The test writes more than the sandbox's files may hold.",
    "C library": "Emscripten's C library computes or refuses this otherwise than glibc.",
}
_LIST = Path(__file__).with_name("known_failures.txt")


def find_group(test: str) -> str | None:
    """The group of a failing test (or module that did not load); None if there is none."""
    name = test.removeprefix("test.")
    for pattern, group in _patterns():
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*"):
            return group
    return None


@functools.cache
def _patterns() -> list[tuple[str, str]]:
    group = ""
    found: list[tuple[str, str]] = []
    for line in _LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            group = line.strip("[]")
            if group not in GROUPS:
                raise ValueError(f"known_failures.txt names the group {group!r}, which known.py does not have")
        elif line:
            found.append((line, group))
    return found
