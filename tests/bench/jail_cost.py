"""What the jail costs: cold process sandboxes and warm cells with it and without any of its walls, in turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

from cloche import Runtime
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.limits import Limits
from cloche.runtime.links import WorkerLink
from cloche.runtime.pool import WorkerPool
from cloche.wasm_sandbox.image.compile import compiled_module
from cloche.wasm_sandbox.image.load import load_image
from cloche.wasm_sandbox.image.store import find_image
from cloche.wasm_sandbox.jail.report import PURPOSES

from .measure import Figure, Interleaved

Progress = Callable[[str], None]
KINDS = {"jailed": (), "no jail": tuple(PURPOSES)}
"""Walls that are left out."""
CELLS = 100
"""Warm cells of each kind per round, one of each kind in turn."""


class ColdSource:
    """Workers that are forked when they are asked for, behind all walls or behind none."""

    prepared = True
    warm = 0
    serves_callers = False

    def __init__(self, without: tuple[str, ...]) -> None:
        self._without = without
        self._pool = WorkerPool(self._server, warm=0)

    def prepare(self) -> None:
        """The first lease starts the server."""

    def lease(self, limits: Limits, timeout_s: float, tenant: object = None) -> WorkerLink:
        return self._pool.lease(limits, timeout_s)

    def close(self) -> None:
        self._pool.close()

    def _server(self) -> ForkServer:
        image = load_image(find_image())
        compiled = compiled_module(image, epochs=False)
        program = WorkerProgram((os.path.abspath(image.path), image.sha256, os.path.abspath(compiled)))
        return ForkServer(program, without=self._without)


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Linux only. Five cold sandboxes and a hundred warm cells of each kind per round."""
    runtimes = {kind: Runtime(sources={"process": ColdSource(walls)}) for kind, walls in KINDS.items()}
    try:
        for runtime in runtimes.values():
            for _ in range(3):
                cold_ms(runtime)
        cold = Interleaved({kind: partial(cold_ms, runtime) for kind, runtime in runtimes.items()}, burst=5)
        yield from compared("cold process sandbox to first result", cold.run(rounds, progress), "<= 3 more")
        boxes = {kind: runtime.sandbox() for kind, runtime in runtimes.items()}
        for box in boxes.values():
            box.run("1+1")
        progress("warm cells, jailed and not in turns")
        warm = Interleaved({kind: partial(cell_ms, box.run) for kind, box in boxes.items()})
        yield from compared("warm cell 1+1 (process)", warm.run(rounds * CELLS, _quiet), "not measurable")
    finally:
        for runtime in runtimes.values():
            runtime.close()


def compared(what: str, found: dict[str, list[float]], target: str) -> Iterator[Figure]:
    for kind, values in found.items():
        yield Figure(what, kind, "ms", values)
    added = statistics.median(found["jailed"]) - statistics.median(found["no jail"])
    least = min(found["jailed"]) - min(found["no jail"])
    yield Figure(f"{what}: what the jail adds", "difference of medians", "ms", [added], target)
    yield Figure(f"{what}: what the jail adds", "difference of the fastest", "ms", [least], target)


def cold_ms(runtime: Runtime) -> float:
    """Milliseconds from asking for a sandbox to its first answer."""
    started = time.perf_counter()
    box = runtime.sandbox()
    try:
        assert box.run("1+1").value == 2
        return (time.perf_counter() - started) * 1e3
    finally:
        box.close()


def cell_ms(run: Callable[[str], object]) -> float:
    """Milliseconds of one warm cell."""
    started = time.perf_counter()
    run("1+1")
    return (time.perf_counter() - started) * 1e3


def _quiet(_text: str) -> None:
    """Progress of thousands of rounds."""
