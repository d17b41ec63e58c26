"""Latency: new sandboxes, warm cells, tool calls, bulk data, whole processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial

from tests.support.places import where

from cloche import Limits, Runtime, Sandbox

from .measure import Figure, Interleaved, python_start_ms, timed

Progress = Callable[[str], None]
MODES = ("thread", "process")
MEGABYTE = b"x" * 1_000_000
GUEST_LOOP = """
from time import perf_counter
def mean_us(call, argument, n):
    started = perf_counter()
    for _ in range(n):
        call(argument)
    return (perf_counter() - started) / n * 1e6
"""
BARE_CALL = """
import _host
def bare(_):
    try:
        _host.call(b"")
    except OSError:
        pass
"""


def get_price(item: str) -> float:
    """Price of an item in euros."""
    return 1.25


def echo(data: bytes) -> bytes:
    """The same bytes."""
    return data


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    yield from starts(rounds, progress)
    for mode in MODES:
        yield from warm(mode, rounds, progress)
    yield from whole_processes(max(5, rounds // 5), progress)


REHEARSAL_S = {"thread": 0.05, "process": 0.05, "deno": 1.0}
"""A warm worker rehearses when nobody has asked for it; on "deno" V8 then optimises on a second thread for a while."""
START_TARGETS = {
    "thread, cold": "<= 0.10 x",
    "thread, spare ready": "<= 0.10 x",
    "process, cold": "<= 0.8 x",
    "process, warm pool": "<= 0.12 x",
}
"""A runtime keeps a spare of either isolation from its second sandbox on; cold ones are measured without."""


def starts(rounds: int, progress: Progress) -> Iterator[Figure]:
    """New sandbox to the first result of `1+1`, each kind in turn with a bare interpreter.

    One kind after the other: a pool that refills itself would take the second core from the next.
    """
    for name, target in START_TARGETS.items():
        progress(f"new sandbox to first result, {name}")
        mode, settle = name.partition(",")[0], "cold" not in name
        with Runtime(warm_workers=2 if settle else 0) as runtime:
            for _ in range(3):
                first_use(runtime, mode)
            start = partial(one_start, runtime, mode, settle=settle)
            found = Interleaved({"python": python_start_ms, "start": start}, burst=5).run(rounds, progress)
        base = Figure("python -I -c 'print(2)'", f"beside {name}", "ms", found["python"])
        yield base
        figure = Figure("new sandbox to first result", name, "ms", found["start"], target)
        figure.ratio = figure.p50 / base.p50
        yield figure
    plain = [timed(lambda: exec(compile("1+1", "x", "eval"), {})) for _ in range(rounds * 5)]
    yield Figure("in-process exec of 1+1", "baseline", "ms", plain)


def first_use(runtime: Runtime, mode: str) -> None:
    with runtime.sandbox(**where(mode)) as box:
        box.run("1+1")


def one_start(runtime: Runtime, mode: str, *, settle: bool = False) -> float:
    if settle:
        wait_for_warm(runtime)
        time.sleep(REHEARSAL_S[mode])
    started = time.perf_counter()
    box = runtime.sandbox(**where(mode))
    try:
        cell = box.run("1+1")
        took = (time.perf_counter() - started) * 1e3
    finally:
        box.close()
    assert cell.value == 2
    return took


def wait_for_warm(runtime: Runtime, timeout_s: float = 10.0) -> None:
    """Until the pool has a warm worker again; polls, because this is a measurement and not a test."""
    give_up = time.monotonic() + timeout_s
    while runtime.warm_workers < 1:
        if time.monotonic() > give_up:
            raise RuntimeError("the pool did not warm up")
        time.sleep(0.002)


@contextmanager
def box_of(mode: str) -> Generator[Sandbox, None, None]:
    limits = Limits(tool_calls=10_000_000, tool_bytes_in=4 << 30, tool_bytes_out=4 << 30)
    with Sandbox(tools=[get_price, echo], **where(mode), limits=limits) as box:
        yield box


WARM_TARGETS = {
    "thread": ("<= 0.3", "<= 60", "<= 5"),
    "process": ("<= 0.5", "<= 120", "<= 8"),
    "deno": ("<= 0.6", "<= 200", ""),
}
"""Cell, tool call, a megabyte."""


def warm(mode: str, rounds: int, progress: Progress) -> Iterator[Figure]:
    """A sandbox in use: cells, tool calls, a megabyte there and back."""
    progress(f"warm sandbox, {mode}")
    cell_target, call_target, bulk_target = WARM_TARGETS[mode]
    with box_of(mode) as box:
        box.run(GUEST_LOOP)
        box.run(BARE_CALL)
        box.run("1+1")
        cells = [timed(lambda: box.run("1+1")) for _ in range(rounds * 20)]
        yield Figure("warm cell 1+1", mode, "ms", cells, cell_target)
        calls = [in_guest(box, "mean_us(get_price, 'tea', 200)") for _ in range(rounds)]
        yield Figure("tool call, one validated argument", mode, "us", calls, call_target)
        bare = [in_guest(box, "mean_us(bare, None, 500)") for _ in range(rounds)]
        yield Figure("bare host call (a refused message)", mode, "us", bare)
        box.run("data = bytes(1_000_000)")
        bulk = [in_guest(box, "mean_us(echo, data, 3)") / 1e3 for _ in range(rounds)]
        yield Figure("1 MB bytes to a tool and back", mode, "ms", bulk, bulk_target)


def in_guest(box: Sandbox, code: str) -> float:
    value = box.run(code).value
    assert isinstance(value, float)
    return value


def whole_processes(rounds: int, progress: Progress) -> Iterator[Figure]:
    """From the start of a Python process to the first result, the image cached."""
    progress("whole processes")
    targets = {"thread": "<= 300", "process": "<= 350"}
    code = "from cloche import Sandbox\nwith Sandbox(isolation='{}') as box: assert box.run('1+1').value == 2"
    actions: dict[str, Callable[[], float]] = {mode: partial(run_python, code.format(mode)) for mode in targets}
    actions["import"] = lambda: run_python("import cloche") - run_python("pass")
    found = Interleaved(actions).run(rounds, progress)
    for mode, target in targets.items():
        yield Figure("process start to first result", mode, "ms", found[mode], target)
    yield Figure("import cloche", "-", "ms", found["import"], "<= 150")


def run_python(code: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True))
