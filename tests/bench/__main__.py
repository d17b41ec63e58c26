"""`python -m tests.bench`: every figure of docs/measurements.md, as JSON and as a table.

Nothing here asserts a time: machines are shared and noisy. Ratios against baselines of the same run carry the claims.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.soak.report import section_of

from . import agents, cpu, deno, jail_cost, kill, latency, live, memory, report, tenants
from .measure import Figure, machine

GROUPS = ("latency", "memory", "tenants", "kill", "deno", "jail", "agents", "live", "cpu")


def main() -> None:
    """Measure, print a table, and write the JSON beside it."""
    options = parse()
    figures: list[Figure] = []
    for figure in measure(options):
        figures.append(figure)
        print(line(figure), flush=True)  # the table is the program's output
    record = {"machine": machine(), "figures": [figure.as_json() for figure in figures]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.page is not None:
        options.page.write_text(report.page(record, "make bench") + soak_section(options.page), encoding="utf-8")
    say(f"written to {options.json}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="a group of figures (may be repeated)")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of latency figures")
    parser.add_argument("--cpu-rounds", type=int, default=7, help="rounds of CPU figures")
    parser.add_argument(
        "--no-first-built", action="store_true", help="CPU without the image that has no allocator and no optimisation"
    )
    parser.add_argument("--lives", type=int, default=1000, help="create, run, close cycles")
    parser.add_argument("--json", type=Path, default=Path("bench-results/bench.json"), help="where the record goes")
    parser.add_argument("--page", type=Path, help="also write the table as a page, such as docs/measurements.md")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    groups = options.only or GROUPS
    if "latency" in groups:
        yield from latency.figures(options.rounds, say)
    if "memory" in groups:
        yield from memory.figures(say, lives=options.lives)
    if "tenants" in groups:
        yield from tenants.figures(options.rounds, say)
    if "kill" in groups:
        yield from kill.figures(options.rounds, say)
    if "deno" in groups:
        yield from deno.figures(options.rounds, say)
    if "jail" in groups:
        yield from jail_cost.figures(options.rounds, say)
    if "agents" in groups:
        yield from agents.figures(options.rounds, say)
    if "live" in groups:
        yield from live.figures(say)
    if "cpu" in groups:
        yield from cpu.figures(options.cpu_rounds, say, first_built=not options.no_first_built)


def line(figure: Figure) -> str:
    ratio = f" = {figure.ratio:.3f} x baseline" if figure.ratio is not None else ""
    target = f"  target {figure.target}" if figure.target else ""
    name = f"{figure.name} [{figure.mode}]"
    return (
        f"{name:74} p50 {figure.p50:9.3f} {figure.unit}{ratio}  (p95 {figure.p95:.3f}, n {len(figure.values)}){target}"
    )


def soak_section(page: Path) -> str:
    """What `make soak` wrote into the page; it stays."""
    return section_of(page.read_text(encoding="utf-8")) if page.exists() else ""


def say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)  # progress


if __name__ == "__main__":
    main()
