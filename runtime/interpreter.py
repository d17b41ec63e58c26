"""How another Python is started that can import cloche's worker side and nothing of the host's.

The rule: the new process gets no environment, no user site, no `.pth` file, no current folder and no `__main__` of the
host; two folders are put behind the standard library on its path, so that nothing can shadow that. So it does not matter
how the host was started: a script, `python -m`, a notebook, a virtual environment, an editable install.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from .errors import ConfigError

ENVIRONMENT_ALLOWED = ("LD_LIBRARY_PATH",)
"""Some Python installations do not start without it. A fork server wipes it before it loads anything."""
_BOOTSTRAP = (
    "import sys\n"
    "sys.path += sys.argv[2:4]\n"
    "from importlib import import_module\n"
    "import_module('cloche.wasm_sandbox.' + sys.argv[1]).main(sys.argv[4:])\n"
)


def start_python(module: str, arguments: Sequence[str], channels: Sequence[socket.socket]) -> subprocess.Popen[bytes]:
    """A new session that runs `main(arguments)` of a module of `cloche.wasm_sandbox`, with these sockets inherited.

    The caller owns the process; its stderr is a pipe, meant for the reason of a failed start.

    Raises:
        ConfigError: there is no Python executable to start (a frozen or embedded host).
    """
    command = [find_python(), "-I", "-S", "-c", _BOOTSTRAP, module, *_import_folders(), *arguments]
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter, no shell, no input of a tenant
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in ENVIRONMENT_ALLOWED if name in os.environ},
            cwd="/",
            close_fds=True,
            pass_fds=[channel.fileno() for channel in channels],
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise ConfigError(f"the Python executable {command[0]!r} does not exist: {_REMEDY}") from exc


_REMEDY = "set the environment variable CLOCHE_PYTHON to a Python of the same version, or use isolation='thread'"


def find_python() -> str:
    """Path of the Python that runs the host, or the one that CLOCHE_PYTHON names.

    Raises:
        ConfigError: the host is a frozen application or embeds Python, and CLOCHE_PYTHON is not set.
    """
    if named := os.environ.get("CLOCHE_PYTHON"):
        return named
    if sys.executable and not getattr(sys, "frozen", False):
        if os.path.basename(sys.executable).lower().startswith(("python", "pypy")):
            return os.path.abspath(sys.executable)
        beside = os.path.join(sys.prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        if os.access(beside, os.X_OK):  # an embedding host such as uWSGI
            return beside
    raise ConfigError(f"this host is no Python executable, so it cannot start workers: {_REMEDY}")


def _import_folders() -> tuple[str, str]:
    """Where `cloche` and `wasmtime` lie. Links are kept: in development the packages are reached through them."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise ConfigError("the package `wasmtime` is not installed")
    return ours, os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))
