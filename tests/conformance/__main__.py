"""`python -m tests.conformance [module ...]`: a line per module, what happened as JSON, and the page for the docs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from cloche import Runtime

from . import report
from .host import Outcome, find_tests, image_name, python_version, run_module
from .modules import MODULES


def main() -> int:
    """0 when all is as known.py says, 1 when not, 2 when there is nothing to run."""
    options = _options()
    found = find_tests()
    if found is None:
        _say("no CPython 3.13 with its `test` package is here")
        return 2
    executable, tests = found
    chosen = [module for module in MODULES if not options.names or {module.name, module.label} & set(options.names)]
    outcomes: list[Outcome] = []
    surprises: list[str] = []
    with Runtime() as runtime:
        for module in chosen:
            outcome = run_module(runtime, tests, module, options.isolation)
            outcomes.append(outcome)
            surprises += report.unknown(outcome)
            _say("\n    ".join([report.line(outcome), *report.unknown(outcome)]))
        guest = runtime_python(runtime)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    rows = [dataclasses.asdict(outcome) for outcome in outcomes]
    options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.page:
        text = report.page(outcomes, options.isolation, python_version(executable), guest, image_name())
        options.page.write_text(text, encoding="utf-8")
    _say(f"{len(surprises)} surprises; written to {options.json}")
    return 1 if surprises else 0


def runtime_python(runtime: Runtime) -> str:
    """Version of the guest's CPython."""
    with runtime.sandbox() as box:
        return str(box.run("import platform\nplatform.python_version()").value)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("names", nargs="*", help="modules such as test_json; all without any")
    parser.add_argument("--isolation", choices=["process", "thread", "deno"], default="process")
    parser.add_argument("--json", type=Path, default=Path("bench-results/conformance.json"))
    parser.add_argument("--page", type=Path, help="write the page for the docs here")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
