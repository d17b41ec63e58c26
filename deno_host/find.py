"""The Deno that runs workers: where it is, whether it is the release that cloche knows, and what its process must see.

The rule: the wheel of the extra comes first, PATH second, and a release that was not tested is refused: flags, the
libraries and the system calls of the jail belong to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ..runtime.errors import ConfigError

TESTED = (2, 9)
"""Major and minor release that the flags and the jail were made for."""
_V8_FLAGS = "--stack-size=60000,--no-wasm-deopt,--wasm-num-compilation-tasks=1"
"""The reasons stand in docs/design/deno.md."""
FLAGS = (
    "run", "--quiet", "--no-config", "--no-lock", "--no-prompt", "--no-remote", "--no-npm", "--cached-only",
    f"--v8-flags=--disallow-code-generation-from-strings,{_V8_FLAGS}",
)  # fmt: skip
"""No `--allow-*`: no permission at all."""
FFI_FLAGS = (*FLAGS[:-1], f"--v8-flags={_V8_FLAGS}")
"""A guest with JavaScript may make code from strings: Pyodide's `run_js` does, and `import()` could anyway."""
ENVIRONMENT = {"DENO_DIR": "/proc/nonexistent", "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
"""Constants of ours: without a place for its cache, which need not exist, Deno does not start."""
INSTALL = "install it with: pip install 'cloche[deno]'"
_ASK_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Deno:
    """One Deno executable."""

    program: str
    """Absolute, without symbolic links."""
    version: str


def find_deno() -> Deno:
    """The Deno of the wheel, or else the one on PATH.

    Raises:
        ConfigError: there is none, it does not run, or it is another release.
    """
    place = _from_wheel() or shutil.which("deno")
    if place is None:
        raise ConfigError(f'engine="deno" needs Deno; {INSTALL}')
    program = os.path.realpath(place)
    version = _version(program)
    if tuple(version.split(".")[:2]) != tuple(map(str, TESTED)):
        known = ".".join(map(str, TESTED))
        raise ConfigError(f"{program} is Deno {version}, and cloche knows Deno {known}; {INSTALL}")
    return Deno(program, version)


def libraries(program: str) -> tuple[str, ...]:
    """The dynamic loader of a program, if it has one, and its libraries, as the loader finds them.

    Raises:
        ConfigError: the loader cannot find them.
    """
    lines = _output([program], {"LD_TRACE_LOADED_OBJECTS": "1"}).splitlines()
    words = [word for line in lines for word in line.split() if word.startswith("/")]
    return tuple(dict.fromkeys(words))


def _from_wheel() -> str | None:
    try:
        place = Path(str(import_module("deno").find_deno_bin()))
    except (ImportError, OSError):
        return None
    return str(place) if place.is_file() else None


def _version(program: str) -> str:
    words = _output([program, "--version"], {"NO_COLOR": "1"}).split()
    if len(words) < 2 or words[0] != "deno":
        raise ConfigError(f"{program} does not say which Deno it is; {INSTALL}")
    return words[1]


def _output(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # Deno itself, with our own arguments
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_ASK_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as exc:
        raise ConfigError(f"{command[0]} does not run: {exc}; {INSTALL}") from exc
    return done.stdout.decode("utf-8", "replace")
