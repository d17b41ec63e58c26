"""Tells which places of Python source are inside a string or a comment, without parsing it: the host does not feed
model-written text to its own compiler, whose Python is another one than the guest's besides.

What closes the code in a reply (a fence of backticks, `</code>`) is no Python by itself. So where it stands outside of
strings and comments it ends the code, and within a string it is data, such as an answer in Markdown.

Exact for every source that the guest's Python compiles, with f- and t-strings that hold strings in their fields. For
other text it is a guess. Each character is read once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

# All repeats are possessive: they give nothing back that they have read, so that a line costs its length.
_CODE: Final = re.compile(
    r"(?:[^\w'\"#()\[\]{}:]++|\w++(?!['\"]))*+"
    r"(?:(?P<prefix>\w*+)(?P<quote>'''|\"\"\"|'|\")|(?P<mark>[#()\[\]{}:])|\Z)"
)
"""Up to a string, or to a mark that may matter."""
_FORMATTED: Final = {"f": False, "t": False, "fr": True, "rf": True, "tr": True, "rt": True}
"""The prefixes of strings with fields, and whether they are raw."""
_QUOTES: Final = ("'", '"', "'''", '"""')


def _up_to(marks: str, held_back: str = "") -> dict[str, re.Pattern[str]]:
    """By quote: a pattern for the text of a string up to its end or to one of the marks."""
    return {
        quote: re.compile(rf"(?:[^\\'\"{held_back}]++|(?!{quote})['\"])*+(?P<mark>{quote}|{marks}|\Z)")
        for quote in _QUOTES
    }


_PLAIN: Final = _up_to(r"\\.?")
_FIELDS: Final = _up_to(r"[{}]|\\(?:N\{[^{}]*+\}|[^{}])?", "{}")
_RAW_FIELDS: Final = _up_to(r"[{}]|\\[^{}]?", "{}")


@dataclass(slots=True)
class _Level:
    """A string that is open, or a field of it."""

    kind: Literal["text", "field", "spec"]
    """`spec` is the part of a field behind its colon: text again, with fields of its own."""
    quote: str
    text: re.Pattern[str]
    brackets: int = 0
    """That are open in the field."""


class Literals:
    """Reads source piece by piece."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._comment = False
        self._escaped = False
        """Whether the last thing read is a backslash of a string, so that a line's end does not end the string."""

    @property
    def open(self) -> bool:
        """Whether a string has not ended yet."""
        return bool(self._levels)

    @property
    def outside(self) -> bool:
        """Whether what comes next is neither in a string nor in a comment."""
        return not self._levels and not self._comment

    def feed(self, source: str) -> None:
        """Read on. Lines end with `\\n`; a piece must not end within a quote or a prefix of a string."""
        for number, part in enumerate(source.split("\n")):
            if number:
                self._end_line()
            at = 0
            while at < len(part) and not self._comment:
                level = self._levels[-1] if self._levels else None
                if level is None or level.kind == "field":
                    at = self._read_code(part, at, level)
                else:
                    at = self._read_text(part, at, level)

    def _read_code(self, part: str, at: int, field: _Level | None) -> int:
        found = _CODE.match(part, at)
        assert found is not None  # noqa: S101  # it matches any text
        quote, mark = found["quote"], found["mark"]
        if quote:
            raw = _FORMATTED.get(found["prefix"].lower())
            texts = _PLAIN if raw is None else _RAW_FIELDS if raw else _FIELDS
            self._levels.append(_Level("text", quote, texts[quote]))
        elif mark == "#":
            self._comment = True
        elif mark and field is not None:
            self._read_mark(mark, field)
        return found.end()

    def _read_mark(self, mark: str, field: _Level) -> None:
        if mark in "([{":
            field.brackets += 1
        elif field.brackets:
            field.brackets -= mark != ":"
        elif mark == "}":
            self._levels.pop()
        elif mark == ":":
            field.kind = "spec"

    def _read_text(self, part: str, at: int, level: _Level) -> int:
        found = level.text.match(part, at)
        assert found is not None  # noqa: S101  # it matches any text
        mark, end = found["mark"], found.end()
        self._escaped = mark == "\\" and end == len(part)
        if mark == level.quote:
            self._end_string()
        elif mark == "{" and level.kind == "text" and part.startswith("{", end):
            return end + 1  # a doubled brace is text, but not behind a colon
        elif mark == "{":
            self._levels.append(_Level("field", level.quote, level.text))
        elif mark == "}" and level.kind == "spec":
            self._levels.pop()
        return end

    def _end_line(self) -> None:
        self._comment = False
        level = self._levels[-1] if self._levels else None
        if level is not None and level.kind != "field" and len(level.quote) == 1 and not self._escaped:
            self._end_string()  # the guest will refuse it; what follows is read as code
        self._escaped = False

    def _end_string(self) -> None:
        while self._levels.pop().kind != "text":
            pass
