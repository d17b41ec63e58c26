"""Memory: per live sandbox, over a thousand lives, and two hundred at once. Linux only (smaps)."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.leftovers import open_descriptors

from cloche import Runtime, Sandbox

from .measure import Figure, children, smaps

Progress = Callable[[str], None]
LIVE = 20
USE_LIBRARIES = """
import json, asyncio, re
x = json.loads(json.dumps({"a": list(range(1000))}))
async def later():
    await asyncio.sleep(0)
    return re.sub("1", "2", str(x))[:3]
asyncio.run(later())
"""


def figures(progress: Progress, *, lives: int = 1000, at_once: int = 200) -> Iterator[Figure]:
    yield from per_thread_sandbox(progress)
    yield from per_worker(progress)
    for mode in ("thread", "process"):
        yield from many_lives(mode, lives, progress)
        yield from many_at_once(mode, at_once, progress)


def per_thread_sandbox(progress: Progress) -> Iterator[Figure]:
    """Private memory of the host process, divided by the sandboxes that live in it."""
    progress(f"{LIVE} live sandboxes, thread")
    with Runtime(warm_workers=0) as runtime:
        warm_up = [runtime.sandbox(isolation="thread") for _ in range(3)]
        for box in warm_up:
            box.run("1+1")
            box.run(USE_LIBRARIES)
            box.close()
        gc.collect()
        before = private_mb()
        boxes = [runtime.sandbox(isolation="thread") for _ in range(LIVE)]
        for box in boxes:
            box.run("1+1")
        after_first = private_mb()
        for box in boxes:
            box.run(USE_LIBRARIES)
        after_use = private_mb()
        for box in boxes:
            box.close()
    yield Figure("memory per live sandbox after 1+1", "thread", "MB private", [(after_first - before) / LIVE], "<= 0.6")
    yield Figure(
        "memory per live sandbox after json+asyncio+re", "thread", "MB private", [(after_use - before) / LIVE], "<= 2"
    )


def private_mb() -> float:
    return smaps(os.getpid())["Private_Dirty"]


def per_worker(progress: Progress) -> Iterator[Figure]:
    """Proportional set size of each worker process, the fork server left out."""
    progress(f"{LIVE} live sandboxes, process")
    with Runtime(warm_workers=0) as runtime:
        first = runtime.sandbox()
        servers = set(children(os.getpid()))
        first.close()
        boxes = [runtime.sandbox() for _ in range(LIVE)]
        for box in boxes:
            box.run("1+1")
        workers = [pid for pid in children(os.getpid()) if pid not in servers]
        yield Figure("memory per live sandbox after 1+1", "process", "MB PSS", pss(workers), "<= 7")
        for box in boxes:
            box.run(USE_LIBRARIES)
        yield Figure("memory per live sandbox after json+asyncio+re", "process", "MB PSS", pss(workers), "<= 9")
        for box in boxes:
            box.close()


def pss(pids: list[int]) -> list[float]:
    return [smaps(pid)["Pss"] for pid in pids]


def many_lives(mode: str, lives: int, progress: Progress) -> Iterator[Figure]:
    """Create, run, close, again and again: what the host keeps of it."""
    progress(f"{lives} lives, {mode}")
    with Runtime(warm_workers=0) as runtime:
        for _ in range(20):
            one_life(runtime, mode)
        gc.collect()
        rss, descriptors = smaps(os.getpid())["Rss"], open_descriptors()
        for _ in range(lives):
            one_life(runtime, mode)
        gc.collect()
        grown = smaps(os.getpid())["Rss"] - rss
        leaked = open_descriptors() - descriptors
        zombies = sum(is_zombie(pid) for pid in children(os.getpid()))
    yield Figure(f"host RSS growth over {lives} create, run, close", mode, "MB", [grown], "<= 5")
    yield Figure(f"descriptors and zombies left after {lives} lives", mode, "count", [float(leaked + zombies)], "0")


def one_life(runtime: Runtime, mode: str) -> None:
    with runtime.sandbox(isolation=mode) as box:
        assert box.run("1+1").value == 2


def many_at_once(mode: str, count: int, progress: Progress) -> Iterator[Figure]:
    progress(f"{count} sandboxes at once, {mode}")
    boxes: list[Sandbox] = []
    with Runtime(warm_workers=0, max_workers=count + 1) as runtime:
        boxes.extend(runtime.sandbox(isolation=mode) for _ in range(count))
        answers = sum(box.run(f"{number}+1").value == number + 1 for number, box in enumerate(boxes))
    yield Figure(f"of {count} live sandboxes at once, how many answer", mode, "count", [float(answers)], str(count))


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return False
