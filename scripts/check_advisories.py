"""Compare the versions in use with the advisory list in the repository (`runtime/advisories.json`).

    python scripts/check_advisories.py [--strict] [--quiet]

Prints the date of the list, and warns when it is old. Exit code 0, or with --strict 1 for any warning. Works offline.
"""

from __future__ import annotations

import argparse
import sys

from cloche.runtime.advisories import read_list, report, versions_in_use


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="exit with 1 for any warning")
    parser.add_argument("--quiet", action="store_true", help="leave out what is only a note")
    options = parser.parse_args()
    lines = report(read_list(), versions_in_use())
    for line in lines:
        if not (options.quiet and line.startswith("note")):
            print(line)
    return 1 if options.strict and any(line.startswith("WARNING") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
