"""Workers of the engine "deno": a launcher that starts jailed Deno processes, each of which is handed the image.

The rule: nothing is looked for after `deno_maker` returned. The executable, its libraries and the host's scripts are
found and checked here, once per launcher; the image's parts are kept and sent to every worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ..deno_host.find import ENVIRONMENT, FLAGS, find_deno, libraries
from ..wasm_sandbox.jail.deno_profile import Exhibits
from .deno_link import DenoLink
from .errors import ConfigError, WorkerCrashed
from .fork_server import ForkServer
from .interpreter import WorkerProgram

if TYPE_CHECKING:
    from ..wasm_sandbox.image.deno_assets import DenoAssets
    from ..wasm_sandbox.image.load import Image

LAUNCHER = "cloche.deno_host.launcher"
RANDOM = "/dev/urandom"


class DenoServer(ForkServer):
    """A launcher, and the image for its workers."""

    def __init__(self, image: Image, *, without: Collection[str] = ()) -> None:
        from ..wasm_sandbox.image.deno_assets import deno_assets  # these read an image: not for every host
        from ..wasm_sandbox.image.deno_script import host_script

        script = host_script()
        self._reader = script.reader
        self._assets: DenoAssets | None = deno_assets(image)
        main = os.path.realpath(script.main)
        program = WorkerProgram((_start(main),), LAUNCHER)
        super().__init__(program, without=without, entry=LAUNCHER, link=DenoLink)

    def start_worker(self) -> DenoLink:
        """See `ForkServer.start_worker`."""
        link = super().start_worker()
        if not isinstance(link, DenoLink):
            raise TypeError("a launcher makes links of its own kind")
        link.boot = self._boot
        return link

    def close(self) -> None:
        super().close()
        self._assets = None  # it holds the image's file open

    def _boot(self) -> Iterator[bytes | memoryview]:
        if self._assets is None:
            raise WorkerCrashed("the launcher was closed")
        return self._assets.boot_frame(self._reader)


def deno_maker(image: Image, *, without: Collection[str] = ()) -> DenoServer:
    """A maker of Deno workers that run this image.

    Raises:
        ConfigError: Deno is missing or another release, or this system cannot start workers of this engine.
        ImageError: the image does not suit it, or the host's scripts cannot be made.
    """
    if sys.platform != "linux":
        raise ConfigError('engine="deno" starts its workers on Linux only; use engine="wasmtime"')
    return DenoServer(image, without=without)


def _start(main: str) -> str:
    from ..deno_host.launcher import Start, encode_start

    deno = find_deno()
    loader, shared = None, list[str]()
    for path in libraries(deno.program):
        if os.path.basename(path).startswith("ld-"):
            loader = path
        else:
            shared.append(path)
    exhibits = Exhibits(deno.program, loader, (*shared, RANDOM), os.path.dirname(main))
    return encode_start(Start(exhibits, (*FLAGS, main), ENVIRONMENT))
