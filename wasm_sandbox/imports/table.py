"""The tables of this package as a page for readers, docs/host-imports.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from . import ALL_IMPORTS, GROUPS, IN_SHIM, TRAPS

_HEAD = """\
# What the guest can ask of the host

Generated from the tables in `wasm_sandbox/imports/` by `python -m cloche.wasm_sandbox.imports > docs/host-imports.md`;
a test fails when the two differ, and another when this list and Pyodide's own list of imports differ.

These are all {total} function imports of `pyodide.asm.wasm`. None is linked by default: one that stands in no table, or
under "Ends the instance", is a trap. Beside them there is one more way out, the bridge (`wasm_sandbox/host_calls.py`):
`host.call` takes a message of the guest to the relay, `host.fetch` hands over a long reply.

| kind | meaning | count |
| --- | --- | --- |
| real | does what its name says, inside the sandbox: no host file, no host environment, no network | {real} |
| benign | a true answer that does nothing | {benign} |
| errno | refused, with an error that Python code can handle | {errno} |
| trap | ends the instance | {trap} |

Each handler checks every pointer against the linear memory; a bad one is answered with EFAULT, or the import's own
failure value, and never reaches the host's memory. Loops, copies and allocations are bounded by a constant or by a
quota of the sandbox.
"""


def markdown() -> str:
    """The whole page."""
    counts = Counter(entry.kind for entry in ALL_IMPORTS.values())
    counts["benign"] += len(IN_SHIM)
    counts["trap"] += len(TRAPS)
    kinds = {kind: counts[kind] for kind in ("real", "benign", "errno", "trap")}
    parts = [_HEAD.format(total=sum(kinds.values()), **kinds)]
    for title, group in GROUPS.items():
        parts.append(_section(title, ((name, entry.kind, entry.why) for name, entry in group.items())))
    parts.append(_section("Answered inside wasm only", ((name, "benign", why) for name, why in IN_SHIM.items())))
    parts.append(_section("Ends the instance", ((name, "trap", why) for name, why in TRAPS.items())))
    return "\n".join(parts)


def _section(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"| `{name}` | {kind} | {why} |" for name, kind, why in sorted(rows)]
    return "\n".join([f"## {title}", "| import | kind | how, why |", "| --- | --- | --- |", *lines, ""])
