"""What the model is told about a cell: short, bounded, and with no timing or address in it, so that the same cell gives
the same text on every machine (recordings depend on that).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from ..runtime.cell import Cell
from ..runtime.errors import ClocheError, LimitExceeded, TimedOut
from ..runtime.tool_outcome import HIDDEN

MAX_LINE_CHARS: Final = 200
"""Of a quoted line of code."""
_MESSAGE_CHARS: Final = 2000
"""Of an error's message; its end says more than its middle."""

_CONTINUE: Final = (
    "If this answers the task, reply with a ```python block that calls final_answer(...). "
    "Otherwise go on with the next block."
)
_REPAIR: Final = "Fix it and reply with a new ```python block."
_HINTS: Final = {
    "SyntaxError": "The block was not run.",
    "IndentationError": "The block was not run.",
    "NameError": "Only variables and functions from blocks that ran are defined.",
    "ModuleNotFoundError": "Only the standard library can be imported; nothing can be installed.",
    "MemoryError": "The code needs too much memory. Work in smaller pieces.",
    "RecursionError": "Use a loop.",
    "CannotCross": "Pass plain data: numbers, strings, lists, dicts, dates.",
    "KeyboardInterrupt": "The code was stopped.",
}
_REFUSED: Final = "The function refused these arguments. Read its message and its docstring."
_TOOL_HINTS: Final = {
    "InvalidArguments": _REFUSED,
    "ValueError": _REFUSED,
    "InvalidResult": "The function is at fault, not the arguments. Do without it.",
    "CannotCross": "The function is at fault, not the arguments. Do without it.",
    "ToolDenied": "The call was not allowed. Do without it.",
}
"""By the kind that a ToolError's message begins with. Other kinds speak for themselves: with a hint about arguments the
model tries others while a service is down."""
_TOOL_FAILED: Final = "The function failed. Other arguments may not help; do without it if it fails again."
NAMES_CODE: Final = (
    "(lambda b: {n: b.type(v).__name__ "
    "+ (f' of length {b.len(v)}' if b.isinstance(v, (b.str, b.list, b.tuple, b.dict, b.set)) else '') "
    "for n, v in b.tuple(b.globals().items()) "
    "if not n.startswith('_') and b.type(v).__name__ != 'module'})(__import__('builtins'))"
)
"""Asks a sandbox for its variables, of which one may be called `type` or `len`. What comes back is the guest's word,
for the model to read."""
_MAX_NAMES: Final = 20
_LOST: Final = "All variables are gone; start again from the beginning."


def observe(
    cell: Cell, code: str, *, max_chars: int, packages: Sequence[str] = (), variables: Sequence[str] = ()
) -> str:
    """The observation for a cell that came back.

    Args:
        cell: what came back.
        code: what was run.
        max_chars: of the output.
        packages: that may be imported beside the standard library.
        variables: that are new, with their types.
    """
    parts = _cell_parts(cell, code, max_chars, packages)
    if variables:
        more = f" and {len(variables) - _MAX_NAMES} more" if len(variables) > _MAX_NAMES else ""
        parts.append(f"New variables: {', '.join(variables[:_MAX_NAMES])}{more}")
    return _compose(parts, cell.error is not None)


def read_names(value: object) -> dict[str, str]:
    """What `NAMES_CODE` gave, as far as it is what it should be."""
    if not isinstance(value, dict):
        return {}
    pairs = cast("dict[object, object]", value).items()
    return {name[:80]: kind[:80] for name, kind in pairs if isinstance(name, str) and isinstance(kind, str)}


def observe_veto(reason: str) -> str:
    """What the model is told when a hook did not let its code run."""
    return f"The code was not run: {reason}\nDo it in another way, and reply with a new ```python block."


def observe_rejection(reason: str, *, lost: bool = False) -> str:
    """What the model is told when its answer is not accepted; `lost` says that the sandbox did not outlive the cell."""
    kept = _LOST if lost else "The variables are kept."
    return f"{shorten(reason, _MESSAGE_CHARS)}\n{kept} Correct the answer and call final_answer again."


