"""Run probes by hand: `python -m tests.security [id ...] [process|thread]`. Prints what was seen and the verdict."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .corpus import probes
from .harness import open_range
from .seen import Seen
from .verdict import judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("what", nargs="*", help="ids of probes (default: all), and an isolation (default: both)")
    parser.add_argument("--brief", action="store_true", help="one line per run")
    parser.add_argument("--final-answer", action="store_true", help="grant the tool of that name to probes that use it")
    options = parser.parse_args()
    isolations = [word for word in options.what if word in ("process", "thread")] or ["process", "thread"]
    names = [word for word in options.what if word not in isolations] or list(probes())
    failures = 0
    with tempfile.TemporaryDirectory() as folder, open_range(Path(folder)) as place:
        for name in names:
            probe = probes()[name]
            for isolation in isolations:
                if probe.pair:
                    place.shoot(probes()[probe.pair], isolation)
                seen = place.shoot(probe, isolation, final_answer=options.final_answer and probe.answers)
                findings = judge(seen)
                failures += bool(findings)
                _show(isolation, seen, findings, brief=options.brief)
    _say(f"{failures} of {len(names) * len(isolations)} runs with findings")
    return 1 if failures else 0


def _show(isolation: str, seen: Seen, findings: list[str], *, brief: bool) -> None:
    error = f" {seen.error_type}" if seen.error_type else ""
    memory = f"host +{seen.host_growth_bytes >> 20} MiB, worker {seen.worker_peak_bytes >> 20} MiB"
    last = next((line for line in reversed(seen.stdout.splitlines()) if seen.probe.id in line), "")
    _say(
        f"{seen.probe.id:8} {isolation:7} {seen.outcome}{error} {seen.wall_s:.2f} s, {memory}, "
        f"ping {seen.slowest_ping_s:.2f} s {'FOUND' if findings else 'held'} | {ascii(last[:90])}"
    )
    for finding in findings:
        _say(f"    ! {ascii(finding[:500])}")
    if not brief:
        _say(ascii(seen.said[:2000]).replace("\\n", "\n    "))
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
