"""What `cloche doctor` looks at: one function per subject, each answering with plain records and never raising.

Rule: a check says what is, and where something is missing also what to do. Only what a sandbox cannot do without is
`needed`; the rest is good to know.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cloche

from ..deno_host.find import find_deno
from ..runtime.advisories import OLD_DAYS, read_list, versions_in_use
from ..runtime.errors import ClocheError, ConfigError, ImageError
from ..wasm_sandbox.image.load import load_image
from ..wasm_sandbox.image.sources import guest_hash
from ..wasm_sandbox.image.store import cache_dir, find_image, remedy

MIN_PYTHON: Final = (3, 11)
PROBE_DEADLINE_S: Final = 20.0
"""Enough for `1+1` on a machine that is very busy; a broken one must not hang the doctor."""


@dataclass(frozen=True, slots=True)
class Check:
    """One fact about this machine."""

    name: str
    ok: bool
    text: str
    """What is, or what is wrong."""
    advice: str | None = None
    """What to do; only where `ok` is False."""
    needed: bool = True
    """False: a sandbox works without it."""
    warns: bool = False
    """Something is there that should not be, instead of missing."""


def check_machine() -> Iterator[Check]:
    """Versions of what runs us, and what the kernel can do for worker processes."""
    yield Check("cloche", True, _version("cloche") or "from a checkout that was not installed")
    python_fits = sys.version_info >= MIN_PYTHON
    yield Check(
        "python",
        python_fits,
        f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        None if python_fits else "Install Python 3.11 or newer.",
    )
    yield Check(
        "system", True, f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs"
    )
    forks = hasattr(os, "fork") and hasattr(os, "pidfd_open")
    yield Check(
        "fork server",
        forks,
        "possible" if forks else "not possible here: workers are spawned, which is slower",
        None if forks else "Nothing to do; Linux 5.3 or newer has it.",
        needed=False,
    )


def check_packages() -> Iterator[Check]:
    """The engine's exact release, and what the optional parts need."""
    found, wanted = _version("wasmtime"), _pinned("wasmtime")
    fits = found is not None and wanted in (None, found)
    yield Check(
        "wasmtime",
        fits,
        found or "missing",
        None if fits else f"pip install wasmtime=={wanted or '50.0.1'}",
    )
    for name, what in (("litellm", "hosted models"), ("deno", 'the engine "deno" and building an image')):
        there = _version(name) or (shutil.which(name) and "on PATH")
        yield Check(
            name,
            bool(there),
            str(there or f"not installed; needed only for {what}"),
            None if there else f"pip install 'cloche[{name}]'",
            needed=False,
        )


def check_image() -> Iterator[Check]:
    """The image that guests run in, and the folder for its compiled form."""
    try:
        image = load_image(find_image())
    except ImageError as exc:
        yield Check("image", False, str(exc))  # it says what to do
    else:
        facts = image.manifest
        yield Check("image", True, f"{image.sha256[:16]} at {image.path}")
        fresh = facts.guest == guest_hash()
        yield Check(
            "guest",
            fresh,
            f"CPython {facts.python}, Pyodide {facts.pyodide}{'' if fresh else '; made for another version of cloche'}",
            None if fresh else remedy(image.path),
        )
    try:
        folder = cache_dir()
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except (ImageError, OSError) as exc:
        yield Check("cache", False, str(exc), "Set CLOCHE_CACHE to a folder that only you can write.")
    else:
        yield Check("cache", True, f"{folder}, {_free_mib(folder)} MiB free")


def check_advisories() -> Iterator[Check]:
    """Published advisories against the versions in use, and how old the list of them is."""
    listed, versions = read_list(), versions_in_use()
    age, found = listed.age_days(), listed.against(versions)
    serious = [advisory for advisory in found if advisory.exposure in ("worker", "host")]
    told = [f"{advisory.component} {advisory.id}: {advisory.title}" for advisory in serious]
    told += [f"the list is {age} days old"] * (age > OLD_DAYS)
    summary = f"list of {listed.date}; {len(found)} concern these versions, {len(serious)} of them outside the guest"
    yield Check(
        "advisories",
        not told,
        "; ".join([summary, *told]),
        "scripts/check_advisories.py in a checkout shows all; update cloche." if told else None,
        needed=False,
        warns=True,
    )


def check_cell(isolation: Literal["process", "thread"]) -> Check:
    """The real test: `1+1` in a sandbox of this isolation."""
    name = f"cell ({isolation})"
    started = time.perf_counter()
    try:
        limits = cloche.Limits(wall_s=PROBE_DEADLINE_S)
        with cloche.Sandbox(isolation=isolation, limits=limits) as box:
            value = box.run("1 + 1").value
    except (ClocheError, OSError, RuntimeError) as exc:
        return Check(
            name, False, f"{type(exc).__name__}: {exc}", "Report it, with the output of `cloche doctor --json`."
        )
    elapsed_ms = (time.perf_counter() - started) * 1000
    if value != 2:
        return Check(name, False, f"1 + 1 gave {value!r}", "cloche image verify")
    return Check(name, True, f"1 + 1 answered in {elapsed_ms:.0f} ms, start included")


def has_deno() -> bool:
    """True where the engine "deno" can be used."""
    try:
        find_deno()
    except ConfigError:
        return False
    return True


def check_deno_cell() -> Check:
    """`1+1` on the other engine, where there is one."""
    name = "cell (deno)"
    try:
        deno = find_deno()
    except ConfigError as exc:
        return Check(name, False, str(exc), "pip install 'cloche[deno]'", needed=False)
    started = time.perf_counter()
    try:
        limits = cloche.Limits(wall_s=PROBE_DEADLINE_S)
        with cloche.Sandbox(engine="deno", limits=limits) as box:
            value = box.run("1 + 1").value
    except (ClocheError, OSError, RuntimeError) as exc:
        return Check(name, False, f"{type(exc).__name__}: {exc}", "cloche doctor --json has more", needed=False)
    elapsed_ms = (time.perf_counter() - started) * 1000
    text = f"Deno {deno.version} at {deno.program}: 1 + 1 gave {value!r} in {elapsed_ms:.0f} ms, start included"
    return Check(name, value == 2, text, None if value == 2 else "cloche image verify", needed=False)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pinned(distribution: str) -> str | None:
    """The exact version that our own metadata asks for; None where we are not installed."""
    try:
        requirements = importlib.metadata.requires("cloche") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        if match := re.match(rf"{distribution}\s*==\s*([^\s;]+)", requirement):
            return match[1]
    return None


def _free_mib(folder: Path) -> int:
    return shutil.disk_usage(folder).free // (1024 * 1024)
