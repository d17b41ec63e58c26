"""Workers of the engine "deno": a launcher that starts jailed Deno processes, each of which is handed the image.

The rule: nothing is looked for after `deno_maker` returned. The executable, its libraries and the host's scripts are
found and checked here, once per launcher; the image's parts are kept and sent to every worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..deno_host.find import ENVIRONMENT, FFI_FLAGS, FLAGS, find_deno, libraries
from ..wasm_sandbox.jail.deno_profile import Exhibits
from .deno_link import BootFrame, DenoLink
from .errors import ConfigError, ImageError, WorkerCrashed
from .fork_server import ForkServer
from .interpreter import WorkerProgram

if TYPE_CHECKING:
    from ..wasm_sandbox.image.load import Image

_COMPILED_BYTES = 16 << 20
_COMPILE = """
import importlib.util, marshal

def compiled(path, source):
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    unchecked = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)

{path: compiled(path, source) for path, source in sources.items()}
"""
LAUNCHER = "cloche.wasm_sandbox.deno_launcher"
RANDOM = "/dev/urandom"


class DenoServer(ForkServer):
    """A launcher, and the image for its workers."""

    def __init__(self, image: Image, *, without: Collection[str] = (), js_ffi: bool = False) -> None:
        main, self._boot_frame = _full_pyodide(image) if js_ffi else _default_guest(image)
        flags = FFI_FLAGS if js_ffi else FLAGS
        program = WorkerProgram((_start(os.path.realpath(main), flags),), LAUNCHER)
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
        self._boot_frame = None  # it holds the image's file open

    def _boot(self) -> Iterator[bytes | memoryview]:
        if self._boot_frame is None:
            raise WorkerCrashed("the launcher was closed")
        return iter(self._boot_frame())


def _default_guest(image: Image) -> tuple[Path, BootFrame | None]:
    """The script of its workers, and what they get first."""
    from ..wasm_sandbox.image.deno_assets import deno_assets  # these read an image: not for every host
    from ..wasm_sandbox.image.deno_script import host_script

    script = host_script()
    assets = deno_assets(image)
    return script.main, lambda: assets.boot_frame(script.reader)


def _full_pyodide(image: Image) -> tuple[Path, BootFrame | None]:
    from ..wasm_sandbox.image.deno_ffi import ffi_assets

    assets = ffi_assets(image, lambda sources: _compiled(image, sources))
    return assets.main, assets.boot_frame


def _compiled(image: Image, sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Only the interpreter that will load a .pyc can write it: a sandbox of ours does."""
    from .limits import Limits
    from .runtime import Runtime

    with Runtime(image=image.path, engine="deno", warm_workers=0) as runtime:
        limits = Limits(wall_s=60, value_bytes=_COMPILED_BYTES)
        with runtime.sandbox(limits=limits) as box:
            cell = box.run(_COMPILE, inputs={"sources": sources})
    made = cast("dict[str, bytes]", cell.value or {})  # of a sandbox of ours, in which nobody else ran
    if made.keys() != sources.keys():
        raise ImageError(f"Pyodide's library cannot be compiled: {cell.error or cell.value_error}")
    return {path: bytes(made[path]) for path in sources}


def deno_maker(image: Image, *, without: Collection[str] = (), js_ffi: bool = False) -> DenoServer:
    """A maker of Deno workers that run this image, or the full Pyodide with its guest.

    Raises:
        ConfigError: Deno is missing or another release, or this system cannot start workers of this engine.
        ImageError: the image does not suit it, or the host's scripts cannot be made.
    """
    if sys.platform != "linux":
        raise ConfigError('engine="deno" starts its workers on Linux only; use engine="wasmtime"')
    return DenoServer(image, without=without, js_ffi=js_ffi)


def _start(main: str, flags: Sequence[str]) -> str:
    from ..wasm_sandbox.deno_launcher import Start, encode_start

    deno = find_deno()
    loader, shared = None, list[str]()
    for path in libraries(deno.program):
        if os.path.basename(path).startswith("ld-"):
            loader = path
        else:
            shared.append(path)
    exhibits = Exhibits(deno.program, loader, (*shared, RANDOM), os.path.dirname(main))
    return encode_start(Start(exhibits, (*flags, main), ENVIRONMENT))
