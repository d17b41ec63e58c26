"""The start of a fork server, apart from its use: it loads its image while the host loads what comes next.

The rule: whoever imports this imports next to nothing, and a process that was started is always somebody's, who waits
for it or abandons it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..wasm_sandbox.fork_protocol import SOCKET_TYPE
from .errors import ConfigError, ImageError
from .interpreter import WorkerProgram, start_python

if TYPE_CHECKING:
    from ..wasm_sandbox.image.load import Image

ENTRY = "cloche.wasm_sandbox.fork_server"
START_DEADLINE_S = 60.0
"""Loading an image takes 0.1 s; a machine that swaps takes longer."""
END_DEADLINE_S = 10.0
"""Of a server that has closed its channel. Its process is gone a moment later."""
STDERR_BYTES = 4096
"""Of the reason of a failed start."""


class StartingServer:
    """A fork server that was started and may not be ready yet. Its owner makes a `ForkServer` of it, or abandons it."""

    def __init__(self, program: WorkerProgram, *, without: Collection[str] = (), entry: str = ENTRY) -> None:
        """Start the process; arguments as for `ForkServer`.

        Raises:
            ConfigError: no Python to start.
        """
        self.owner = os.getpid()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, SOCKET_TYPE)
        with theirs:
            try:
                given = [str(theirs.fileno()), str(self.owner), ",".join(without)]
                self.process: subprocess.Popen[bytes] = start_python(entry, given, program, [theirs])
            except BaseException:
                self.channel.close()
                raise

    def abandon(self) -> None:
        """End it: nobody waits for it any more. Not from a child of the process that made it."""
        if os.getpid() != self.owner:
            return
        self.channel.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_for_image(path: Path | None) -> tuple[Image, StartingServer] | None:
    """A fork server for the image in this file, or for the one that `find_image` finds; it loads the image now.

    None: the image has to be compiled first, or there are no fork servers here.

    Raises:
        ImageError: there is no usable image.
    """
    from ..wasm_sandbox.image.compile import already_compiled

    if not can_fork():
        return None
    image = image_to_run(path)
    compiled = already_compiled(image, epochs=False)
    return None if compiled is None else (image, StartingServer(program_of(image, compiled)))


def image_to_run(path: Path | None) -> Image:
    """The image in this file, or the one that `find_image` finds.

    Raises:
        ImageError: there is no usable image.
    """
    from ..wasm_sandbox.image.load import load_image
    from ..wasm_sandbox.image.store import find_image

    return load_image(path or find_image())


def program_of(image: Image, compiled: Path) -> WorkerProgram:
    """What a worker of this image runs."""
    return WorkerProgram((os.path.abspath(image.path), image.sha256, os.path.abspath(compiled)))


def can_fork() -> bool:
    """Linux only: elsewhere wasmtime's trap handling is not known to survive a fork."""
    return sys.platform == "linux" and hasattr(os, "fork")


def failed_start(process: subprocess.Popen[bytes], *, hangs: bool) -> ImageError | ConfigError:
    """The error for a server that ended before it was ready, or said nothing until the deadline. Reaps it."""
    try:
        status = process.wait(0 if hangs else END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    lines = _stderr_text(process).strip().splitlines() or [f"exit code {status}"]
    name, _, message = lines[-1].partition(": ")
    if name.rpartition(".")[2] == ImageError.__name__:
        return ImageError(message)
    if hangs:
        return ConfigError(f"the fork server was not ready within {START_DEADLINE_S:g} s")
    return ConfigError(f"the fork server did not start: {lines[-1]}")


def _stderr_text(process: subprocess.Popen[bytes]) -> str:
    if process.stderr is None:
        return ""
    with process.stderr as pipe:
        os.set_blocking(pipe.fileno(), False)
        return (pipe.read(STDERR_BYTES) or b"").decode("utf-8", "replace")
