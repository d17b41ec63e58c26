"""Tenants: what one tenant's flood costs another. Cells of about a millisecond, quiet and under flood in turns.

The flood is what a tenant's code and a naive client can do: 1000 sandboxes asked for by a hundred threads without a
pause, every one that is given running a loop that never ends, refused cells asked for again when the hint says so. All
caps are the defaults. The other tenant is measured from the first request to the answer of the last, and then beside
the loops.
"""

from __future__ import annotations

# pyright: reportPossiblyUnboundVariable=false
# a flood has at least one round
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from cloche import ClocheError, Limits, PoolExhausted, Runtime, Sandbox

from .measure import Figure, timed

Progress = Callable[[str], None]
ASKED = 1000
ASKERS = 100
LOOP = "while True: pass"
LOOP_LIMITS = Limits(wall_s=5, cpu_s=5)
"""Short enough that loops are ended and begun again while the other tenant is measured."""
TARGET_MS = 1.0
ROUNDS = 4
CELLS_PER_START = 20
LOOP_CYCLE_S = 6.0
"""A loop's whole life and the refusal of those that waited for its end: the neighbour is measured through all of it."""
SETTLE_S = 2.0
"""A loop is stepped back after 1.1 s."""
CELL, START = "one tenant's cell of about 1 ms", "one tenant's new sandbox to first result"


class Flood:
    """One tenant that takes what it can get."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        self._gate = threading.Lock()
        self._boxes: list[Sandbox] = []
        self._threads: list[threading.Thread] = []
        self.refused: Counter[str] = Counter()
        """By the cap that was hit."""
        self._started_at = time.monotonic()
        self._askers = [self._start(self._ask) for _ in range(ASKERS)]
        self.came_s = 0.0
        """Seconds until all requests were answered."""

    @property
    def opened(self) -> int:
        return len(self._boxes)

    def still_comes(self) -> bool:
        """Whether a request has no answer yet."""
        if any(thread.is_alive() for thread in self._askers):
            return True
        self.came_s = self.came_s or time.monotonic() - self._started_at
        return False

    def stop(self) -> None:
        self._stop.set()
        for thread in self._askers:
            thread.join(20)
        for box in self._boxes:
            box.close()
        for thread in self._threads:
            thread.join(20)

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _ask(self) -> None:
        for _ in range(ASKED // ASKERS):
            if self._stop.is_set():
                return
            try:
                box = self._runtime.sandbox(tenant="flood", limits=LOOP_LIMITS)
            except PoolExhausted as exc:
                self._refuse(exc)
            else:
                self._boxes.append(box)
                self._start(self._loop, box)

    def _loop(self, box: Sandbox) -> None:
        while not self._stop.is_set():
            try:
                box.run(LOOP)
            except PoolExhausted as exc:
                self._refuse(exc)
                self._stop.wait(exc.retry_after_s)
            except ClocheError:
                if box.closed and not self._stop.is_set():
                    self._reset(box)

    def _reset(self, box: Sandbox) -> None:
        try:
            box.reset()
        except PoolExhausted as exc:
            self._refuse(exc)
            self._stop.wait(exc.retry_after_s)
        except ClocheError:
            self._stop.wait(0.1)

    def _refuse(self, exc: PoolExhausted) -> None:
        with self._gate:
            self.refused[f"{exc.scope} {exc.cap}"] += 1


@contextmanager
def flooded(runtime: Runtime) -> Generator[Flood, None, None]:
    flood = Flood(runtime)
    try:
        yield flood
    finally:
        flood.stop()


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Latency of a tenant's cells and starts, alone and beside another tenant's flood."""
    count = max(50, rounds * 5)
    quiet, burst, loops = Samples(), Samples(), Samples()
    with Runtime() as runtime, runtime.sandbox(tenant="good") as box:
        code = millisecond_cell(box)
        for number in range(ROUNDS):
            progress(f"tenants, round {number + 1} of {ROUNDS}: quiet")
            quiet.take(runtime, box, code, 2 * count)
            progress(f"tenants, round {number + 1} of {ROUNDS}: flood")
            with flooded(runtime) as flood:
                while flood.still_comes():
                    burst.take(runtime, box, code, CELLS_PER_START)
                wait_for_loops(runtime)
                until = time.monotonic() + LOOP_CYCLE_S
                while time.monotonic() < until:
                    loops.take(runtime, box, code, CELLS_PER_START)
            given, refused, came_s = flood.opened, dict(flood.refused), flood.came_s
    note = f"last round: {ASKED} sandboxes asked for, {given} given in {came_s:.1f} s, refused {refused}"
    yield Figure(CELL, "quiet", "ms", quiet.cells)
    yield Figure(CELL, "while a flood comes", "ms", burst.cells, note=note)
    yield Figure(CELL, "beside its loops", "ms", loops.cells, note=note)
    yield worse(CELL, quiet.cells, burst.cells, "<= 2", "while it comes")
    yield worse(CELL, quiet.cells, loops.cells, "<= 2", "beside its loops")
    yield Figure(START, "quiet", "ms", quiet.starts)
    yield Figure(START, "flood", "ms", burst.starts + loops.starts, note=note)
    yield worse(START, quiet.starts, burst.starts + loops.starts)


def worse(name: str, quiet: list[float], flood: list[float], target: str = "", when: str = "") -> Figure:
    """How many times the p95 grew."""
    found = [Figure(name, "", "ms", values) for values in (quiet, flood)]
    mode = f"{when}, n {len(quiet)} and {len(flood)}".removeprefix(", ")
    return Figure(f"{name}: p95 under flood / p95 quiet", mode, "x", [found[1].p95 / found[0].p95], target)


class Samples:
    """Milliseconds of one tenant's cells and starts."""

    def __init__(self) -> None:
        self.cells: list[float] = []
        self.starts: list[float] = []

    def take(self, runtime: Runtime, box: Sandbox, code: str, count: int) -> None:
        for number in range(count):
            self.cells.append(timed(lambda: box.run(code)))
            if number % CELLS_PER_START == 0:
                self.starts.append(timed(lambda: one_start(runtime)))


def one_start(runtime: Runtime) -> None:
    with runtime.sandbox(tenant="good") as box:
        assert box.run("1+1").value == 2


def wait_for_loops(runtime: Runtime) -> None:
    """Until the flood runs as much as it may, and its loops have been stepped back; polls, as this is no test."""
    give_up = time.monotonic() + 30
    while (use := runtime.tenants().get("flood")) is None or use.waiting == 0:
        if time.monotonic() > give_up:
            raise RuntimeError("the flood did not come up")
        time.sleep(0.01)
    time.sleep(SETTLE_S)


def millisecond_cell(box: Sandbox) -> str:
    """Code that takes a cell to about a millisecond on this machine."""
    loops = 100
    while True:
        code = f"sum(range({loops}))"
        box.run(code)
        took = min(timed(lambda: box.run(code)) for _ in range(30))  # noqa: B023  # called at once
        if took >= TARGET_MS:
            return code
        loops = int(loops * 1.3)
