"""The engine "deno": starts beside Pyodide's own loader in the same run, a sandbox in use, memory, ends. Linux only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.support.places import where

from cloche import Limits, Runtime, Sandbox
from cloche.deno_host.find import find_deno
from cloche.deno_host.npm import PYODIDE_VERSION
from cloche.wasm_sandbox.image.store import cache_dir

from .kill import LIMITS as KILL_LIMITS
from .kill import PYTHON_LOOP, RUNAWAYS, both, lateness_ms, one_life_ms
from .latency import one_start, warm
from .measure import Figure, Interleaved, children, smaps, timed

Progress = Callable[[str], None]
MODE = "deno"
LIVE = 5
BOMB_MB = 128
BOMB = (
    "blocks = []\ntry:\n    while True: blocks.append(bytearray(1 << 20))\nexcept MemoryError: blocks.clear()\n'held'"
)
STOCK = Path(__file__).with_name("stock_pyodide.js")
FLAGS = ("run", "--quiet", "--no-config", "--no-lock", "--no-prompt", "--no-remote", "--no-npm", "--cached-only")


def figures(rounds: int, progress: Progress) -> Iterator[Figure]:
    yield from starts(max(5, rounds // 3), progress)
    yield from warm(MODE, rounds, progress)
    yield from memory(progress)
    yield from ends(max(5, rounds // 2), progress)


def starts(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Cold processes beside stock ones, each in turn; then from the warm pool."""
    stock = stock_pyodide()
    with Runtime(warm_workers=0) as runtime:
        one_start(runtime, MODE)
        actions: dict[str, Callable[[], float]] = {"cold": partial(one_start, runtime, MODE)}
        if stock is not None:
            actions["stock"] = partial(stock_start_ms, stock)
        progress("cold starts, deno and stock Pyodide")
        found = Interleaved(actions).run(rounds, progress)
    cold = Figure("new sandbox to first result", f"{MODE}, cold", "ms", found["cold"], "<= 0.15 x")
    if stock is not None:
        base = Figure("loadPyodide to first result", "stock Pyodide under Deno", "ms", found["stock"])
        yield base
        cold.ratio = cold.p50 / base.p50
    yield cold
    progress("warm pool, deno")
    with Runtime(engine=MODE, warm_workers=2) as runtime:
        one_start(runtime, MODE)
        pool = [one_start(runtime, MODE, settle=True) for _ in range(rounds)]
    yield Figure("new sandbox to first result", f"{MODE}, warm pool", "ms", pool, "<= 1.5")


def stock_pyodide() -> Path | None:
    """The npm package that images are built from; None where no image was ever built."""
    return next(iter(sorted((cache_dir() / "npm").glob(f"npm/*/pyodide/{PYODIDE_VERSION}"))), None)


def stock_start_ms(folder: Path) -> float:
    command = [find_deno().program, *FLAGS, f"--allow-read={folder}", str(STOCK), str(folder)]
    environment = {"DENO_DIR": str(cache_dir() / "deno-bench"), "DENO_NO_UPDATE_CHECK": "1"}
    return timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))


def memory(progress: Progress) -> Iterator[Figure]:
    """Each worker's share of memory, and what a memory bomb gets."""
    progress(f"{LIVE} live sandboxes, deno")
    with Runtime(engine=MODE, warm_workers=0) as runtime:
        runtime.sandbox().close()
        launchers = set(children(os.getpid()))
        boxes = [runtime.sandbox() for _ in range(LIVE)]
        for box in boxes:
            box.run("1+1")
        workers = [pid for pid in children(os.getpid()) if pid not in launchers]
        sizes = [smaps(pid)["Pss"] for pid in workers]
        for box in boxes:
            box.close()
        yield Figure("memory per live sandbox after 1+1", MODE, "MB PSS", sizes, "<= 120")
        yield Figure(f"resident peak of a memory bomb, memory_mb={BOMB_MB}", MODE, "MB", [bomb_mb(runtime)])


def bomb_mb(runtime: Runtime) -> float:
    before = set(children(os.getpid()))
    with runtime.sandbox(limits=Limits(memory_mb=BOMB_MB)) as box:
        box.run("1")
        assert box.run(BOMB).value == "held"
        (worker,) = (pid for pid in children(os.getpid()) if pid not in before)
        status = Path(f"/proc/{worker}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def ends(rounds: int, progress: Progress) -> Iterator[Figure]:
    progress("runaways, deno")
    with Sandbox(**where(MODE), limits=KILL_LIMITS) as box:
        box.run("1")
        late = [lateness_ms(box, PYTHON_LOOP) for _ in range(rounds)]
    yield from both("Python loop", MODE, late, "<= 50")
    late = [one_life_ms(MODE, RUNAWAYS["C loop"]) for _ in range(rounds)]
    yield from both("C loop", MODE, late, "<= 1000")
