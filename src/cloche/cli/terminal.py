"""Text of a guest on its way to a terminal, a pipe or a JSON line.

Rule: on a terminal no control character of a guest gets through but newline and tab, so that a cell can neither move
the cursor nor retitle the window nor reorder what is read. A pipe gets the text as it is, like that of any program.
"""

from __future__ import annotations

import sys
from typing import Final, TextIO

_BIDI: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
} | {ord(char): f"\\u{ord(char):04x}" for char in _BIDI + "\u2028\u2029"}


class ReaderGone(Exception):
    """Whoever read our output went away, as `| head` does. Not a BrokenPipeError, which typer would take for itself."""


def escape_controls(text: str) -> str:
    """The text with control and direction characters spelled out, newline and tab kept."""
    return text.translate(_CONTROLS)


def write_guest_text(text: str, *, to: str) -> None:
    """Write output of a guest to our `stdout` or `stderr` at once. Raises ReaderGone."""
    stream = sys.stderr if to == "stderr" else sys.stdout
    write_text(escape_controls(text) if stream.isatty() else text, stream)


def write_text(text: str, stream: TextIO) -> None:
    """Write and flush; a character that the stream's encoding lacks is spelled out and never an error.

    Raises:
        ReaderGone: nobody reads the stream any more.
    """
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError as exc:
        raise ReaderGone from exc
