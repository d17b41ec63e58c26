"""Fetches the image's inputs from npm through Deno, and runs their tools under it.

Each file that is used is pinned twice: its package by `deno.lock`, the file itself by `PINNED`. Nothing is fetched when
the cache already holds the pinned files, so a second build works offline.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import ConfigError, ImageError
from . import HOST_DIR
from .find import find_deno

PYODIDE_VERSION = "314.0.7"
BINARYEN_VERSION = "132.0.0"

PINNED = {
    "pyodide/314.0.7/pyodide.asm.wasm": "cc36e3cab04fdfc9a63ff13eb52eae2b911bf46c025cc7b281f394bd3de1d5e6",
    "pyodide/314.0.7/pyodide-lock.json": "5dc2fc119108bc148c7457dc86e7675b5c87e1cafd420b9c34c1eaef7b36c010",
    "pyodide/314.0.7/python_stdlib.zip": "fa1957e5777068fc4f7437f96d860ae2fbe9c19732ba06c84e004ec16dd7dd7a",
    "binaryen/132.0.0/bin/wasm-opt": "608c021fa3f2c68cdc26f06a1454341089a0e689abb71cbe5a23ef7300e7f3e3",
    "binaryen/132.0.0/bin/wasm-as": "e36b27ea9384a4385cdbcb0dbe6f3579c4b61e2e76ee19f340207ec4810d37f7",
    "binaryen/132.0.0/bin/wasm-merge": "8b2c6a3c27a6c7a7cd8be9d02b587b1626781377c14d5f4cafd9f9ee2e9eb405",
}
"""sha256 of each file that is used."""

_FETCH_TIMEOUT_S = 600
_TOOL_TIMEOUT_S = 900
"""The slowest pass takes 90 s on an idle machine."""
_NETWORK_VARIABLES = (
    "HOME", "USERPROFILE", "PATH", "SYSTEMROOT", "TMPDIR", "TEMP",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "NPM_CONFIG_REGISTRY", "DENO_CERT", "DENO_TLS_CA_STORE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NpmInputs:
    """The pinned files by their key in `PINNED`, verified, and the Deno that runs the tools."""

    deno: Path
    cache: Path
    files: dict[str, Path]

    def pyodide(self, name: str) -> Path:
        return self.files[f"pyodide/{PYODIDE_VERSION}/{name}"]

    def binaryen(self, tool: str) -> Path:
        return self.files[f"binaryen/{BINARYEN_VERSION}/bin/{tool}"]


def fetch_inputs(cache: Path, progress: Callable[[str], None]) -> NpmInputs:
    """The pinned inputs, fetched into `cache` if they are not there yet.

    Raises:
        ImageError: Deno is missing, the network is, or a file is not the pinned one.
    """
    deno = deno_executable()
    files = _pinned_files(cache)
    if files is None:
        progress(f"fetching pyodide {PYODIDE_VERSION} and binaryen {BINARYEN_VERSION}")
        _install(deno, cache)
        files = _pinned_files(cache)
    if files is None:
        raise ImageError(
            f"the npm packages in {cache} are not the pinned ones; delete it and run `cloche image build` again"
        )
    return NpmInputs(deno, cache, files)


def deno_executable() -> Path:
    """The Deno that runs the tools: that of the wheel, or else one on PATH of the release that cloche knows.

    Raises:
        ImageError: there is none.
    """
    try:
        return Path(find_deno().program)
    except ConfigError as exc:
        raise ImageError(f"this needs Deno 2.9; install it with: pip install 'cloche[build]' ({exc})") from exc


def run_tool(inputs: NpmInputs, tool: str, arguments: Sequence[str], workspace: Path) -> None:
    """Run one of binaryen's command line tools. It may read its own script, read and write `workspace`, and no more.

    Raises:
        ImageError: it failed; the message has the last lines it wrote.
    """
    script = _script(inputs, tool)
    where = str(workspace.resolve())
    command = [
        str(inputs.deno), "run", "--no-config", "--no-lock", "--cached-only", "--no-prompt", "--no-remote",
        f"--allow-read={where},{script.parent}", f"--allow-write={where}",
        "--allow-env",  # the tool copies its environment into its memory; what it sees is `_environment` below
        str(script), *arguments,
    ]  # fmt: skip
    try:
        _run(command, workspace, _environment(inputs.cache, ("PATH", "SYSTEMROOT")), _TOOL_TIMEOUT_S)
    except _ToolFailed as exc:
        raise ImageError(f"{tool} failed: {exc}") from None


def _script(inputs: NpmInputs, tool: str) -> Path:
    """The tool under a `.cjs` name: without it Deno takes the file for an ES module."""
    source = inputs.binaryen(tool)
    script = inputs.cache.resolve() / "tools" / BINARYEN_VERSION / f"{tool}.cjs"
    if not script.exists() or _sha256(script) != _sha256(source):
        script.parent.mkdir(parents=True, exist_ok=True)
        part = script.with_suffix(f".{os.getpid()}")
        part.write_bytes(source.read_bytes())
        part.replace(script)
    return script


def _install(deno: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [
        str(deno),
        "install",
        "--frozen",
        "--quiet",
        f"--config={HOST_DIR / 'npm.json'}",
        f"--lock={HOST_DIR / 'deno.lock'}",
    ]
    try:
        _run(command, HOST_DIR, _environment(cache, _NETWORK_VARIABLES), _FETCH_TIMEOUT_S)
    except _ToolFailed as exc:
        raise ImageError(
            f"the npm packages of the image could not be fetched; is there a network? Deno says: {exc}"
        ) from None


class _ToolFailed(Exception):
    pass


def _run(command: list[str], directory: Path, environment: dict[str, str], timeout_s: float) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # our own executable and arguments
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _ToolFailed(f"no answer in {timeout_s:.0f} s") from None
    if done.returncode:
        raise _ToolFailed(done.stderr[-2000:].decode("utf-8", "replace").strip() or f"exit code {done.returncode}")


def _environment(cache: Path, names: Sequence[str]) -> dict[str, str]:
    chosen = {name: os.environ[name] for name in names if name in os.environ}
    return {**chosen, "DENO_DIR": str(cache), "DENO_NO_UPDATE_CHECK": "1", "DENO_NO_PROMPT": "1", "NO_COLOR": "1"}


def _pinned_files(cache: Path) -> dict[str, Path] | None:
    """Each pinned file, or None if one is missing or differs. Deno's cache has a folder per registry; any may do."""
    found: dict[str, Path] = {}
    for key, digest in PINNED.items():
        match = next((path for path in sorted(cache.glob(f"npm/*/{key}")) if _sha256(path) == digest), None)
        if match is None:
            return None
        found[key] = match
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
