"""Tenants with real workers: one asks for all there is and loops in it, the other works on."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportPrivateUsage=false
# looks into the pool
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest
from tests.support.pids import pid_of_box

from cloche import ClocheError, Limits, PoolExhausted, Runtime, Sandbox, TenantUse
from cloche.runtime.pace import PRESSES_AFTER
from cloche.runtime.watch import cpu_seconds

pytestmark = [pytest.mark.wasmtime, pytest.mark.slow]

BOUND_S = 60.0
ASKED = 1000


def wait_until(condition: Callable[[], bool]) -> None:
    poll = threading.Event()
    give_up_at = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up_at
        poll.wait(0.01)


def process_of(box: Sandbox) -> int:
    pid = pid_of_box(box)
    assert pid is not None
    return pid


class Flood:
    """A tenant that takes what it can get and runs a loop in all of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.refused: list[PoolExhausted] = []
        self.boxes: list[Sandbox] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        for _ in range(ASKED):
            try:
                box = runtime.sandbox(tenant="flood", limits=Limits(wall_s=BOUND_S, cpu_s=BOUND_S))
            except PoolExhausted as exc:
                self.refused.append(exc)
            else:
                self.boxes.append(box)
        for box in self.boxes:  # all at once: they come at a pace, and a cell waits for its turn for so long only
            self._threads.append(threading.Thread(target=self._loop, args=(box,), daemon=True))
            self._threads[-1].start()

    def _loop(self, box: Sandbox) -> None:
        while not self._stop.is_set() and not box.closed:
            try:
                box.run("while True: pass")
            except PoolExhausted as exc:
                self.refused.append(exc)
                self._stop.wait(exc.retry_after_s)
            except ClocheError:
                pass  # ended at a limit, or closed

    def end(self) -> None:
        self._stop.set()
        for box in self.boxes:
            box.close()
        for thread in self._threads:
            thread.join(BOUND_S)
            assert not thread.is_alive()


def test_a_flood_is_refused_at_its_caps_and_the_other_tenant_works_on() -> None:
    with Runtime() as runtime, runtime.sandbox(tenant="good") as good:
        flood, allowed = Flood(runtime), runtime.config.caps().named("flood")
        assert len(flood.boxes) == allowed.sandboxes
        assert [error.cap for error in flood.refused].count("sandboxes") == ASKED - allowed.sandboxes
        wait_until(lambda: runtime.tenants()["flood"].waiting == allowed.sandboxes - allowed.running_cells)
        assert runtime.tenants()["flood"].running_cells == allowed.running_cells
        for number in range(50):
            assert good.run(f"{number} + 1").value == number + 1
        for _ in range(3):
            with runtime.sandbox(tenant="good") as another:
                assert another.run("6 * 7").value == 42
        # All but the running ones wait in vain: that is another cap, and told apart.
        wait_until(lambda: any(error.cap == "running_cells" for error in flood.refused))
        assert {(error.scope, error.tenant) for error in flood.refused} == {("tenant", "flood")}
        flood.end()
        assert runtime.tenants() == {"good": TenantUse(1, 0, 0)}
        pool = runtime.core._sources["process"]._pool  # type: ignore[attr-defined]
        wait_until(lambda: pool.stats().by_tenant == {"good": 1})


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")
def test_a_worker_that_burns_for_long_steps_back_and_its_neighbour_does_not() -> None:
    with Runtime(busy_nice=9) as runtime, runtime.sandbox(tenant="a") as box, runtime.sandbox(tenant="b") as other:
        wall = next(wall for wall in runtime.walls() if wall.name == "cpu-priority")
        other.run("1")
        own = os.getpriority(os.PRIO_PROCESS, 0)
        cell = threading.Thread(target=box.run, args=("import time\nwhile time.process_time() < 60: pass",))
        cell.start()
        pid = process_of(box)
        tasks = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        if wall.active:
            wait_until(lambda: all(os.getpriority(os.PRIO_PROCESS, task) == max(own, 9) for task in tasks))
        else:
            wait_until(lambda: (cpu_seconds(pid) or 0) > 3)
            assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {own}
        assert os.getpriority(os.PRIO_PROCESS, process_of(other)) == own
        box.interrupt()
        cell.join(BOUND_S)
        assert not cell.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")
@pytest.mark.parametrize("warm", [0, 1])
def test_workers_of_a_tenant_that_starts_more_than_its_share_step_back_before_they_run_anything(
    warm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloche.runtime.pool.BIRTH_S", BOUND_S)  # its fork server tells the pid when it has the time
    with Runtime(busy_nice=9, warm_workers=warm) as runtime, runtime.sandbox(tenant="other") as other:
        wall = next(wall for wall in runtime.walls() if wall.name == "cpu-priority")
        own = os.getpriority(os.PRIO_PROCESS, 0)
        with runtime.sandbox(tenant="flood") as first:
            pace = runtime.core._accounts._accounts["flood"].starts._books.pace
            assert pace is not None
            pace.worked(time.monotonic(), 3600.0)
            pace._pauses, pace._run_until = PRESSES_AFTER, time.monotonic() + BOUND_S
            wait_until(lambda: runtime.warm_workers == warm)
            with runtime.sandbox(tenant="flood") as box, runtime.sandbox(tenant="other") as another:
                tasks = [int(name) for name in os.listdir(f"/proc/{process_of(box)}/task")]
                wanted = max(own, 9) if wall.active else own
                assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {wanted}
                assert box.run("1 + 1").value == 2
                for untouched in (first, other, another):
                    assert os.getpriority(os.PRIO_PROCESS, process_of(untouched)) == own


def test_a_worker_killed_from_outside_leaves_nothing_on_its_tenants_account() -> None:
    with Runtime() as runtime:
        box = runtime.sandbox(tenant="acme")
        os.kill(process_of(box), 9)
        with pytest.raises(ClocheError):
            box.run("1")
        pool = runtime.core._sources["process"]._pool  # type: ignore[attr-defined]
        wait_until(lambda: pool.stats().by_tenant == {})
        box.reset()
        assert box.run("1 + 1").value == 2
        assert pool.stats().by_tenant == {"acme": 1}
        box.close()
        wait_until(lambda: pool.stats().by_tenant == {})
        assert runtime.tenants() == {}
