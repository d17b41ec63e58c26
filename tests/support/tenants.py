"""Runtimes with tenants over scripted workers, and a script that stands in its guest until it is let go."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from cloche import Runtime, TenantLimits
from cloche.runtime.fake_link import FakeCell, FakeSource

from .background import BOUND_S

ONE_AT_ONCE = TenantLimits(sandboxes=8, running_cells=1, wait_s=BOUND_S)


def runtime_of(source: FakeSource, limits: TenantLimits = ONE_AT_ONCE, max_sandboxes: int = 1000) -> Runtime:
    return Runtime(sources={"process": source}, tenant_limits=limits, max_sandboxes=max_sandboxes)


class Gate:
    """A script that stands in its guest until it is let go, and says when it has come there."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.inside = 0
        self.most = 0
        self.order: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, cell: FakeCell) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(cell.code)
        self.entered.release()
        while not self.let_go.wait(0.005) and not cell.link.interrupted.is_set():
            cell.check_alive()
        with self._lock:
            self.inside -= 1
        cell.finish(cell.code)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=BOUND_S)


@contextmanager
def gated(limits: TenantLimits = ONE_AT_ONCE) -> Generator[tuple[Runtime, Gate]]:
    gate = Gate()
    with runtime_of(FakeSource(gate), limits) as runtime:
        try:
            yield runtime, gate
        finally:
            gate.let_go.set()


def in_lane(runtime: Runtime) -> int:
    use = runtime.tenants()["acme"]
    return use.running_cells + use.waiting
