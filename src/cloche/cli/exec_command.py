"""`cloche exec`: run Python in a fresh sandbox and print as it prints, as `python` would.

Output streams while the cell runs; the last expression's value follows as its repr, as in the REPL; a traceback goes
to stderr. With `--json` nothing streams and stdout gets one line: the cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import cloche  # the public face: its names load on first use

from ..runtime.engine_options import check_options
from ..runtime.errors import ClocheError, ConfigError, TimedOut
from . import exits
from .failures import complain
from .prepare import prepare
from .render import cell_fields, write_json
from .system_exit import exit_of
from .terminal import ReaderGone, write_guest_text
from .tools import load_tools

if TYPE_CHECKING:
    from cloche import Cell, Limits, Sandbox

Isolation = Literal["process", "thread"]
Engine = Literal["wasmtime", "deno"]
MAX_SOURCE_BYTES = 64 * 1024 * 1024
"""More than any `Limits.code_bytes` allows; keeps an endless pipe on stdin from filling the memory."""

app = typer.Typer()


@app.command("exec")
def execute(
    code: Annotated[str, typer.Argument(metavar="CODE|FILE|-", help="Python code, a file of it, or - for stdin.")],
    isolation: Annotated[
        Isolation, typer.Option(help="process: a worker of its own; thread: one wall fewer.")
    ] = "process",
    engine: Annotated[Engine, typer.Option(help="What runs the interpreter: wasmtime, or V8 under Deno.")] = "wasmtime",
    deadline: Annotated[float | None, typer.Option(min=0.001, max=86_400, help="Seconds of wall-clock time.")] = None,
    memory_mb: Annotated[int | None, typer.Option(min=64, max=4095, help="MiB of memory for the guest.")] = None,
    tools: Annotated[list[str] | None, typer.Option(metavar="MODULE:FUNCTION", help="A host tool; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cell as one line of JSON.")] = False,
) -> None:
    """Run Python code in a fresh sandbox.

    Exit code: 0, 1 when the code raised, n after its sys.exit(n), 2 when cloche could not run it, 124 when the deadline
    passed.
    """
    try:
        source, granted, limits = read_source(code), load_tools(tools or ()), _limits(deadline, memory_mb)
        check_options(engine, isolation)
        prepare(isolation, engine)
        with cloche.Sandbox(tools=granted, limits=limits, engine=engine, isolation=isolation) as box:
            cell = box.run(source, on_output=None if as_json else _streamed_from(box))
    except ClocheError as exc:
        raise typer.Exit(_report_failure(exc, as_json=as_json)) from exc
    raise typer.Exit(_report(cell, as_json=as_json))


def read_source(argument: str) -> str:
    """The code that CODE|FILE|- stands for.

    Raises:
        ConfigError: a file that cannot be read, is too long or is no UTF-8 text.
    """
    if argument == "-":
        return _decode(sys.stdin.buffer.read(MAX_SOURCE_BYTES + 1), "standard input")
    path = Path(argument)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return _decode(file.read(MAX_SOURCE_BYTES + 1), argument)
    except (OSError, ValueError) as exc:
        if not isinstance(exc, OSError) or path.suffix == ".py":
            raise ConfigError(f"cannot read {argument}: {exc}") from exc
        # Code is often no possible file name: too long, for a start.
    if path.suffix == ".py" and "\n" not in argument and "(" not in argument:
        raise ConfigError(f"there is no file {argument}")
    return argument


def _decode(data: bytes, where: str) -> str:
    if len(data) > MAX_SOURCE_BYTES:
        raise ConfigError(f"{where} is longer than {MAX_SOURCE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{where} is not UTF-8 text: {exc}") from exc


def _limits(deadline_s: float | None, memory_mb: int | None) -> Limits:
    given: dict[str, Any] = {}
    if deadline_s is not None:
        given["wall_s"] = deadline_s
        # Whoever asks for a longer run means its CPU time too; a shorter one ends by the clock first.
        given["cpu_s"] = max(deadline_s, cloche.Limits().cpu_s)
    if memory_mb is not None:
        given["memory_mb"] = memory_mb
    return cloche.Limits(**given)


def _streamed_from(box: Sandbox) -> Callable[[str, str], None]:
    """Writes each piece as it comes. When nobody reads any more, the cell is interrupted instead of running on."""

    def write(stream: str, text: str) -> None:
        try:
            write_guest_text(text, to=stream)
        except ReaderGone:
            box.interrupt()
            raise

    return write


def _report(cell: Cell, *, as_json: bool) -> int:
    left = exit_of(cell.error) if cell.error is not None else None
    if as_json:
        write_json(cell_fields(cell))
    elif left is not None:
        write_guest_text(left[1], to="stderr")
    elif cell.error is not None:
        write_guest_text(cell.error.traceback.rstrip("\n") + "\n", to="stderr")
    elif cell.value_repr is not None:
        write_guest_text(f"{cell.value_repr}\n", to="stdout")
    if left is not None:
        return left[0]
    return exits.OK if cell.ok else exits.GUEST_ERROR


def _report_failure(exc: ClocheError, *, as_json: bool) -> int:
    """What ended the cell from outside, or kept it from starting. What it had printed by then was streamed already."""
    if as_json:
        cell = exc.cell if isinstance(exc, TimedOut) else None
        write_json(cell_fields(cell, failure={"code": exc.code, "message": str(exc)}))
    else:
        complain(exc)
    return exits.TIMED_OUT if isinstance(exc, TimedOut) else exits.REFUSED
