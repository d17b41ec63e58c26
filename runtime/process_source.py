"""Process isolation as a source of workers: a pool over a fork server that `prepare` starts.

The rule: loading and compiling the image happens in `prepare`, outside every deadline; a lease is one fork at most.
"""

from __future__ import annotations

import threading

from .config import RuntimeConfig
from .limits import Limits
from .links import WorkerLink
from .pool import WorkerPool
from .worker_makers import WorkerMaker, worker_maker


class ProcessSource:
    """The workers of one runtime. Safe to use from any thread."""

    def __init__(self, config: RuntimeConfig) -> None:
        self._config = config
        self._gate = threading.Lock()
        self._first: WorkerMaker | None = None
        self._pool = WorkerPool(self._make, warm=config.warm_workers, max_workers=config.max_workers)
        self.prepared = False

    def prepare(self) -> None:
        with self._gate:
            if not self.prepared:
                self._first = worker_maker(self._config.image)
                self.prepared = True

    def lease(self, limits: Limits, timeout_s: float) -> WorkerLink:
        return self._pool.lease(limits, timeout_s)

    @property
    def warm(self) -> int:
        """Never-used workers that are ready now."""
        return self._pool.stats().warm

    def close(self) -> None:
        self._pool.close()
        with self._gate:
            first, self._first = self._first, None
        if first is not None:
            first.close()

    def _make(self) -> WorkerMaker:
        """The prepared one the first time; another when that has died."""
        with self._gate:
            first, self._first = self._first, None
        return first or worker_maker(self._config.image)
