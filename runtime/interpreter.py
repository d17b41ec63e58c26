"""How another Python is started that can import cloche's worker side and nothing of the host's.

The rule: the new process gets no environment, no user site, no `.pth` file, no current folder and no `__main__` of the
host; two folders are put behind the standard library on its path, so that they cannot shadow it. So it does not matter
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
from .plain import record

ENVIRONMENT_ALLOWED = ("LD_LIBRARY_PATH",)
"""Some Python installations do not start without it. A fork server wipes it before it loads anything."""
_BOOTSTRAP = (
    "import sys\n"
    "sys.path += sys.argv[2].split(':')\n"
    "from importlib import import_module\n"
    "import_module(sys.argv[1]).main(sys.argv[3:])\n"
)


@record
class WorkerProgram:
    """What the worker side loads: `module.load_program(*arguments)` returns a `wasm_sandbox.worker.Program`."""

    arguments: tuple[str, ...]
    module: str = "cloche.wasm_sandbox.program"
    folder: str | None = None
    """Where the module lies, if not in this package."""


def start_python(
    entry: str, arguments: Sequence[str], program: WorkerProgram, channels: Sequence[socket.socket]
) -> subprocess.Popen[bytes]:
    """A new session that runs `main([*arguments, module, *arguments of the program])` of the module `entry`.

    The sockets are inherited. The caller owns the process; its stderr is a pipe, for the reason of a failed start.

    Raises:
        ConfigError: there is no Python executable to start (a frozen or embedded host).
    """
    folders = ":".join(_import_folders(program))
    command = [find_python(), "-I", "-S", "-c", _BOOTSTRAP, entry, folders, *arguments, program.module]
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter, no shell, no input of a tenant
            [*command, *program.arguments],
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
        raise ConfigError(f"the Python executable {command[0]!r} does not exist; {_REMEDY}") from exc


_REMEDY = "isolation='thread' needs no worker process"


def find_python() -> str:
    """Path of the Python that runs the host.

    Raises:
        ConfigError: the host is a frozen application or embeds Python.
    """
    if sys.executable and not getattr(sys, "frozen", False):
        if os.path.basename(sys.executable).lower().startswith("python"):
            return os.path.abspath(sys.executable)
        beside = os.path.join(sys.prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        if os.access(beside, os.X_OK):  # an embedding host such as uWSGI
            return beside
    raise ConfigError(f"this host is no Python executable, so it cannot start workers; {_REMEDY}")


def _import_folders(program: WorkerProgram) -> list[str]:
    """Where `cloche`, `wasmtime` and the program lie. Links are kept: in development they lead to the packages."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise ConfigError("the package `wasmtime` is not installed")
    folders = [ours, os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))]
    return folders if program.folder is None else [*folders, program.folder]
