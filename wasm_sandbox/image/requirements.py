"""Reads a requirements file in which every package is pinned by version and hash. Anything else in it is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import ImageError

MAX_REQUIREMENTS = 200
_MAX_FILE_BYTES = 1 << 20
_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*==\s*(?P<version>[A-Za-z0-9.!+_-]+)(?P<rest>([\s;].*)?)", re.S
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One pinned package."""

    name: str
    """Normalised: lower case, with single dashes."""
    version: str
    hashes: frozenset[str]
    """sha256 of each file that is acceptable."""


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements in the file.

    Raises:
        ImageError: it cannot be read, or a line is not `name==version --hash=sha256:...`.
    """
    try:
        raw = path.read_bytes()
        text = raw[: _MAX_FILE_BYTES + 1].decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ImageError(f"the requirements {path} cannot be read: {exc}") from exc
    if len(raw) > _MAX_FILE_BYTES:
        raise ImageError(f"the requirements {path} are larger than {_MAX_FILE_BYTES} bytes")
    found: dict[str, Requirement] = {}
    for line in _logical_lines(text):
        requirement = _parse(line)
        if requirement.name in found:
            raise ImageError(f"{requirement.name} is required twice")
        found[requirement.name] = requirement
    if len(found) > MAX_REQUIREMENTS:
        raise ImageError(f"more than {MAX_REQUIREMENTS} requirements")
    return list(found.values())


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, with continuations joined."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line and line != "--require-hashes"]


def _parse(line: str) -> Requirement:
    match = _PIN.fullmatch(line)
    if match is None:
        raise ImageError(f"only pinned packages can be baked in (`name==version --hash=sha256:...`), not: {line[:200]}")
    hashes = frozenset(_HASH.findall(match["rest"]))
    left = _HASH.sub("", match["rest"]).strip()
    if not hashes:
        raise ImageError(
            f"{match['name']} has no --hash=sha256:...; pip-compile --generate-hashes or `uv export` write them"
        )
    if left:
        raise ImageError(f"{match['name']}: {left[:100]!r} is not supported here; leave markers and options out")
    return Requirement(normalised(match["name"]), match["version"], hashes)
