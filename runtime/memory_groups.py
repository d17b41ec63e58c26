"""Worker processes, each in a memory cgroup of its own: what `wasm_sandbox/jail/cgroup.py` offers, put around a maker.

The rule: a worker is in its cgroup before it gets its first request, and a worker that cannot be put there is not used.
The cap comes with the tenant's limits, at the lease; that is one small write.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from ..wasm_sandbox.jail.cgroup import Box, Home
from ..wasm_sandbox.jail.report import Record, reason
from .errors import WorkerCrashed
from .process_link import DEATH_NOTICE_S, ProcessLink
from .worker_makers import JailedMaker, WorkerMaker

BIRTH_DEADLINE_S = 10.0
"""The news of a fork takes some milliseconds; a machine that swaps takes longer."""


class GroupedMaker(WorkerMaker):
    """A maker whose workers have a memory cgroup each. Safe to use from any thread; the caller closes it."""

    def __init__(self, maker: JailedMaker, home: Home | None, record: Record) -> None:
        """`home`: where the cgroups are made; None leaves workers as they are, and `record` says why.

        The fork server goes into one without a cap: so it is known that processes can be moved there.
        """
        self._maker = maker
        self._home = home
        self._server_box: Box | None = None
        if home is not None:
            try:
                self._server_box = _box_of(home, maker.pid)
            except OSError as exc:
                self._home, record = None, Record(record.name, False, f"no worker can be moved there: {reason(exc)}")
        self._numbers = itertools.count(1)
        self._gate = threading.Lock()
        self._left: set[Box] = set()
        """Cgroups that were not empty when their worker was said to be dead."""
        self.walls: Sequence[Record] = [*maker.walls, record]

    @property
    def alive(self) -> bool:
        return self._maker.alive

    def start_worker(self) -> ProcessLink:
        """See `WorkerMaker.start_worker`.

        Raises:
            WorkerCrashed: also for a worker that could not be put into a cgroup.
        """
        if self._home is None:
            return self._maker.start_worker()
        self._remove_left()
        try:
            box = self._home.box(next(self._numbers))
        except OSError as exc:
            raise WorkerCrashed(f"no memory cgroup for a worker: {exc.strerror}") from exc
        try:
            link = self._maker.start_worker()
        except BaseException:
            self._remove(box)
            raise
        link.process.on_exit(lambda: self._remove(box))
        try:
            _put(link, box)
        except BaseException:
            link.close(0)
            raise
        link.group = box
        return link

    def close(self) -> None:
        """End the maker and its workers, and remove their cgroups. Idempotent."""
        self._maker.close()
        if self._server_box is not None:
            self._server_box.close()
        self._remove_left()

    def _remove(self, box: Box) -> None:
        if not box.close():
            with self._gate:
                self._left.add(box)

    def _remove_left(self) -> None:
        with self._gate:
            left, self._left = self._left, set()
        for box in left:
            self._remove(box)


def _put(link: ProcessLink, box: Box) -> None:
    """Move a new worker into its cgroup. One that is dead already needs none, and `wait_hello` tells why.

    Raises:
        WorkerCrashed: it cannot be moved, or nobody told in time who it is.
    """
    pid = link.process.wait_pid(BIRTH_DEADLINE_S)
    if pid is None:
        if not link.process.wait(DEATH_NOTICE_S):
            raise WorkerCrashed("a worker could not enter its memory cgroup: nobody told its pid")
        return
    try:
        box.take(pid)
    except ProcessLookupError:
        pass  # it is dead already
    except OSError as exc:
        raise WorkerCrashed(f"a worker could not enter its memory cgroup: {exc.strerror}") from exc


def _box_of(home: Home, pid: int | None) -> Box:
    """A cgroup with this process in it. Raises OSError."""
    if pid is None:
        raise OSError(0, "workers are not forked here")
    box = home.box(0)
    try:
        box.take(pid)
    except OSError:
        box.close()
        raise
    return box
