"""Which way worker processes are made on this machine: forked from a server that has loaded the image, or spawned.

The rule: the host finds and compiles the image, the worker side only loads it; so nothing but two paths crosses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..wasm_sandbox.jail.report import Record
from . import server_start
from .errors import ConfigError
from .fork_server import ForkServer
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
    program = server_start.program_of(image, compiled)
    return ForkServer(program) if server_start.can_fork() else WorkerSpawner(program)
