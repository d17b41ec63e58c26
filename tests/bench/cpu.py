"""CPU time of guest code against native CPython 3.13, best of interleaved runs.

Variants: the image as first built (epoch checks on, no allocator, not optimised; it is built for the occasion), and the
final image in both modes. The same source runs everywhere and its results are compared.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from cloche import Limits, Runtime, Sandbox
from cloche.wasm_sandbox.image.build import build_untuned

from .measure import Figure, geometric_mean, native_python
from .workloads import FIRST_FOUR, WORKLOADS

Progress = Callable[[str], None]
TIMED = """
from time import perf_counter
{source}
def timed():
    started = perf_counter()
    value = work()
    return perf_counter() - started, value
"""
NATIVE = """
import json, sys
functions = {}
for line in sys.stdin:
    name, source = json.loads(line)
    if source:
        functions[name] = scope = {}
        exec(source, scope)
    took, value = functions[name]["timed"]()
    print(json.dumps([took, repr(value)]), flush=True)
"""


class Native:
    """Workloads in a native interpreter, one process for the whole run."""

    def __init__(self, executable: str) -> None:
        self._process = subprocess.Popen(  # a Python found on this machine
            [executable, "-I", "-c", NATIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._known: set[str] = set()

    def run(self, name: str) -> tuple[float, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source = "" if name in self._known else TIMED.format(source=WORKLOADS[name])
        self._known.add(name)
        self._process.stdin.write(json.dumps([name, source]) + "\n")
        self._process.stdin.flush()
        took, value = json.loads(self._process.stdout.readline())
        return took, value

    def close(self) -> None:
        self._process.communicate()


def run_in(boxes: dict[str, Sandbox], name: str) -> tuple[float, str]:
    """The workload in its own sandbox, made ready the first time."""
    box = boxes[name]
    value = box.run("timed()").value
    took, result = cast("tuple[float, object]", value)
    return took, repr(result)


FIRST_BUILT = "first built (epochs on)"
FINAL = {"thread (epochs on)": ("thread", 2.5, 0.96), "process (epochs off)": ("process", 2.1, 0.81)}
"""Isolation, the target, and the target as a part of first built."""


def figures(rounds: int, progress: Progress, *, first_built: bool = True) -> Iterator[Figure]:
    """Ratios to native per workload and their geometric means; nothing where no CPython 3.13 is found."""
    executable = native_python()
    if executable is None:
        progress("no native CPython 3.13 here: CPU figures not measured")
        return
    variants: dict[str, tuple[Path | None, str]] = {name: (None, mode) for name, (mode, _, _) in FINAL.items()}
    with ExitStack() as stack:
        if first_built:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "first-built.wasm"
            build_untuned(path, progress)
            variants[FIRST_BUILT] = (path, "thread")
        native = Native(executable)
        stack.callback(native.close)
        boxes = {
            variant: {name: opened(stack, image, mode, name) for name in WORKLOADS}
            for variant, (image, mode) in variants.items()
        }
        best = interleave(native, boxes, rounds, progress)
    found = {
        variant: geometric_mean([best[variant, name] / best["native", name] for name in FIRST_FOUR])
        for variant in variants
    }
    for variant in variants:
        yield from ratios(variant, best)
    for variant, (_, _, part) in FINAL.items():
        if first_built:
            ratio = found[variant] / found[FIRST_BUILT]
            yield Figure("CPU geometric mean, x first built", variant, "x", [ratio], f"<= {part}, or the mean above")


def opened(stack: ExitStack, image: Path | None, mode: str, name: str) -> Sandbox:
    runtime = stack.enter_context(Runtime(image=image, warm_workers=0))
    box = stack.enter_context(runtime.sandbox(isolation=mode, limits=Limits(wall_s=120, cpu_s=120)))
    cell = box.run(TIMED.format(source=WORKLOADS[name]))
    assert cell.error is None, cell.error
    return box


def interleave(
    native: Native, boxes: dict[str, dict[str, Sandbox]], rounds: int, progress: Progress
) -> dict[tuple[str, str], float]:
    best: dict[tuple[str, str], float] = {}
    for number in range(rounds):
        progress(f"CPU round {number + 1} of {rounds}")
        for name in WORKLOADS:
            results = {"native": native.run(name)}
            results |= {variant: run_in(mine, name) for variant, mine in boxes.items()}
            if len({value for _, value in results.values()}) != 1:
                raise RuntimeError(f"{name}: results differ: {results}")
            for variant, (took, _) in results.items():
                best[variant, name] = min(took, best.get((variant, name), took))
    return best


def ratios(variant: str, best: dict[tuple[str, str], float]) -> Iterator[Figure]:
    found = {name: best[variant, name] / best["native", name] for name in WORKLOADS}
    for name, ratio in found.items():
        yield Figure(f"CPU {name}, x native 3.13", variant, "x", [ratio])
    target = f"<= {FINAL[variant][1]}" if variant in FINAL else ""
    mean = geometric_mean([found[name] for name in FIRST_FOUR])
    yield Figure("CPU geometric mean of sum, nbody, json, regex", variant, "x", [mean], target)
