"""Takes tests from a CPython 3.13 of this machine, gives them to a fresh sandbox and returns what happened there.

Rule: nothing of CPython's tests is kept; the files go from the installation into the sandbox's own file system.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tests.support.places import where

from cloche import Cell, Limits, Runtime, TimedOut, WorkerCrashed
from cloche.wasm_sandbox.image.load import load_image
from cloche.wasm_sandbox.image.store import find_image

from .modules import Module

LIMITS = Limits(
    memory_mb=1024, wall_s=300, cpu_s=300, output_bytes=64 << 20, files=5000, file_bytes=256 << 20, tasks=20_000
)
ARCHIVE = "/tmp/cpython-tests.zip"  # a path of the sandbox
GUEST_SIDE = Path(__file__).with_name("guest_side.py")
MAX_LOST = 5
"""Tests of one module that may cost a sandbox before the rest is given up."""


@dataclass(slots=True)
class Outcome:
    """What one module did."""

    module: str
    run: int = 0
    skipped: dict[str, int] = field(default_factory=dict[str, int])
    bad: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Test, `failure` or `error`, first line of the message and place."""
    refused: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Modules that did not load, and why."""
    lost: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Tests that ended the sandbox, and how."""
    expected_failures: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return len({test for test, _, _ in self.bad})

    @property
    def passed(self) -> int:
        return self.run - self.failed - sum(self.skipped.values()) - self.expected_failures


def find_tests() -> tuple[str, Path] | None:
    """A CPython 3.13 here and its `test` package; None where there is none."""
    candidates = [shutil.which("python3.13"), *map(str, Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13"))]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            found = _ask(candidate, "import test.support; print(test.__path__[0])")
            if found:
                return candidate, Path(found)
    return None


def python_version(executable: str) -> str:
    return _ask(executable, "import platform; print(platform.python_version())")


def image_name() -> str:
    """What tells this image from others."""
    return load_image(find_image()).sha256[:16]


def _ask(executable: str, code: str) -> str:
    """What the code prints; nothing if it fails."""
    done = subprocess.run([executable, "-I", "-c", code], capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def run_module(runtime: Runtime, tests: Path, module: Module, isolation: str) -> Outcome:
    """Run the module in a sandbox of its own; again without the culprit when the sandbox is lost."""
    files = pack(tests, module)
    left_out = list(module.left_out)
    outcome = Outcome(module.label)
    started = time.monotonic()
    for _ in range(MAX_LOST):
        heard: list[str] = []
        try:
            cell = _run_once(runtime, files, module, left_out, isolation, heard)
        except (TimedOut, WorkerCrashed) as exc:
            culprit = _last(heard)
            outcome.lost.append((culprit, f"{type(exc).__name__}: {exc}"[:300]))
            left_out.append(culprit)
            continue
        _fill(outcome, cell, _last(heard))
        break
    outcome.seconds = time.monotonic() - started
    return outcome


def _run_once(
    runtime: Runtime, files: bytes, module: Module, left_out: list[str], isolation: str, heard: list[str]
) -> Cell:
    def hear(stream: str, text: str) -> None:
        if stream == "stdout":
            heard.append(text)

    with runtime.sandbox(**where(isolation), limits=LIMITS) as box:
        box.write_file(ARCHIVE, files)
        request: dict[str, object] = {"modules": module.imports, "left_out": left_out, "loops": module.loops}
        return box.run(GUEST_SIDE.read_text(encoding="utf-8"), inputs={"request": request}, on_output=hear)


def _last(heard: list[str]) -> str:
    return ("".join(heard).splitlines() or ["(before the first test)"])[-1]


def _fill(outcome: Outcome, cell: Cell, last: str) -> None:
    answer: object = cell.value
    if cell.error is not None or not isinstance(answer, dict):
        detail = cell.error.traceback if cell.error else str(cell.value_error)
        outcome.lost.append((last, detail[-1500:]))
        return
    value = cast("dict[str, Any]", answer)
    outcome.run = value["run"]
    outcome.skipped = value["skipped"]
    outcome.bad = [tuple(row) for row in value["bad"]]
    outcome.refused = [tuple(row) for row in value["refused"]]
    outcome.expected_failures = value["expected_failures"]


def pack(tests: Path, module: Module) -> bytes:
    """The files that the module needs, as a zip."""
    wanted = {tests / "support", *tests.glob("[!t_]*.py"), tests / "__init__.py"}
    place = tests / module.name
    wanted.add(place if place.is_dir() else place.with_suffix(".py"))
    wanted |= {tests / name for name in module.data} | {tests.parent / name for name in module.library}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(file for start in wanted for file in _files(start)):
            archive.write(path, path.relative_to(tests.parent))
    return packed.getvalue()


def _files(start: Path) -> Iterator[Path]:
    if start.is_file():
        yield start
    for folder, names, files in os.walk(start):
        names[:] = [name for name in names if name != "__pycache__"]
        yield from (Path(folder) / name for name in files)
