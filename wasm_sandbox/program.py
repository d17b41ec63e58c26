"""What the workers of one image run: the image loaded once, a fresh and warmed-up sandbox for each worker."""

from __future__ import annotations

from .engine import Engine
from .filesystem import FileSystem
from .image.sections import STDLIB_PATH, open_parts
from .jail.profile import Jail
from .relay import GuestHost, build_frame
from .worker import Program
from .world import World

PROTOCOL_VERSION = 1
"""The one of runtime/protocol.py, which a worker does not import; a test compares them."""
WARM_MEMORY_BYTES = 256 * 1024 * 1024
"""Cap until `start` brings the tenant's own."""
_NO_TENANT_SEED = bytes(32)
"""Replaced by `start`, as are the quotas of 0 files, before any code of a tenant runs."""


def load_program(image: str, sha256: str, compiled: str) -> Program:
    """The program of an image file and its compiled module, both found and verified by the host.

    Raises:
        ImageError: the image cannot be read.
    """
    base_files = {STDLIB_PATH: open_parts(image).stdlib}
    engine = Engine.load(compiled, epochs=False)

    def make_guest(jail: Jail) -> GuestHost:
        world = World(_NO_TENANT_SEED)
        files = FileSystem(base_files, 0, 0, world.time_ns, random=world.random)
        return GuestHost(engine.instance(world, files, memory_bytes=WARM_MEMORY_BYTES), world, files, jail)

    hello: dict[str, object] = {
        "type": "hello",
        "protocol_version": PROTOCOL_VERSION,
        "engine": "wasmtime",
        "image": sha256,
        "attachments": [],
    }
    return Program(build_frame(hello), make_guest)
