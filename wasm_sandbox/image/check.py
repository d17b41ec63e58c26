"""The last step of a build: one sandbox is made from the new image and runs a cell, before anybody else gets it."""

from __future__ import annotations

import json

from ...runtime import values
from ...runtime.errors import ImageError
from ..engine import Engine
from ..filesystem import FileSystem
from ..instance import Trapped
from ..relay import GuestHost, build_frame
from ..world import World
from .boot import on_guest_thread
from .compile import compiled_module
from .load import Image
from .sections import STDLIB_PATH
from .stages import Progress

_CELL = b"import json, colorsys, sqlite3\nsum(json.loads('[1, 2]')) + len(colorsys.__all__)"
_ANSWER = "9"
_MEMORY_BYTES = 1 << 28


def check_image(image: Image, progress: Progress) -> None:
    """Compile the image for process isolation and run a cell in it.

    Raises:
        ImageError: the answer is not the right one.
    """
    compiled = compiled_module(image, False, progress)
    answer = on_guest_thread(lambda: _run_cell(Engine.load(compiled, epochs=False), image))
    if answer != _ANSWER:
        raise ImageError(f"the new image does not work: a cell gave {answer}")


def _run_cell(engine: Engine, image: Image) -> str:
    """What the cell's value looks like, or what went wrong."""
    world = World.fixed()
    files = FileSystem({STDLIB_PATH: image.stdlib}, 10, 1 << 20, world.time_ns, random=world.random)
    instance = engine.instance(world, files, memory_bytes=_MEMORY_BYTES)
    sent: list[bytes] = []
    try:
        host = GuestHost(instance, world, files)
        for request in (_start(), _cell()):
            host.handle(request, sent.append, lambda _question: b"")
    except Trapped as exc:
        return str(exc)
    finally:
        instance.close()
    result = next((frame for frame in sent if frame[8:].startswith(b'{"type":"result"')), None)
    if result is None:
        return "no result"
    header = json.loads(result[8 : 8 + int.from_bytes(result[4:8], "little")])
    return str(header["value_repr"] or header["error"])


def _start() -> bytes:
    tools = values.encode([], values.ValueLimits())
    header = {
        "type": "start", "protocol_version": 1, "seed": "00" * 32, "memory_bytes": _MEMORY_BYTES, "files": 10,
        "file_bytes": 1 << 20, "tasks": 10, "value_bytes": 1 << 20, "int_digits": 4300, "value_depth": 100,
        "attachments": [len(tools)],
    }  # fmt: skip
    return build_frame(header, (tools,))


def _cell() -> bytes:
    inputs = values.encode({}, values.ValueLimits())
    header = {"type": "cell", "id": 1, "output_bytes": 1 << 16, "artifacts": 0, "artifact_bytes": 0}
    return build_frame({**header, "attachments": [len(_CELL), len(inputs)]}, (_CELL, inputs))
