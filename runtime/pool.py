"""Workers that nobody has used: some kept warm, the rest forked when asked for.

The rule: a worker is leased once and never comes back, and a process holds its place under `max_workers` until it is
dead and reaped, whoever killed it. No lock is held while a process starts or ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from .errors import ClocheError, PoolExhausted, RuntimeClosed, UsedAfterFork, WorkerCrashed
from .limits import Limits, longest_frame
from .niceness import lower_priority
from .places import HOST, RETRY_AFTER_S, Places, Waiter
from .plain import dataclass
from .process_link import ProcessLink
from .tenants import Tenant
from .threads import start_thread
from .worker_makers import WorkerMaker

MAX_WORKERS = 256
"""Each worker costs the host three descriptors and the machine about 7 MB; the usual 1024 descriptors allow 300."""
FILL_FROM_LEASE = 2
"""The spare is made from the second sandbox on, unless their number was set by hand. A script with one sandbox pays for
one worker, and a service pays for one cold start more in its life."""
READY_DEADLINE_S = 30.0
"""A spare that takes longer is given up."""
CLOSE_DEADLINE_S = 5.0
YOUNG_S = 1.0
"""A spare that dies younger than this is not replaced before the next lease: something is wrong with this machine."""
BIRTH_S = 0.5
"""A fork takes some milliseconds; one that takes longer is not waited for."""
REFILL_AFTER_S = 0.02
"""A fork at once would take the core from the sandbox that was just leased. Leases in between do not move this."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A moment's count."""

    warm: int
    """Ready and unused."""
    live: int
    """Processes: warm, leased and starting."""
    leased_total: int
    leased_warm: int
    """Of these, how many found a warm worker."""
    maker_starts: int
    """1, and one more for each fork server that died."""
    by_tenant: Mapping[str, int]
    """Workers that are leased to each tenant or being started for it; under "" those of no tenant."""


