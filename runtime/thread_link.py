"""Thread isolation: the instance inside this process, behind the same link as a worker.

The rule: one wall fewer, nothing else different. The session sees the very same frames and trusts them as little; what
stops a runaway guest is the epoch trap, since there is no process to kill. The image is loaded once per source.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..wasm_sandbox.engine import Engine
from ..wasm_sandbox.filesystem import FileSystem
from ..wasm_sandbox.image.compile import compiled_module
from ..wasm_sandbox.image.load import load_image
from ..wasm_sandbox.image.sections import STDLIB_PATH
from ..wasm_sandbox.image.store import find_image
from ..wasm_sandbox.instance import Trapped
from ..wasm_sandbox.relay import GuestHost
from ..wasm_sandbox.world import World
from .errors import ClocheError, PoolExhausted, ProtocolError, WorkerCrashed
from .guest_meter import GuestMeter, MeteredLook
from .limits import MIB, Limits
from .links import CallerServed, FrameSink, WorkerLink, unheard
from .metadata import Metadata, metadata_of
from .tenants import Tenant
from .thread_spares import ThreadSpares
from .walls import walls_around
from .watch import WorkerWatch

_USUAL_MEMORY_BYTES = Limits().memory_mb * MIB


class ThreadLink:
    """One instance, run on the thread that calls `request`."""

    exit_status: int | None = None
    extra_grace_s: float = 0.0

    def __init__(self, host: GuestHost) -> None:
        self._host = host
        self._gate = threading.Lock()
        self._serving = False
        self._gone = False
        self._verdict: ClocheError | None = None
        self.meter = GuestMeter()

    @property
    def gone(self) -> bool:
        """It was stopped for good."""
        return self._gone

    def condemn(self, error: ClocheError) -> None:
        """Stop the guest for a limit that was seen from outside: its request raises `error`, the first."""
        self._verdict = self._verdict or error
        self.kill()

    for_callers: CallerServed | None = None
    """The guest runs on the stack of the thread that serves it, and needs a larger one than callers have."""

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        with self._gate:
            if self._gone:
                raise self._verdict or WorkerCrashed("the instance is gone")
            self._serving = True
        begun()
        meter = self.meter

        # The same lines twice, because these two carry every message: a call less for each.
        def send(frame: bytes) -> None:
            meter.stop()
            try:
                on_frame(frame)
            finally:
                meter.go_on()

        def ask(question: bytes) -> bytes:
            meter.stop()
            try:
                answer = on_frame(question)
            finally:
                meter.go_on()
            if answer is None:
                raise ProtocolError("a question that has no answer")
            return answer

        meter.begin()
        try:
            self._host.handle(frame, send, ask)
        except Trapped as exc:
            if self._verdict is not None:
                raise self._verdict from exc
            raise WorkerCrashed(f"the interpreter was lost: {exc}", exit_status=exc.exit_code) from exc
        finally:
            meter.stop()
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

    def __init__(self, image: Path | None, warm: int | None = 0) -> None:
        """`warm`: instances kept ready; None: one, from the second sandbox on."""
        self._image_path = image
        self._spares = ThreadSpares(self._new_host, warm)
        self._gate = threading.Lock()
        self._engine: Engine | None = None
        self._watch = WorkerWatch()
        self._base_files: dict[str, memoryview] = {}
        self.metadata: Metadata | None = None
        """What its sandboxes run on; None before `prepare`."""

    serves_callers = False

    @property
    def prepared(self) -> bool:
        return self._engine is not None

    @property
    def warm(self) -> int:
        return self._spares.ready

    def prepare(self) -> None:
        self._loaded()

    def lease(self, limits: Limits, timeout_s: float, tenant: Tenant | None = None) -> WorkerLink:
        link = ThreadLink(self._spares.take())
        try:
            self._watch.add_look(MeteredLook(link, limits))
        except PoolExhausted:
            link.close(0)
            raise
        return link

    def close(self) -> None:
        """Drop the engine; its instances live until their links are closed."""
        self._watch.close()
        self._spares.close()
        with self._gate:
            self._engine = None

    def _new_host(self) -> GuestHost:
        """A fresh instance, as if for the usual limits: `start` sets those of its sandbox, and its randomness."""
        engine = self._loaded()
        world = World(os.urandom(32))
        files = FileSystem(self._base_files, 0, 0, world.time_ns, random=world.random)
        return GuestHost(engine.instance(world, files, memory_bytes=_USUAL_MEMORY_BYTES), world, files)

    def _loaded(self) -> Engine:
        with self._gate:
            if self._engine is None:
                image = load_image(self._image_path or find_image())
                self._base_files = {STDLIB_PATH: image.stdlib}
                self._engine = Engine.load(compiled_module(image, epochs=True), epochs=True)
                self.metadata = metadata_of(image.manifest, image.sha256, "thread", walls_around("thread", []))
            return self._engine