def observe_loss(error: ClocheError, *, max_chars: int) -> str:
    """The observation for a cell that ended with an error of the sandbox; `error.cell` may hold its output."""
    parts: list[str] = []
    kept = isinstance(error, TimedOut) and error.state_kept
    if isinstance(error, TimedOut):
        if error.cell is not None:
            parts += _output_parts(error.cell, max_chars)
        parts.append(f"Error: the code ran longer than {error.allowed:g} seconds and was stopped.")
    elif isinstance(error, LimitExceeded):
        parts.append(f"Error: the code used more than its limit ({error.limit}: {error.allowed:g}) and was stopped.")
    else:
        parts.append("Error: the interpreter ended while it ran the code.")
    if not kept:
        parts.append(_LOST)
    return _compose(parts, failed=True)


def observe_no_code(reason: str, *, structured: bool = False) -> str:
    """What the model is told when its reply holds no code."""
    if structured:
        return f'{reason} Reply with one JSON object: {{"thought": "...", "code": "final_answer(result)"}}'
    return (
        f"{reason} Reply with one ```python block and nothing else. To give the result of the task:\n"
        "```python\nfinal_answer(result)\n```"
    )


def shorten(text: str, max_chars: int) -> str:
    """The head and the tail of a text, with a line between that says how much is missing."""
    if len(text) <= max_chars:
        return text
    head = max_chars * 2 // 3
    tail = max_chars - head
    missing = len(text) - head - tail
    return f"{text[:head]}\n... [{missing} characters are missing here] ...\n{text[-tail:] if tail else ''}"


def _compose(parts: list[str], failed: bool) -> str:
    return "\n".join([*parts, _REPAIR if failed else _CONTINUE])


def _cell_parts(cell: Cell, code: str, max_chars: int, packages: Sequence[str]) -> list[str]:
    parts = _output_parts(cell, max_chars)
    if cell.value_repr is not None:
        parts.append(f"Last value:\n{shorten(cell.value_repr, max_chars // 2)}")
    if cell.error is not None:
        parts += _error_parts(cell, code, packages)
    elif not parts:
        parts.append("The code ran and printed nothing.")
    if cell.artifacts:
        parts.append("Files written: " + ", ".join(artifact.name for artifact in cell.artifacts))
    return parts


def _output_parts(cell: Cell, max_chars: int) -> list[str]:
    parts: list[str] = []
    if cell.stdout.strip():
        parts.append(f"Output:\n{shorten(cell.stdout.rstrip(), max_chars)}")
    if cell.stderr.strip():
        parts.append(f"Errors printed:\n{shorten(cell.stderr.rstrip(), max_chars // 4)}")
    if cell.output_cut:
        parts.append("The output was cut because it was too long.")
    return parts


def _error_parts(cell: Cell, code: str, packages: Sequence[str]) -> list[str]:
    error = cell.error
    assert error is not None  # noqa: S101  # the caller looked
    name = error.type.rpartition(".")[2]
    message = shorten(error.message, _MESSAGE_CHARS)
    parts = [f"{name}: {message}" if message else name]
    line = _code_line(code, error.line)
    if line:
        parts.insert(0, f"Error in line {error.line}: {line}")
    if name == "ModuleNotFoundError" and packages:
        parts.append(f"Only the standard library, {', '.join(packages)} can be imported; nothing can be installed.")
    elif name == "ToolError":
        hint = _TOOL_FAILED if HIDDEN in error.message else _TOOL_HINTS.get(error.message.partition(":")[0])
        parts += [hint] if hint else []
    elif name in _HINTS:
        parts.append(_HINTS[name])
    return parts


def _code_line(code: str, number: int | None) -> str:
    lines = code.split("\n")
    if number is None or not 1 <= number <= len(lines):
        return ""
    line = lines[number - 1].strip()
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 3] + "..."


def did_not_compile(cell: Cell) -> bool:
    """Whether the code had a syntax error, so that none of it ran."""
    error = cell.error
    kinds = ("SyntaxError", "IndentationError", "TabError")
    return error is not None and error.type in kinds and not error.traceback.startswith("Traceback")
