"""A model of the pool: whatever is leased, killed or dies by itself, nobody gets a worker twice, none is lost, and no
tenant has more of them than it may."""

from __future__ import annotations

import socket

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from tests.support.fake_maker import HELLO, FakeProcess

from cloche.runtime.errors import PoolExhausted, WorkerCrashed
from cloche.runtime.limits import Limits
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.tenants import Tenant

LIMITS = Limits()
MAX_WORKERS = 3
TENANTS = [
    None,
    *(
        Tenant(name, sandboxes=9, workers=workers, running_cells=1, wait_s=1, tool_threads=1)
        for name, workers in (("one", 1), ("two", 2), ("many", 9))
    ),
]


class Maker:
    def __init__(self, world: PoolMachine) -> None:
        self.alive = True
        self._world = world
        self._mine: list[FakeProcess] = []

    def start_worker(self) -> ProcessLink:
        if not self.alive:
            raise WorkerCrashed("the fork server is gone")
        frames, far = socket.socketpair()
        control, far_control = socket.socketpair()
        process = FakeProcess()
        self._mine.append(process)
        self._world.processes.append(process)
        self._world.sockets += [frames, control, far, far_control]
        far.sendall(HELLO)
        link = ProcessLink(frames, control, process)
        if self._world.stillborn > 0:
            self._world.stillborn -= 1
            process.kill()
            far.close()
        return link

    def close(self) -> None:
        self.alive = False
        for process in self._mine:
            process.kill()


class PoolMachine(RuleBasedStateMachine):
    links = Bundle("links")

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.sockets: list[socket.socket] = []
        self.makers: list[Maker] = []
        self.given: list[ProcessLink] = []
        self.owners: list[str] = []
        """Of each in `given`; the pool calls those of no tenant ""."""
        self.stillborn = 0

    @initialize(warm=st.sampled_from([0, 1, 2, None]))
    def open(self, warm: int | None) -> None:
        self.pool = WorkerPool(self._new_maker, warm=warm, max_workers=MAX_WORKERS)

    def _new_maker(self) -> Maker:
        self.makers.append(Maker(self))
        return self.makers[-1]

    @rule(target=links, tenant=st.sampled_from(TENANTS))
    def lease(self, tenant: Tenant | None) -> ProcessLink | None:
        before = self.living_of(tenant)
        try:
            link = self.pool.lease(LIMITS, 0, tenant)
        except PoolExhausted as exc:
            if exc.scope == "tenant":
                assert tenant is not None
                assert before >= tenant.workers, "refused below its cap"
            return None
        except WorkerCrashed:
            return None
        assert all(link is not other for other in self.given), "leased twice"
        self.given.append(link)
        self.owners.append("" if tenant is None else tenant.name)
        return link

    def living_of(self, tenant: Tenant | None) -> int:
        name = "" if tenant is None else tenant.name
        pairs = zip(self.given, self.owners, strict=True)
        return sum(owner == name and not link.process.exited for link, owner in pairs)

    @rule(link=consumes(links))
    def close_link(self, link: ProcessLink | None) -> None:
        if link is not None:
            link.close(1)
            assert link.process.exited

    @rule(link=links)
    def cancel(self, link: ProcessLink | None) -> None:
        if link is not None:
            link.kill()

    @rule(index=st.integers(min_value=0))
    def crash_any(self, index: int) -> None:
        if self.processes:
            self.processes[index % len(self.processes)].kill()

    @rule()
    def crash_fork_server(self) -> None:
        if self.makers:
            self.makers[-1].close()

    @rule()
    def next_worker_is_stillborn(self) -> None:
        self.stillborn += 1

    @invariant()
    def at_most_the_allowed_number_lives(self) -> None:
        assert sum(not process.exited for process in self.processes) <= MAX_WORKERS

    @invariant()
    def tenants_have_what_they_may_and_the_pool_knows_it(self) -> None:
        if not hasattr(self, "pool"):
            return
        counted = self.pool.stats().by_tenant
        for tenant in TENANTS:
            living = self.living_of(tenant)
            assert counted.get("" if tenant is None else tenant.name, 0) == living
            assert tenant is None or living <= tenant.workers
        assert 0 not in counted.values()

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.pool.close()
            self.pool.close()
            stats = self.pool.stats()
            assert all(process.exited for process in self.processes)
            assert (stats.warm, stats.live, stats.by_tenant) == (0, 0, {})
        for link in self.given:
            link.close(1)  # a worker that died in use keeps its descriptors until its owner closes the link
        ours = [sock for index, sock in enumerate(self.sockets) if index % 4 < 2]
        assert [sock.fileno() for sock in ours] == [-1] * len(ours)
        for sock in self.sockets:
            sock.close()


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
test_pool_neither_leaks_nor_leases_twice = PoolMachine.TestCase
