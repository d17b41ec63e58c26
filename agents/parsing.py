"""Finds the code in a model's reply. Only code that is marked as code is ever run: prose is not, however much it looks
like Python.

Marks, in this order: fences labelled as Python (all of them, joined); fences without a label; `<code>` tags. Fences
with another label (json, text, bash) are never run.

The code is not parsed here. The guest's Python is newer than the host's may be, so only the guest knows what is a
syntax error; it compiles a cell before it runs any of it, which costs less than a millisecond and has no effect. And
the host does not feed model-written text to its own compiler.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent
from typing import Final

from .errors import ParsingError

_PYTHON: Final = frozenset({"python", "python3", "py", "python-exec", "ipython"})
_OPEN: Final = re.compile(r"(`{3,}|~{3,})[ \t]*\{?\.?([A-Za-z0-9_+-]*)\}?[ \t]*$")
_INVENTED: Final = re.compile(r"\s*(?:#+\s*|\*\*)?observation\b\W{0,4}", re.IGNORECASE)
"""A line where the model starts to write the host's part of the conversation."""


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A reply taken apart."""

    thought: str
    """The text before the first piece of code."""
    code: str


@dataclass(slots=True)
class _Block:
    label: str
    lines: list[str]
    closed: bool = False


def parse_reply(text: str, *, cut: bool = False) -> ParsedReply:
    """The thought and the code of a reply; `cut` says that the reply hit a token limit.

    Raises:
        ParsingError: no code, or code that was cut off. The message is written for the model.
    """
    thought, blocks = _fenced(text)
    chosen = [block for block in blocks if block.label in _PYTHON] or [block for block in blocks if not block.label]
    if not blocks:
        thought, chosen = _tagged(text)
    if cut and chosen and not chosen[-1].closed:
        raise ParsingError("Your reply was cut off before the code ended. Nothing was run. Write shorter code.")
    code = "\n\n".join(filter(None, (_source(block) for block in chosen)))
    if not code:
        raise ParsingError("Your reply holds no Python code block. Nothing was run.")
    return ParsedReply(thought.strip(), code)


def _fenced(text: str) -> tuple[str, list[_Block]]:
    """The text before the first fence, and all fenced blocks. One pass over the lines."""
    before: list[str] = []
    blocks: list[_Block] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            fence = _continue_block(blocks[-1], line, fence)
            continue
        if blocks and _INVENTED.match(line):
            break
        opened = _OPEN.search(line)
        if opened is None:
            if not blocks:
                before.append(line)
            continue
        if not blocks:
            before.append(line[: opened.start()])
        fence = opened[1]
        blocks.append(_Block(opened[2].lower(), []))
    return "\n".join(before), blocks


def _continue_block(block: _Block, line: str, fence: str) -> str:
    """Adds a line to an open block; returns the fence that is still open, or an empty string."""
    bare = line.strip()
    if bare.startswith(fence) and not bare.strip(fence[0]):
        block.closed = True
        return ""
    if line.rstrip().endswith(fence) and line.count(fence) == 1:
        block.lines.append(line.rstrip().removesuffix(fence))
        block.closed = True
        return ""
    block.lines.append(line)
    return fence


def _tagged(text: str) -> tuple[str, list[_Block]]:
    """The same for `<code>` tags."""
    before, tag, rest = text.partition("<code>")
    blocks: list[_Block] = []
    while tag:
        inside, end, rest = rest.partition("</code>")
        blocks.append(_Block("python", inside.splitlines(), closed=bool(end)))
        between, tag, rest = rest.partition("<code>")
        if any(map(_INVENTED.match, between.splitlines())):
            break
    return before, blocks


def _source(block: _Block) -> str:
    return dedent("\n".join(block.lines)).strip("\n").rstrip()
