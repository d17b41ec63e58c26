"""`cloche doctor`: can this machine run sandboxes, which walls stand around them, and what to do where not."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

import cloche

from ..runtime.errors import ImageError
from . import exits
from .checks import (
    Check,
    check_advisories,
    check_cell,
    check_deno_cell,
    check_image,
    check_machine,
    check_packages,
    has_deno,
)
from .prepare import prepare
from .render import write_json
from .terminal import write_text

if TYPE_CHECKING:
    from ..runtime.walls import Isolation, Wall

app = typer.Typer()


@app.command("doctor")
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False) -> None:
    """Show versions, image, engine and walls of this machine.

    Exit code: 0 when sandboxes work here, 1 when something they need is missing.
    """
    checks = [*check_machine(), *check_packages(), *check_image(), *check_advisories()]
    if all(check.ok for check in checks if check.name in ("wasmtime", "image", "cache")):
        checks += _try_cells()
    with cloche.Runtime() as runtime:
        walls = runtime.walls("process", "wasmtime")
        deno = [wall for wall in runtime.walls("process", "deno") if wall.active] if has_deno() else []
    works = all(check.ok for check in checks if check.needed)
    if as_json:
        records = [dataclasses.asdict(check) for check in checks]
        write_json(
            {
                "ok": works,
                "checks": records,
                "walls": [dataclasses.asdict(wall) for wall in walls],
                "deno_walls": [wall.name for wall in deno],
            }
        )
    elif sys.stdout.isatty():
        _show_tables(checks, walls)
    else:
        _write_lines(checks, walls)
    raise typer.Exit(exits.OK if works else exits.GUEST_ERROR)


def _try_cells() -> list[Check]:
    checks: list[Check] = []
    isolations: tuple[Isolation, ...] = ("process", "thread")
    for isolation in isolations:
        try:
            prepare(isolation)
        except ImageError as exc:
            checks.append(Check(f"cell ({isolation})", False, str(exc)))
        else:
            checks.append(check_cell(isolation))
    return [*checks, check_deno_cell()]


def _write_lines(checks: Sequence[Check], walls: Sequence[Wall]) -> None:
    lines = [f"{_mark(check):<8}{check.name}: {check.text}{_advice(check)}" for check in checks]
    lines += [f"{'ok' if wall.active else 'absent':<8}wall {wall.name}: {wall.why}" for wall in walls]
    write_text("\n".join(lines) + "\n", sys.stdout)


def _show_tables(checks: Sequence[Check], walls: Sequence[Wall]) -> None:
    from rich.console import Console  # 60 ms that a pipe need not pay
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "missing": "red", "absent": "yellow", "warning": "yellow"}
    table = Table.grid(padding=(0, 2))
    for check in checks:
        mark = _mark(check)
        table.add_row(Text(mark, colours[mark]), check.name, Text(check.text + _advice(check)))
    table.add_row()
    for wall in walls:
        mark = "ok" if wall.active else "absent"
        table.add_row(Text(mark, colours[mark]), f"wall: {wall.name}", Text(wall.why))
    Console().print(table)


def _mark(check: Check) -> str:
    if check.ok:
        return "ok"
    return "missing" if check.needed else "warning" if check.warns else "absent"


def _advice(check: Check) -> str:
    return "" if check.advice is None else f" -> {check.advice}"
