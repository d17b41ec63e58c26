"""The command line: `cloche exec | run | doctor | image`. Its exit codes are in `exits.py`.

Rule: only the module of the command that was asked for is imported, and it imports the heavy parts when it runs, so
that a start costs what the command needs and no more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..runtime.errors import ClocheError
from . import exits
from .failures import complain
from .terminal import ReaderGone, write_text

if TYPE_CHECKING:
    import typer

COMMANDS: Final = {"exec": "exec_command", "run": "run_command", "doctor": "doctor", "image": "image"}
"""Name of a command and the module of this folder that holds its typer app."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit the process. CLOCHE_DEBUG=1 adds the traceback to an error of ours."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
    except ClocheError as exc:
        complain(exc)
        code = exits.REFUSED
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except ReaderGone:
        # Nobody is left to tell; Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = exits.BROKEN_PIPE
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of the command; typer prints help and usage errors itself."""
    if arguments[:1] == ["exec"]:
        from .prepare import start_early  # first of all: typer loads meanwhile

        start_early(arguments)
    try:
        build_app(arguments)(arguments, prog_name="cloche")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else exits.OK
    return exits.OK


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The app with the command that `arguments` name, or with all of them where help or an error has to list them."""
    import typer  # not at the top: 60 ms that `import cloche.cli` for its helpers need not pay

    app = typer.Typer(
        name="cloche",
        help="Run model-written Python under a glass bell: a Pyodide interpreter under WebAssembly.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    asked = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version)

    def options(version: bool = asked) -> None:
        """Run model-written Python under a glass bell: a Pyodide interpreter under WebAssembly."""

    app.callback()(options)
    wanted = [arguments[0]] if arguments and arguments[0] in COMMANDS else list(COMMANDS)
    for name in wanted:
        command: typer.Typer = import_module(f".{COMMANDS[name]}", __name__).app
        app.add_typer(command, name=None if name in ("exec", "run", "doctor") else name)
    return app


def _print_version(asked: bool) -> None:
    """Ends the command when it was asked for, before one is missed."""
    if asked:
        from .. import __version__

        write_text(f"cloche {__version__}\n", sys.stdout)
        raise SystemExit(exits.OK)
