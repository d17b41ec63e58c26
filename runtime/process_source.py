"""Process isolation as a source of workers: a pool over a fork server that `prepare` starts.

The rule: loading and compiling the image happens in `prepare`, outside every deadline; a lease is one fork at most.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..wasm_sandbox.jail.cgroup import find_home
from ..wasm_sandbox.jail.report import Record
from .config import RuntimeConfig
from .engine_options import EngineOptions
from .errors import RuntimeClosed, WallMissing, WorkerCrashed
from .fork_server import ForkServer
from .large_blocks import keep_large_blocks
from .limits import MIB, Limits
from .links import WorkerLink
from .memory_groups import GroupedMaker
from .metadata import Metadata, metadata_of
from .pool import WorkerPool
from .process_link import SERVES_CALLERS, ProcessLink
from .server_start import StartingServer, image_to_run
from .tenants import Tenant
from .walls import Wall, deno_walls, require, walls_around
from .watch import WorkerWatch, memory_cap
from .worker_makers import JailedMaker, WorkerMaker, worker_maker

if TYPE_CHECKING:
    from ..wasm_sandbox.image.load import Image


class ProcessSource:
    """The workers of one runtime. Safe to use from any thread."""

    def __init__(
        self,
        config: RuntimeConfig,
        engine: str = "wasmtime",
        options: EngineOptions | None = None,
        started: tuple[Image, StartingServer] | None = None,
    ) -> None:
        """`started`: its first fork server, with the image that it loads, if there is one yet."""
        self._config = config
        self._engine = engine
        self._js_ffi = options is not None and options.js_ffi
        self._gate = threading.Lock()
        self._started = started
        self._first: WorkerMaker | None = None
        self._pool = WorkerPool(
            self._make, warm=config.warm_workers, max_workers=config.max_workers, busy_nice=config.busy_nice
        )
        self._watch = WorkerWatch(busy_nice=config.busy_nice)
        self._walls: Sequence[Record] | None = None
        self._image: Image | None = None
        self._metadata: Metadata | None = None
        self.prepared = False
        self._closed = False

    def prepare(self) -> None:
        with self._gate:
            if self._closed:  # while its caller came here
                raise RuntimeClosed("the runtime was closed")
            if not self.prepared:
                keep_large_blocks()
                self._first = self._new_maker()
                self.prepared = True

    def lease(self, limits: Limits, timeout_s: float, tenant: Tenant | None = None) -> WorkerLink:
        link = self._pool.lease(limits, timeout_s, tenant)
        try:
            link.cpu_allowed_s = limits.cpu_s
            link.limit(limits)
            _cap(link, limits)
            self._watch.add(link, limits)
        except BaseException:  # Ctrl-C, too: nobody else knows of this worker
            link.close(0)
            raise
        return link

    @property
    def walls(self) -> Sequence[Record] | None:
        """What the jail of the last fork server reported; None before there was one."""
        return self._walls

    @property
    def metadata(self) -> Metadata | None:
        """What the workers of the last fork server run on; None before there was one."""
        if self._metadata is None and self._image is not None and self._walls is not None:
            walls = self._around(self._walls)
            self._metadata = metadata_of(self._image.manifest, self._image.sha256, "process", walls, self._engine)
        return self._metadata

    @property
    def warm(self) -> int:
        """Never-used workers that are ready now."""
        return self._pool.warm

    serves_callers = SERVES_CALLERS
    """See `WorkerSource.serves_callers`."""

    def close(self) -> None:
        self._metadata, self._image = self.metadata, None  # the image holds its file open
        self._pool.close()
        self._watch.close()
        with self._gate:
            self._closed = True  # who prepares now has to see it, or nobody would end what it starts
            first, self._first = self._first, None
            started, self._started = self._started, None
        if first is not None:
            first.close()
        if started is not None:
            started[1].abandon()

    def _around(self, records: Sequence[Record]) -> list[Wall]:
        if self._engine == "deno":
            return deno_walls(records, js_ffi=self._js_ffi)
        return walls_around("process", records)

    def _make(self) -> WorkerMaker:
        """The prepared one the first time; another when that has died."""
        with self._gate:
            first, self._first = self._first, None
        return first or self._new_maker()

    def _new_maker(self) -> WorkerMaker:
        """Raises WallMissing where it does not have what the policy requires."""
        started, self._started = self._started, None
        if started is None:
            image = image_to_run(self._config.image)
            bare = _maker(self._engine, image, js_ffi=self._js_ffi)
        else:
            image, bare = started[0], ForkServer(started[1])
        maker = GroupedMaker(bare, *find_home(self._config.cgroup))
        self._walls, self._image, self._metadata = maker.walls, image, None
        try:
            require(self._config.policy.require_walls, self._around(maker.walls))
        except WallMissing:
            maker.close()
            raise
        return maker


def _maker(engine: str, image: Image, *, js_ffi: bool) -> JailedMaker:
    """Imported here: a host without Deno never looks at the other engine."""
    if engine == "deno":
        from .deno_maker import deno_maker

        return deno_maker(image, js_ffi=js_ffi)
    return worker_maker(image)


def _cap(link: ProcessLink, limits: Limits) -> None:
    """Set the cap of its memory cgroup, if it is in one. The same as the watch's, but held by the kernel, at once."""
    if link.group is None:
        return
    size = memory_cap(limits) + link.extra_resident_bytes
    link.memory_allowed_mb = size / MIB
    try:
        link.group.cap(size)
    except OSError as exc:
        raise WorkerCrashed(f"a worker's memory could not be capped: {exc.strerror}") from exc
