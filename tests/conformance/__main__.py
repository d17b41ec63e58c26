"""`python -m tests.conformance [module ...]`: run, print a line per module, write what happened as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from cloche import Runtime

from .host import find_tests, run_module
from .modules import MODULES


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("names", nargs="*", help="modules such as test_json; all without any")
    parser.add_argument("--isolation", choices=["process", "thread"], default="process")
    parser.add_argument("--json", type=Path, default=Path("bench-results/conformance.json"))
    options = parser.parse_args()
    tests = find_tests()
    if tests is None:
        print("no CPython 3.13 with its `test` package here", file=sys.stderr)
        return 2
    chosen = [module for module in MODULES if not options.names or module.name in options.names]
    outcomes = []
    with Runtime() as runtime:
        for module in chosen:
            outcome = run_module(runtime, tests, module, options.isolation)
            outcomes.append(outcome)
            print(f"{outcome.module:<22} run {outcome.run:5} passed {outcome.passed:5} skipped {sum(outcome.skipped.values()):4} failed {outcome.failed:3} lost {len(outcome.lost)} {outcome.seconds:6.1f} s", flush=True)
            for row in (*outcome.bad, *outcome.lost, *outcome.refused):
                print("    ", *row, flush=True)
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
