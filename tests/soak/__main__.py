"""`python -m tests.soak [--seconds 600]`: run the soak, print a table, write it as JSON and as a section of a page.

Exit code 1 when anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.measure import machine

from .report import put_section, table
from .soak import soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the load lasts")
    parser.add_argument("--seed", type=int, default=1, help="of the load; the order of threads is the machine's")
    parser.add_argument("--json", type=Path, default=Path("bench-results/soak.json"), help="where the record goes")
    parser.add_argument("--page", type=Path, help="also write the section into this page, docs/measurements.md")
    options = parser.parse_args()
    before = machine()
    record = {"machine": before, **soak(options.seconds, options.seed)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(record))
    if options.page is not None:
        put_section(options.page, record)
    sys.exit(1 if record["findings"] else 0)


if __name__ == "__main__":
    main()
