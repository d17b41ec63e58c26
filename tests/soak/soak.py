"""Runs the soak: eight tenants at once, a killer, and an eye on memory, processes and descriptors. `soak` is one run.

The rule: what is left after the runtime was closed is measured against what was there before it was opened.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.leftovers import open_descriptors
from tests.support.pids import worker_of

from cloche import Runtime

from .book import Book
from .memory import Allocator, python_blocks, rss_mb
from .tenants import HOSTILE_SHARE, TENANTS_KNOWN, Live, Tenant, double

TENANTS = 8
THREADS = 2
"""Of each tenant."""
KILL_EVERY_S = 0.4
"""A worker dies by our hand about this often."""
SAMPLE_EVERY_S = 0.5
END_S = 120.0
"""For the last cells of all threads."""
CLOSE_S = 10.0
"""For the runtime's threads to be gone, and what they held."""
WARM_UP_SHARE = 0.1
"""Of the run: what is loaded on first use is not growth."""
GROWTH_MB = 8.0
"""Allowed between the first and the last quarter of the samples after that."""
HALF_GROWTH_MB = 4.0
"""Allowed between the third and the last quarter: by then the worst moment has been there many times."""
SHORT_S = 120.0
"""A run shorter than this has not touched everything in its first quarter, and may grow by four times as much."""


@dataclass
class Samples:
    """Of the host process, over time."""

    rss_mb: list[float] = field(default_factory=list[float])
    server_rss_mb: list[float] = field(default_factory=list[float])
    descriptors: list[int] = field(default_factory=list[int])
    blocks: list[float] = field(default_factory=list[float])
    """Memory blocks that Python has in use."""
    in_use_mb: list[float] = field(default_factory=list[float])
    """Of the C allocator."""
    rested_mb: tuple[float, float] = (0.0, 0.0)
    """RSS at rest, collected and trimmed: before the load and after it."""
    zombies: int = 0
    """The most seen at once among our descendants; a dying worker is one for a moment."""


def soak(seconds: float, seed: int) -> dict[str, object]:
    """One run; the record of it. `record["findings"]` is empty when all held."""
    _first_use()
    allocator = Allocator()
    rested_before_mb = allocator.rested_mb(os.getpid())
    before = open_descriptors(), threading.active_count(), set(_descendants(os.getpid()))
    book, samples, live, stop = Book(seed), Samples(), set[Live](), threading.Event()
    started = time.monotonic()
    with Runtime() as runtime:
        tenants = [Tenant(runtime, f"t{number}", book, live) for number in range(TENANTS)]
        threads = _threads(tenants, seed, stop)
        threads.append(threading.Thread(target=_kill, args=(live, random.Random(seed), stop, book), daemon=True))  # noqa: S311
        for thread in threads:
            thread.start()
        _watch(samples, started + seconds, allocator)
        stop.set()
        for thread in threads:
            thread.join(END_S)
        if any(thread.is_alive() for thread in threads):
            book.find(f"{sum(thread.is_alive() for thread in threads)} threads did not come to an end")
        open_left = runtime.sandboxes
    ran = time.monotonic() - started
    gc.collect()
    left = _left(before, open_left)
    samples.rested_mb = rested_before_mb, allocator.rested_mb(os.getpid())
    return _record(book, samples, left, ran, seed)


def _left(before: tuple[int, int, set[int]], sandboxes: int) -> dict[str, int]:
    """What is still there after the runtime was closed. Its threads are told to end and not waited for, and with them
    go descriptors and processes: a moment.

    Processes of others in this process, such as a runtime of another test, were there before.
    """

    def beyond() -> dict[str, int]:
        return {
            "descriptors": open_descriptors() - before[0],
            "threads": max(0, threading.active_count() - before[1]),
            "child processes": len(set(_descendants(os.getpid())) - before[2]),
        }

    _settle(lambda: max(beyond().values()) <= 0)
    return {"sandboxes open": sandboxes, **beyond()}


def _settle(done: Callable[[], bool]) -> None:
    """Until it is so, for a bounded time."""
    give_up_at = time.monotonic() + CLOSE_S
    while not done() and time.monotonic() < give_up_at:
        threading.Event().wait(0.05)


def _first_use() -> None:
    """What a process loads once is loaded before anything is counted, and its threads are gone again."""
    threads = threading.active_count()
    with Runtime() as runtime, runtime.sandbox(tools=[double], tenant="first") as box:
        box.run("double(21)")
    _settle(lambda: threading.active_count() <= threads)


def _threads(tenants: list[Tenant], seed: int, stop: threading.Event) -> list[threading.Thread]:
    secrets = [tenant.secret for tenant in tenants]
    made: list[threading.Thread] = []
    for number, tenant in enumerate(tenants):
        others = [secret for secret in secrets if secret != tenant.secret]
        for index in range(THREADS):
            rng = random.Random(f"{seed}-{number}-{index}")  # noqa: S311  # a seed gives the same load again
            made.append(threading.Thread(target=tenant.work, args=(rng, stop, others), daemon=True))
    return made


