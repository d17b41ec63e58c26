"""Which way worker processes are made on this machine: forked from a server that has loaded the image, or spawned.

The rule: the host finds and compiles the image, the worker side only loads it; so nothing but two paths crosses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..wasm_sandbox.jail.report import Record
from .errors import ConfigError
from .fork_server import ForkServer
from .interpreter import WorkerProgram
from .process_link import ProcessLink
from .spawned_worker import WorkerSpawner

if TYPE_CHECKING:
    from ..wasm_sandbox.image.load import Image


class WorkerMaker(Protocol):
    """A fork server, or what stands in for it where processes cannot fork."""

    @property
    def alive(self) -> bool:
        """False once it is gone and another must be made."""
        ...

    def start_worker(self) -> ProcessLink:
        """A worker whose `hello` is still to come. The caller closes it."""
        ...

    def close(self) -> None:
        """End it and its workers. Idempotent."""
        ...


class JailedMaker(WorkerMaker, Protocol):
    """One that tells what its workers are jailed with."""

    @property
    def walls(self) -> Sequence[Record]:
        """The report of its jail."""
        ...

    @property
    def pid(self) -> int | None:
        """Of the process that its workers are forked from; None where there is none."""
        ...


def image_to_run(path: Path | None) -> Image:
    """The image in this file, or the one that `find_image` finds.

    Raises:
        ImageError: there is no usable image.
    """
    from ..wasm_sandbox.image.load import load_image
    from ..wasm_sandbox.image.store import find_image

    return load_image(path or find_image())


def worker_maker(image: Image) -> JailedMaker:
    """A maker of workers that run this image.

    Raises:
        ImageError: it cannot be compiled.
        ConfigError: no worker process can be started here.
    """
    from ..wasm_sandbox.image.compile import compiled_module

    if sys.platform == "win32":
        raise ConfigError("worker processes need Unix sockets, which this Python lacks; use isolation='thread'")
    compiled = compiled_module(image, epochs=False)
    program = WorkerProgram((os.path.abspath(image.path), image.sha256, os.path.abspath(compiled)))
    return ForkServer(program) if can_fork() else WorkerSpawner(program)


def can_fork() -> bool:
    """Linux only: elsewhere wasmtime's trap handling is not known to survive a fork."""
    return sys.platform == "linux" and hasattr(os, "fork")
