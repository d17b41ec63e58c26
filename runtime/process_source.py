"""Process isolation as a source of workers: a pool over a fork server that `prepare` starts.

The rule: loading and compiling the image happens in `prepare`, outside every deadline; a lease is one fork at most.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..wasm_sandbox.jail.report import Record
from .config import RuntimeConfig
from .errors import WallMissing
from .limits import Limits
from .links import WorkerLink
from .pool import WorkerPool
from .walls import require, walls_around
from .watch import WorkerWatch
from .worker_makers import WorkerMaker, worker_maker


class ProcessSource:
    """The workers of one runtime. Safe to use from any thread."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._config = config
        self._gate = threading.Lock()
        self._first: WorkerMaker | None = None
        self._pool = WorkerPool(self._make, warm=config.warm_workers, max_workers=config.max_workers)
        self._watch = WorkerWatch()
        self._walls: Sequence[Record] | None = None
        self.prepared = False

    def prepare(self) -> None:
        with self._gate:
            if not self.prepared:
                self._first = self._new_maker()
                self.prepared = True

    def lease(self, limits: Limits, timeout_s: float) -> WorkerLink:
        link = self._pool.lease(limits, timeout_s)
        link.cpu_allowed_s = limits.cpu_s
        self._watch.add(link, limits)
        return link

    @property
    def walls(self) -> Sequence[Record] | None:
        """What the jail of the last fork server reported; None before there was one."""
        return self._walls

    @property
    def warm(self) -> int:
        """Never-used workers that are ready now."""
        return self._pool.stats().warm

    def close(self) -> None:
        self._pool.close()
        self._watch.close()
        with self._gate:
            first, self._first = self._first, None
        if first is not None:
            first.close()

    def _make(self) -> WorkerMaker:
        """The prepared one the first time; another when that has died."""
        with self._gate:
            first, self._first = self._first, None
        return first or self._new_maker()

    def _new_maker(self) -> WorkerMaker:
        """Raises WallMissing where it does not have what the policy requires."""
        maker = worker_maker(self._config.image)
        self._walls = maker.walls
        try:
            require(self._config.policy.require_walls, walls_around("process", maker.walls))
        except WallMissing:
            maker.close()
            raise
        return maker
