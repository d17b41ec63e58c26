"""The record of a bench run as the page docs/measurements.md."""

from __future__ import annotations

from typing import Any

HEAD = """# Measurements

Written by `{command}`; the JSON beside it has every field. Figures are p50 of n samples unless the unit says otherwise.
The machine is shared with other jobs, so ratios to a baseline of the same run carry more than milliseconds do. `thread`
runs code with epoch checks compiled in, `process` without. Starts are sampled in bursts of five, each kind in turn
with its own baseline; before a start from the warm pool the bench waits until a worker is warm, and 50 ms more for
its rehearsal (1 s on the engine "deno", where V8 goes on optimising). Tenants: one flood asks for 1000 sandboxes at
once and loops in all that it gets, at the default caps; the other tenant's samples are taken in turns without it,
while it comes, and beside its loops. A runaway counts as dead when its call has raised and, where it was killed, its
process is gone. Mode `deno` is the engine "deno"; its cold start is held against Pyodide's own `loadPyodide` under
the same Deno, in turns. Every other ratio is to `python -I -c`.

{machine}

| what | mode | p50 | p95 | n | ratio to its baseline | target |
|---|---|--:|--:|--:|--:|---|
"""


def page(record: dict[str, Any], command: str) -> str:
    """The page for one record."""
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    rows = [row(figure) for figure in record["figures"]]
    return HEAD.format(command=command, machine=f"Machine: {machine}.") + "\n".join(rows) + "\n"


def row(figure: dict[str, Any]) -> str:
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.3f}"
    cells = (
        figure["name"],
        figure["mode"],
        f"{figure['p50']:.3g} {figure['unit']}",
        f"{figure['p95']:.3g}",
        figure["n"],
        ratio,
        figure["target"],
    )
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"