class WorkerPool:
    """Gives out fresh workers. Safe to use from any thread; starts nothing before the first lease."""

    def __init__(
        self,
        make: Callable[[], WorkerMaker],
        *,
        warm: int | None = None,
        max_workers: int = MAX_WORKERS,
        busy_nice: int = 0,
    ) -> None:
        """
        Args:
            make: starts the fork server; called at the first lease, and again when it has died.
            warm: spares kept ready from the first lease on. None: one, from the second lease on.
            max_workers: processes alive at once, spares included.
            busy_nice: the niceness of workers for a tenant that presses; 0 leaves them alone.
        """
        self._make = make
        self._size = min(1 if warm is None else warm, max_workers)
        self._fill_from_lease = FILL_FROM_LEASE if warm is None else 1
        self._max_workers = max_workers
        self._busy_nice = busy_nice
        self._owner = os.getpid()
        self._gate = threading.Lock()
        """Guards all below. Taken by itself: a KeyboardInterrupt inside `Condition.__exit__` would leave it shut."""
        self._changed = threading.Condition(self._gate)
        """Notified when a place is free, a warm worker is wanted or ready, and at the close."""
        self._maker_gate = threading.Lock()
        """Held while a maker starts, so that two threads do not start two."""
        self._maker: WorkerMaker | None = None
        self._maker_starts = 0
        self._warm: deque[_Warm] = deque()
        self._live: set[ProcessLink] = set()
        self._places = Places(max_workers)
        self._starting = 0
        self._leased_total = 0
        self._leased_warm = 0
        self._paused = False
        self._refill_at = 0.0
        self._refiller: threading.Thread | None = None
        self._closed = False

    def lease(self, limits: Limits, timeout_s: float, tenant: Tenant | None = None) -> ProcessLink:
        """See `WorkerSource.lease`. A warm worker comes at once; a cold one takes some 10 ms.

        Raises:
            PoolExhausted: no place under `max_workers` or the tenant's own cap, no process or no descriptor came free
                in time.
            WorkerCrashed: two workers in a row died before they were ready.
            RuntimeClosed: the pool was closed.
        """
        give_up_at = time.monotonic() + timeout_s
        link = self._warm_or_place(give_up_at, tenant)
        nice = self._busy_nice if tenant is not None and tenant.presses() else 0
        if link is None:
            link = self._start(give_up_at, HOST if tenant is None else tenant.name, nice)
        try:
            step_back(link, nice)
            link.frame_bytes = longest_frame(limits)
            self._after_lease()
        except BaseException:  # Ctrl-C, too: nobody else knows of this worker
            link.close(0)
            raise
        return link

    @property
    def warm(self) -> int:
        """Never-used workers that are ready now."""
        return len(self._warm)

    def stats(self) -> PoolStats:
        with self._gate:
            live = len(self._live) + self._starting
            leased = self._leased_total, self._leased_warm
            return PoolStats(len(self._warm), live, *leased, self._maker_starts, self._places.held)

    def close(self) -> None:
        """Kill every worker, leased ones too, and wait for their deaths and the fork server's. Idempotent."""
        if os.getpid() != self._owner:
            return
        with self._gate:
            self._closed = True
            links, maker, refiller = list(self._live), self._maker, self._refiller
            self._warm.clear()
            self._changed.notify_all()
        for link in links:
            link.kill()
        give_up_at = time.monotonic() + CLOSE_DEADLINE_S
        for link in links:
            link.close(max(0.0, give_up_at - time.monotonic()))
        if maker is not None:
            maker.close()
        if refiller is not None:
            refiller.join(CLOSE_DEADLINE_S)

    # --- places -------------------------------------------------------------------------------------------------------

    def _warm_or_place(self, give_up_at: float, tenant: Tenant | None) -> ProcessLink | None:
        """A warm worker, or None with a place reserved for a cold one."""
        if os.getpid() != self._owner:
            raise UsedAfterFork("this runtime belongs to the parent process; make a new one here")
        with self._gate:
            waiter = self._places.stand_in_line(tenant)
            try:
                while True:
                    self._check_open()
                    if self._places.is_first(waiter):
                        link = self._take_warm(waiter)
                        if link is not None:
                            return link
                        if self._has_place():
                            self._starting += 1
                            self._places.count(waiter.key, 1)
                            return None
                    left_s = give_up_at - time.monotonic()
                    if left_s <= 0 or not self._changed.wait(left_s):
                        raise self._places.exhausted(waiter)
            finally:
                if self._places.leave_line(waiter):
                    self._changed.notify_all()

    def _take_warm(self, waiter: Waiter) -> ProcessLink | None:
        """A warm worker that this tenant may have; the last one is for all of them in turn."""
        now = time.monotonic()
        if not self._warm:
            return None
        if len(self._warm) == 1 and self._has_place() and not self._places.may_take_last(waiter.key, now):
            return None
        link = self._warm.popleft().link  # `_gone` was not called for it yet, or it would not be here
        self._leased_total += 1
        self._leased_warm += 1
        self._places.own(link, waiter.key)
        self._places.note_lease(waiter.key, now, warm=True)
        return link

    def _has_place(self) -> bool:
        return len(self._live) + self._starting < self._max_workers

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("the runtime was closed")

    # --- starting one worker ------------------------------------------------------------------------------------------

    def _start(self, give_up_at: float, key: str, nice: int) -> ProcessLink:
        """A cold worker on the reserved place, for a caller who waits."""
        try:
            try:
                link = self._start_once(give_up_at, key, nice)
            except WorkerCrashed:
                if time.monotonic() >= give_up_at:
                    raise PoolExhausted("no worker was ready in time", retry_after_s=RETRY_AFTER_S) from None
                # A fork server that died meanwhile is started again, once.
                link = self._start_once(give_up_at, key, nice)
        finally:
            with self._gate:
                self._starting -= 1
                self._places.count(key, -1)
                self._changed.notify_all()
        with self._gate:
            self._leased_total += 1
            self._places.note_lease(key, time.monotonic(), warm=False)
        return link

    def _start_once(self, give_up_at: float, key: str | None = None, nice: int = 0) -> ProcessLink:
        """A worker that has said hello; of the tenant `key`, or nobody's yet."""
        try:
            link = self._running_maker().start_worker()
        except WorkerCrashed:  # it died between the look and the message
            link = self._running_maker().start_worker()
        with self._gate:
            # The reserved place stays taken until the caller gives it back: for this moment the worker counts twice
            # rather than never.
            self._live.add(link)
            if key is not None:
                self._places.own(link, key)
            closed = self._closed
        link.process.on_exit(lambda: self._gone(link))
        if closed:
            link.close(CLOSE_DEADLINE_S)
            raise RuntimeClosed("the runtime was closed")
        try:
            step_back(link, nice)  # most of a start is still to come
            link.wait_hello(max(0.0, give_up_at - time.monotonic()))
        except ClocheError:
            link.close(CLOSE_DEADLINE_S)
            self._check_open()
            raise
        except BaseException:
            link.close(0)
            raise
        return link

    def _running_maker(self) -> WorkerMaker:
        with self._maker_gate:
            with self._gate:
                self._check_open()
                maker = self._maker
            if maker is not None and maker.alive:
                return maker
            if maker is not None:
                maker.close()
            maker = self._make()
            with self._gate:
                self._maker_starts += 1
                self._maker = maker
                closed = self._closed
            if closed:
                maker.close()
                raise RuntimeClosed("the runtime was closed")
            return maker

    def _gone(self, link: ProcessLink) -> None:
        """A process is dead and reaped. Called by whoever noticed, on any thread."""
        with self._gate:
            self._live.discard(link)
            self._places.gone(link)
            spare = next((warm for warm in self._warm if warm.link is link), None)
            if spare is not None:
                self._warm.remove(spare)
                self._paused = time.monotonic() - spare.since < YOUNG_S
            self._changed.notify_all()
        if spare is not None:
            link.close(0)  # nobody else will: this frees its descriptors

    # --- keeping some warm --------------------------------------------------------------------------------------------

    def _after_lease(self) -> None:
        with self._gate:
            self._paused = False
            now = time.monotonic()
            if now >= self._refill_at:
                self._refill_at = now + REFILL_AFTER_S
            if self._closed or self._leased_total < self._fill_from_lease or self._size == 0:
                return
            if self._refiller is None:
                with suppress(PoolExhausted):  # the next lease tries again
                    self._refiller = start_thread("cloche-pool", self._refill)
            else:
                self._changed.notify_all()

    def _refill(self) -> None:
        """The refiller's thread, to the end of the pool. What fails here is tried again after the next lease, which
        then tells its caller the reason."""
        while self._wait_until_wanted():
            try:
                link = self._start_once(time.monotonic() + READY_DEADLINE_S)
            except (ClocheError, OSError):
                link = None
            with self._gate:
                self._starting -= 1
                if link is None or link not in self._live:  # `_gone` was called for it: `exited` is told only later
                    self._paused = True
                elif not self._closed:
                    self._warm.append(_Warm(link, time.monotonic()))
                    link = None
                self._changed.notify_all()
            if link is not None:
                link.close(CLOSE_DEADLINE_S)

    def _wait_until_wanted(self) -> bool:
        """True with a place reserved for one more warm worker; False at the close."""
        with self._gate:
            while not self._closed:
                wanted = len(self._warm) < self._size and not self._paused and self._has_place()
                pause_s = self._refill_at - time.monotonic()
                if wanted and pause_s <= 0:
                    self._starting += 1
                    return True
                self._changed.wait(pause_s if wanted else None)
            return False


def step_back(link: ProcessLink, nice: int) -> None:
    """Lower the priority of a worker to this niceness; 0 leaves it alone. `Runtime.walls()` says where it cannot be."""
    pid = link.process.wait_pid(BIRTH_S) if nice else None
    if pid is not None:
        with suppress(OSError):
            lower_priority(pid, nice)


@dataclass(frozen=True, slots=True)
class _Warm:
    link: ProcessLink
    since: float
