"""Finds the code in a model's reply. Only code that is marked as code is ever run: prose is not, however much it looks
like Python.

Marks, in this order: fences labelled as Python (all of them, joined); fences without a label; tags: `<code>`,
`<python>`, `<execute>`, `[PYTHON]`. Fences with another label (json, text, bash) are never run, and nothing inside of
`<think>` is: it is not what the model says, but how it got there.

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

_PYTHON: Final = frozenset({"python", "python3", "py", "python-exec", "ipython", "tool_code"})
_TAGS: Final = (
    ("<code>", "</code>"),
    ("<python>", "</python>"),
    ("<execute>", "</execute>"),
    ("[PYTHON]", "[/PYTHON]"),
)
_CLOSED_BY: Final = ("<end_code>", "<|end|>", "<|im_end|>", "<|eot_id|>")
"""What some models write right behind the fence that closes a block."""
_OPEN: Final = re.compile(
    r"((?<!`)`{3,}+|(?<!~)~{3,}+)[ \t]*+\{?\.?([A-Za-z0-9_+-]*+)\}?[ \t]*+$"  # possessive: a line costs its length
)
_THOUGHT_ENDS: Final = re.compile(r"^[ \t]*+</think>", re.MULTILINE)
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
    text = without_reasoning(text)
    thought, blocks = _fenced(text)
    chosen = [block for block in blocks if block.label in _PYTHON] or [block for block in blocks if not block.label]
    if not blocks:
        thought, chosen = _first_tagged(text)
    if cut and chosen and not chosen[-1].closed:
        raise ParsingError("Your reply was cut off before the code ended. Nothing was run. Write shorter code.")
    code = "\n\n".join(filter(None, (_source(block) for block in chosen)))
    if not code:
        raise ParsingError("Your reply holds no Python code block. Nothing was run.")
    return ParsedReply(thought.strip(), code)


def without_reasoning(text: str) -> str:
    """The reply without its `<think>` part, which some endpoints leave in the text. One without end is all of it."""
    start = text.lstrip()
    if start.startswith("<think>"):
        return start.partition("</think>")[2]
    end = _THOUGHT_ENDS.search(text)  # of templates that open the tag themselves
    if end is None or sum(_OPEN.search(line) is not None for line in text[: end.start()].splitlines()) % 2:
        return text  # within a fence it is part of the code
    return text[end.end() :]


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
    for mark in _CLOSED_BY:
        bare = bare.removesuffix(mark)
    if bare.startswith(fence) and not bare.strip(fence[0]):
        block.closed = True
        return ""
    if bare.endswith(fence) and line.count(fence) == 1:
        block.lines.append(line[: line.index(fence)])
        block.closed = True
        return ""
    block.lines.append(line)
    return fence


def _first_tagged(text: str) -> tuple[str, list[_Block]]:
    """By the first kind of tags that there are any of."""
    for opening, closing in _TAGS:
        before, blocks = _tagged(text, opening, closing)
        if blocks:
            return before, blocks
    return text, []


def _tagged(text: str, opening: str, closing: str) -> tuple[str, list[_Block]]:
    """The same for tags."""
    blocks: list[_Block] = []
    found = text.find(opening)
    before = text[:found] if found >= 0 else text
    while found >= 0:
        start = found + len(opening)
        end = text.find(closing, start)
        closed = end >= 0
        blocks.append(_Block("python", text[start : end if closed else None].splitlines(), closed))
        if not closed:
            break
        found = text.find(opening, end)
        if found >= 0 and any(map(_INVENTED.match, text[end + len(closing) : found].splitlines())):
            break
    return before, blocks


def _source(block: _Block) -> str:
    return dedent("\n".join(block.lines)).strip("\n").rstrip()