# --- the killer -------------------------------------------------------------------------------------------------------


def _kill(live: set[Live], rng: random.Random, stop: threading.Event, book: Book) -> None:
    """SIGKILL to the worker of a sandbox in use, picked at random, whatever it is doing."""
    while not stop.wait(rng.uniform(0, 2 * KILL_EVERY_S)):
        candidates = list(live.copy())
        if not candidates:
            continue
        victim = rng.choice(candidates)
        with victim.gate:
            pid = _worker_pid(victim)
            if not victim.open or victim.killed or pid is None:
                continue
            victim.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        book.count("workers killed" if victim.good else "hostile workers killed")


def _worker_pid(victim: Live) -> int | None:
    """Of a worker that lives."""
    link = worker_of(victim.box)
    if link is None or link.exit_status is not None:
        return None
    return link.pid if link.pid in _descendants(os.getpid()) else None


# --- the eye ----------------------------------------------------------------------------------------------------------


def _watch(samples: Samples, until: float, allocator: Allocator) -> None:
    while (left := until - time.monotonic()) > 0:
        threading.Event().wait(min(SAMPLE_EVERY_S, left))
        samples.rss_mb.append(rss_mb(os.getpid()))
        samples.descriptors.append(open_descriptors())
        samples.blocks.append(python_blocks())
        samples.in_use_mb.append(allocator.in_use_mb())
        descendants = _descendants(os.getpid())
        samples.zombies = max(samples.zombies, sum(map(_is_zombie, descendants)))
        samples.server_rss_mb.append(sum(rss_mb(pid) for pid in _children(os.getpid())))


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _descendants(pid: int) -> list[int]:
    found = _children(pid)
    for child in list(found):
        found += _descendants(child)
    return found


# --- the record -------------------------------------------------------------------------------------------------------


def _record(book: Book, samples: Samples, left: dict[str, int], ran: float, seed: int) -> dict[str, object]:
    counts = book.counts
    growth = _growth(samples.rss_mb)
    begun, killed = counts["good cells begun"], counts["good cells killed"]
    answered = counts["good cells answered"]
    lost = begun - answered - killed
    share = answered / (begun - killed) if begun > killed else 0.0
    findings = list(book.findings)
    findings += [f"{number} {what} left" for what, number in left.items() if number > 0]
    allowed = GROWTH_MB if ran >= SHORT_S else 4 * GROWTH_MB
    if growth > allowed:
        findings.append(f"the host grew by {growth:.1f} MB, {allowed:g} are allowed")
    late_growth = _growth(samples.rss_mb, first=0.5)
    if ran >= SHORT_S and late_growth > HALF_GROWTH_MB:
        findings.append(f"the host grew by {late_growth:.1f} MB in the second half, {HALF_GROWTH_MB:g} are allowed")
    if share < 0.9999:
        findings.append(f"only {share:.6f} of the good cells that were not killed were answered correctly")
    if counts["hostile cells begun"] != counts["hostile cells ended"]:
        findings.append("a hostile cell has no end")
    p50, p95, p99 = book.latency_ms(0.5, 0.95, 0.99)
    return {
        "seconds": round(ran, 1),
        "seed": seed,
        "tenants": TENANTS,
        "threads": TENANTS * THREADS,
        "tenant argument": TENANTS_KNOWN,
        "hostile share of sandboxes, asked for": round(HOSTILE_SHARE, 3),
        "counts": dict(sorted(counts.items())),
        "good cells without an end": lost,
        "share of unkilled good cells answered correctly": share,
        "good cell ms": {"p50": round(p50, 2), "p95": round(p95, 2), "p99": round(p99, 2)},
        "host RSS growth MB": round(growth, 2),
        "host RSS growth in the second half MB": round(late_growth, 2),
        "host RSS at rest MB": [round(value, 1) for value in samples.rested_mb],
        "allocator in use growth MB": round(_growth(samples.in_use_mb), 2),
        "host RSS MB at the end": round(samples.rss_mb[-1], 1) if samples.rss_mb else 0,
        "fork servers RSS growth MB": round(_growth(samples.server_rss_mb), 2),
        "host RSS MB over time": [round(value, 1) for value in samples.rss_mb[:: max(1, len(samples.rss_mb) // 60)]],
        "Python memory blocks growth": round(_growth(samples.blocks)),
        "Python memory blocks at the end": round(samples.blocks[-1]) if samples.blocks else 0,
        "descriptors at most": max(samples.descriptors, default=0),
        "zombies at most": samples.zombies,
        "left after close": left,
        "attacks": {f"{name} -> {end}": number for (name, end), number in sorted(book.ends.items())},
        "findings": findings,
    }


def _growth(values: list[float], first: float = 0.0) -> float:
    """Median of the last quarter less that of the first, or of the one that begins at this share of the run; the
    warm-up left out."""
    steady = values[int(len(values) * WARM_UP_SHARE) :]
    quarter, begin = len(steady) // 4, int(len(steady) * first)
    if quarter < 2:
        return 0.0
    return statistics.median(steady[-quarter:]) - statistics.median(steady[begin : begin + quarter])
