"""How long a runaway outlives its deadline: until the call has raised and, where it was killed, its process is dead."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial

from tests.support.pids import pid_of_box
from tests.support.places import where

from cloche import Limits, Sandbox, TimedOut

from .measure import Figure

Progress = Callable[[str], None]
MODES = ("thread", "process")
DEADLINE_S = 0.1
DEAD_S = 10.0
"""A process that is still there after this will not die."""
PYTHON_LOOP = "while True: pass"
RUNAWAYS = {
    "C loop": "sum(iter(int, 1))",
    "regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "swallowed interrupts": "while True:\n try:\n  while True: pass\n except BaseException: pass",
    "repr": "class X:\n def __repr__(self):\n  while True: pass\nX()",
    "large power": "10 ** 10 ** 8",
}
"""What does not heed the interrupt, or not for long."""
LIMITS = Limits(wall_s=30, cpu_s=60, memory_mb=256)


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    """`rounds` kills of each kind, four times as many of the Python loop, in both isolations."""
    for mode in MODES:
        progress(f"runaways, {mode}")
        with Sandbox(**where(mode), limits=LIMITS) as box:
            box.run("1")
            late = [lateness_ms(box, PYTHON_LOOP) for _ in range(rounds * 4)]
        yield from both("Python loop", mode, late, "<= 50")
        late = list[float]()
        for code in RUNAWAYS.values():
            late += [one_life_ms(mode, code) for _ in range(rounds)]
        yield from both(f"anything: {', '.join(RUNAWAYS)}", mode, late, "<= 1000")


def both(what: str, mode: str, late: list[float], target: str) -> Iterator[Figure]:
    name = f"deadline to a dead runaway, {what}"
    yield Figure(name, mode, "ms", late)
    yield Figure(f"the same, p99 of {len(late)}", mode, "ms", [quantile(late, 0.99)], target)
    yield Figure(f"the same, worst of {len(late)}", mode, "ms", [max(late)])


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def one_life_ms(mode: str, code: str) -> float:
    with Sandbox(**where(mode), limits=LIMITS) as box:
        box.run("1")
        return lateness_ms(box, code)


def lateness_ms(box: Sandbox, code: str) -> float:
    """Milliseconds from the deadline until the call has raised and the worker, if it lost its state, is dead."""
    with worker_of(box) as dead:
        started = time.perf_counter()
        try:
            box.run(code, deadline_s=DEADLINE_S)
        except TimedOut as exc:
            if not exc.state_kept:
                dead()
            return (time.perf_counter() - started - DEADLINE_S) * 1e3
    raise RuntimeError(f"{code!r} came to an end")


@contextlib.contextmanager
def worker_of(box: Sandbox) -> Generator[Callable[[], None]]:
    """A function that waits for the death of the worker process; there is nothing to wait for in thread isolation."""
    pid = pid_of_box(box)
    if pid is None:
        yield lambda: None
        return
    descriptor = os.pidfd_open(pid)
    try:
        yield partial(wait_dead, descriptor)
    finally:
        os.close(descriptor)


def wait_dead(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(DEAD_S * 1e3):
        raise RuntimeError("the worker did not die")
