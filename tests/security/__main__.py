"""Run probes by hand: `python -m tests.security [id ...] [process|thread]`. Prints what was seen and the verdict."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .corpus import Probe, probes
from .harness import Range, open_range
from .seen import Seen
from .verdict import judge

ISOLATIONS = ["process", "thread", "deno"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("what", nargs="*", help="ids of probes (default: all), and an isolation (default: both)")
    parser.add_argument("--brief", action="store_true", help="one line per run")
    parser.add_argument("--table", action="store_true", help="the table of docs/security-probes.md")
    parser.add_argument("--final-answer", action="store_true", help="grant the tool of that name to probes that use it")
    options = parser.parse_args()
    isolations = [word for word in options.what if word in ISOLATIONS] or ISOLATIONS
    names = [word for word in options.what if word not in ISOLATIONS] or list(probes())
    failures = 0
    with tempfile.TemporaryDirectory() as folder, open_range(Path(folder)) as place:
        for name in names:
            runs = list(_runs(place, probes()[name], isolations, final_answer=options.final_answer))
            failures += sum(bool(judge(seen)) for seen in runs)
            if options.table:
                _say(_row(runs))
            else:
                for isolation, seen in zip(isolations, runs, strict=True):
                    _show(isolation, seen, brief=options.brief)
    _say(f"\n{failures} of {len(names) * len(isolations)} runs with findings")
    return 1 if failures else 0


def _runs(place: Range, probe: Probe, isolations: list[str], *, final_answer: bool) -> Iterator[Seen]:
    for isolation in isolations:
        if probe.pair:
            place.shoot(probes()[probe.pair], isolation)
        yield place.shoot(probe, isolation, final_answer=final_answer and probe.answers)


def _row(runs: list[Seen]) -> str:
    probe = runs[0].probe
    found = re.search(r"\((.*)\)", probe.proof)
    what = (found[1] if found else probe.proof).replace("|", "/")
    ends = [f"{_end(seen)}{' **FOUND**' if judge(seen) else ''}" for seen in runs]
    return f"| {probe.id} | {what[:110]} | {' | '.join(ends)} |"


def _end(seen: Seen) -> str:
    """In a few words, with what stopped it where the probe said so."""
    if seen.outcome != "cell":
        return seen.outcome
    said = re.search(rf"^BLOCKED:{seen.probe.id} (\w+)", seen.stdout, re.MULTILINE)
    if said:
        return f"blocked: {said[1]}" if said[1].endswith("Error") else "blocked"
    if seen.error_type:
        return f"cell, {seen.error_type}"
    return "cell, output cut" if seen.cut else "cell"


def _show(isolation: str, seen: Seen, *, brief: bool) -> None:
    findings = judge(seen)
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
        _say("    " + ascii(seen.said[:2000])[1:-1].replace("\\n", "\n    "))
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
