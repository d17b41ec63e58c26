"""Thread isolation: the instance inside this process, behind the same link as a worker.

The rule: one wall fewer, nothing else different. The session sees the very same frames and trusts them as little; what
stops a runaway guest is the epoch trap, since there is no process to kill. The image is loaded once per source.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ..wasm_sandbox.engine import Engine
from ..wasm_sandbox.filesystem import FileSystem
from ..wasm_sandbox.image.compile import compiled_module
from ..wasm_sandbox.image.load import load_image
from ..wasm_sandbox.image.store import find_image
from ..wasm_sandbox.instance import Trapped
from ..wasm_sandbox.program import STDLIB_PATH
from ..wasm_sandbox.relay import GuestHost
from ..wasm_sandbox.world import World
from .errors import ProtocolError, WorkerCrashed
from .limits import MIB, Limits
from .links import FrameSink, WorkerLink


class ThreadLink:
    """One instance, run on the thread that calls `request`."""

    exit_status: int | None = None

    def __init__(self, host: GuestHost) -> None:
        self._host = host
        self._gate = threading.Lock()
        self._serving = False
        self._gone = False

    def request(self, frame: bytes, on_frame: FrameSink) -> None:
        with self._gate:
            if self._gone:
                raise WorkerCrashed("the instance is gone")
            self._serving = True

        def send(frame: bytes) -> None:
            on_frame(frame)

        try:
            self._host.handle(frame, send, lambda question: _answered(on_frame(question)))
        except Trapped as exc:
            raise WorkerCrashed(f"the interpreter was lost: {exc}", exit_status=exc.exit_code) from exc
        finally:
            self._leave()
        if not on_frame.finished:
            raise ProtocolError("the worker went quiet before it had answered")

    def interrupt(self) -> None:
        with self._gate:
            if self._serving:
                self._host.interrupt()

    def trap(self) -> bool:
        return self._host.request_trap()

    def kill(self) -> None:
        with self._gate:
            self._gone = True
        self._host.request_trap()

    def close(self, timeout_s: float) -> None:
        """Free the instance; where a tool still holds its thread, that thread does it on its way out."""
        self.kill()
        with self._gate:
            if self._serving:
                return
        self._host.close()

    def _leave(self) -> None:
        with self._gate:
            self._serving = False
            if not self._gone:
                self._host.instance.clear_interrupt()  # what the guest has not seen was not meant for the next request
                return
        self._host.close()


class ThreadSource:
    """Makes instances of one image in this process. The engine is loaded on first use and kept."""

    def __init__(self, image: Path | None) -> None:
        self._image_path = image
        self._gate = threading.Lock()
        self._engine: Engine | None = None
        self._base_files: dict[str, memoryview] = {}

    @property
    def prepared(self) -> bool:
        return self._engine is not None

    @property
    def warm(self) -> int:
        """An instance takes 0.4 ms; none is kept."""
        return 0

    def prepare(self) -> None:
        self._loaded()

    def lease(self, limits: Limits, timeout_s: float) -> WorkerLink:
        engine = self._loaded()
        world = World(os.urandom(32))  # replaced by `start`, as are the quotas of 0
        files = FileSystem(self._base_files, 0, 0, world.time_ns, random=world.random)
        instance = engine.instance(world, files, memory_bytes=limits.memory_mb * MIB)
        return ThreadLink(GuestHost(instance, world, files))

    def close(self) -> None:
        """Drop the engine; its instances live until their links are closed."""
        with self._gate:
            self._engine = None

    def _loaded(self) -> Engine:
        with self._gate:
            if self._engine is None:
                image = load_image(self._image_path or find_image())
                self._base_files = {STDLIB_PATH: image.stdlib}
                self._engine = Engine.load(compiled_module(image, epochs=True), epochs=True)
            return self._engine


def _answered(answer: bytes | None) -> bytes:
    if answer is None:
        raise ProtocolError("a question that has no answer")
    return answer
