"""The record of a soak as a section of docs/measurements.md. The bench writes the rest of that page and keeps this.

The rule: the section lies between two marks; what is outside of them is not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- soak: written by `make soak` -->", "<!-- soak: end -->"


def table(record: Mapping[str, Any]) -> str:
    """The figures as a markdown table, findings below it."""
    rows = [f"| {name} | {value} |" for name, value in _figures(record)]
    found = record["findings"]
    verdict = "No finding." if not found else "Findings:\n\n" + "\n".join(f"* {line}" for line in found)
    return "\n".join(["| what | figure |", "|---|--:|", *rows]) + f"\n\n{verdict}\n"


def section(record: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    return (
        f"{BEGIN}\n## Soak\n\n"
        f"`make soak`: {record['tenants']} tenants at once, {record['threads']} threads, a third of the sandboxes\n"
        "hostile, workers in use killed at random. A good cell counts as answered when its value is the one the host\n"
        "computed for itself and a host tool saw it executed once; one whose worker the soak killed must raise\n"
        "`WorkerCrashed`. Growth is the median of the last quarter of the run less that of the first, after a tenth\n"
        "of warm-up; in the second half, less that of the third quarter. RSS climbs to the worst moment so far, as\n"
        "allocators keep what was freed; what Python and the C allocator have in use, and what is left at rest after\n"
        "a collection and a trim, tell a leak from that.\n\n"
        f"Machine: {machine}.\n\n{table(record)}{END}\n"
    )


def put_section(page: Path, record: Mapping[str, Any]) -> None:
    """Replace the section in the page, or put it at the end."""
    text = page.read_text(encoding="utf-8")
    page.write_text(kept(text, section(record)), encoding="utf-8")


def kept(page: str, new: str) -> str:
    """The page with this section in place of the one it had."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if rest else ""
    return before.rstrip("\n") + "\n\n" + new + after.lstrip("\n")


def section_of(page: str) -> str:
    """The section of a page, for a writer of the rest; empty if there is none."""
    _, mark, rest = page.partition(BEGIN)
    body, end, _ = rest.partition(END)
    return f"\n{mark}{body}{end}\n" if mark and end else ""


def _figures(record: Mapping[str, Any]) -> list[tuple[str, object]]:
    counts, latency, left = record["counts"], record["good cell ms"], record["left after close"]
    return [
        ("seconds", record["seconds"]),
        ("good sandboxes / hostile sandboxes", f"{counts['good sandboxes']} / {counts.get('hostile sandboxes', 0)}"),
        ("good cells begun", counts["good cells begun"]),
        ("answered correctly", counts.get("good cells answered", 0)),
        ("wrong answers", counts.get("good cells wrong", 0)),
        ("worker killed, each raised WorkerCrashed", counts.get("good cells killed", 0)),
        ("workers killed, hostile ones too", counts.get("workers killed", 0) + counts.get("hostile workers killed", 0)),
        ("good cells without an end or with a wrong one", record["good cells without an end"]),
        (
            "share of unkilled good cells answered correctly",
            f"{record['share of unkilled good cells answered correctly']:.6f}",
        ),
        ("cells executed more than once", sum("executed" in line for line in record["findings"])),
        ("hostile cells, each with an end that it may have", counts.get("hostile cells ended", 0)),
        ("refused with a hint and asked again", counts.get("refused, asked to come back", 0)),
        ("good cell, p50 / p95 / p99 ms", f"{latency['p50']} / {latency['p95']} / {latency['p99']}"),
        ("host RSS growth, MB", record["host RSS growth MB"]),
        ("host RSS growth in the second half, MB", record.get("host RSS growth in the second half MB", "")),
        (
            "host RSS at rest before and after the load, MB",
            " / ".join(map(str, record.get("host RSS at rest MB", ()))),
        ),
        ("in use of the C allocator, growth, MB", record.get("allocator in use growth MB", "")),
        ("memory blocks of Python, growth", record.get("Python memory blocks growth", "")),
        ("fork servers RSS growth, MB", record["fork servers RSS growth MB"]),
        (
            "descriptors, threads, processes left",
            f"{left['descriptors']}, {left['threads']}, {left['child processes']}",
        ),
        ("zombies at most at any moment", record["zombies at most"]),
    ]
