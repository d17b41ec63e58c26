"""A model of the pool: whatever is leased, killed or dies by itself, nobody gets a worker twice and none is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from cloche.runtime.errors import PoolExhausted, WorkerCrashed
from cloche.runtime.limits import Limits
from cloche.runtime.pool import WorkerPool
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import PROTOCOL_VERSION, Hello, render

LIMITS = Limits()
HELLO = render(Hello(protocol_version=PROTOCOL_VERSION, engine="fake", image="0" * 64))
MAX_WORKERS = 3


class Process:
    failure: str | None = None
    pid = None

    def __init__(self) -> None:
        self.exit_status: int | None = None
        self.exited = False
        self._callbacks: list[Callable[[], None]] = []

    def kill(self) -> None:
        if not self.exited:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()
            self.exit_status, self.exited = -9, True

    def wait(self, timeout_s: float) -> bool:
        return self.exited

    def on_exit(self, callback: Callable[[], None]) -> None:
        if self.exited:
            callback()
        else:
            self._callbacks.append(callback)


class Maker:
    def __init__(self, world: PoolMachine) -> None:
        self.alive = True
        self._world = world
        self._mine: list[Process] = []

    def start_worker(self) -> ProcessLink:
        if not self.alive:
            raise WorkerCrashed("the fork server is gone")
        frames, far = socket.socketpair()
        control, far_control = socket.socketpair()
        process = Process()
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
        self.processes: list[Process] = []
        self.sockets: list[socket.socket] = []
        self.makers: list[Maker] = []
        self.given: list[ProcessLink] = []
        self.stillborn = 0

    @initialize(warm=st.sampled_from([0, 1, 2, None]))
    def open(self, warm: int | None) -> None:
        self.pool = WorkerPool(self._new_maker, warm=warm, max_workers=MAX_WORKERS)

    def _new_maker(self) -> Maker:
        self.makers.append(Maker(self))
        return self.makers[-1]

    @rule(target=links)
    def lease(self) -> ProcessLink | None:
        try:
            link = self.pool.lease(LIMITS, 0)
        except (PoolExhausted, WorkerCrashed):
            return None
        assert all(link is not other for other in self.given), "leased twice"
        self.given.append(link)
        return link

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

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.pool.close()
            self.pool.close()
            stats = self.pool.stats()
            assert all(process.exited for process in self.processes)
            assert (stats.warm, stats.live) == (0, 0)
        for link in self.given:
            link.close(1)  # a worker that died in use keeps its descriptors until its owner closes the link
        ours = [sock for index, sock in enumerate(self.sockets) if index % 4 < 2]
        assert [sock.fileno() for sock in ours] == [-1] * len(ours)
        for sock in self.sockets:
            sock.close()


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_pool_neither_leaks_nor_leases_twice = PoolMachine.TestCase
