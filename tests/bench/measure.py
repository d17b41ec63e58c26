"""How figures are taken: interleaved rounds, medians, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Figure:
    """One measured quantity. `values` are raw samples in `unit`."""

    name: str
    mode: str
    """thread, process, or what the figure is about; says whether epoch checks are compiled in."""
    unit: str
    values: list[float]
    target: str = ""
    note: str = ""
    ratio: float | None = None
    """p50 divided by the baseline's p50 of the same run, where the target is a ratio."""

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        return sorted(self.values)[min(len(self.values) - 1, int(0.95 * len(self.values)))]

    def as_json(self) -> dict[str, object]:
        record = asdict(self)
        del record["values"]
        return {**record, "p50": self.p50, "p95": self.p95, "min": min(self.values), "n": len(self.values)}


@dataclass
class Interleaved:
    """Measures several things in turn, so that a noisy minute hits all of them."""

    actions: dict[str, Callable[[], float]] = field(default_factory=dict[str, Callable[[], float]])
    burst: int = 1
    """Samples of one thing before the turn of the next."""

    def run(self, rounds: int, progress: Callable[[str], None]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in self.actions}
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for name, action in self.actions.items():
                found[name] += [action() for _ in range(self.burst)]
        return found


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1e3


def python_start_ms() -> float:
    """The baseline: a bare interpreter of the same kind, `python -I -c "print(2)"`."""
    return timed(lambda: subprocess.run([sys.executable, "-I", "-c", "print(2)"], check=True, capture_output=True))


def smaps(pid: int) -> dict[str, float]:
    """Rss, Pss and Private_Dirty of a process, in MB. Linux only."""
    wanted = {"Rss", "Pss", "Private_Dirty", "Private_Clean"}
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in wanted:
            found[name] = int(rest.split()[0]) / 1024
    return found


def children(pid: int) -> list[int]:
    """All descendants of a process. Linux only."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += [int(child), *children(int(child))]
    return found


def native_python() -> str | None:
    """A CPython 3.13, the one that CPU figures are held against; None where there is none."""
    candidates = [shutil.which("python3.13"), *map(str, Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13"))]
    return next((path for path in candidates if path and os.access(path, os.X_OK) and _is_3_13(path)), None)


def _is_3_13(path: str) -> bool:
    """A version manager's stand-in may be on PATH and run nothing."""
    asked = subprocess.run(
        [path, "-I", "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=False
    )
    return asked.stdout.split() == [b"3", b"13"]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def geometric_mean(values: Sequence[float]) -> float:
    return statistics.geometric_mean(values)
