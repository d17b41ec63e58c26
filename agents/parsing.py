"""Finds the code in a model's reply. Only code that is marked as code is ever run: prose is not, however much it looks
like Python.

Marks, in this order: fences labelled as Python (all of them, joined); fences without a label; tags: `<code>`,
`<python>`, `<execute>`, `[PYTHON]`. Fences with another label (json, text, bash) are never run, and nothing inside of
`<think>` is: it is not what the model says, but how it got there.

Fences are those of CommonMark, with two differences. Models write them behind text and close them behind text, so they
may stand there. And a fence in a string or a comment of the code does not close it (see `literals`): an answer in
Markdown holds fences of its own, and no fence outside of a string is Python.

The code is not parsed here. The guest's Python is newer than the host's may be, so only the guest knows what is a
syntax error; it compiles a cell before it runs any of it, which costs less than a millisecond and has no effect. And
the host does not feed model-written text to its own compiler.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from keyword import iskeyword
from os.path import commonprefix
from typing import Final

from .errors import ParsingError
from .literals import Literals

_PYTHON: Final = frozenset({"python", "python3", "py", "python-exec", "ipython", "tool_code"})
_TAGS: Final = (
    ("<code>", "</code>"),
    ("<python>", "</python>"),
    ("<execute>", "</execute>"),
    ("[PYTHON]", "[/PYTHON]"),
)
_CLOSED_BY: Final = ("<end_code>", "<|end|>", "<|im_end|>", "<|eot_id|>")
"""What some models write right behind the fence that closes a block."""
_RETRIES: Final = 4
"""How often a reply is read to its end for a fence outside of strings, and in vain. Then the next one will do."""

# Possessive: a line costs its length.
_FENCE: Final = re.compile(r"[ \t]*+(?:(?:[-*+>]|\d{1,9}+[.)])[ \t]++)*+(`{3,}+|~{3,}+)[ \t]*+(.*)")
"""An opening fence, perhaps in a list or a quotation, and its info string."""
_FENCE_BEHIND_TEXT: Final = re.compile(r"((?<!`)`{3,}+|(?<!~)~{3,}+)[ \t]*+(\{?\.?[A-Za-z0-9_+-]*+\}?)[ \t]*+$")
_TICKS: Final = re.compile(r"`{3,}+")
_INFO: Final = re.compile(r"[{ \t]*+\.?+([A-Za-z0-9_+-]*+)(.*)")
"""The label: an info string's first word."""
_PAIR: Final = re.compile(r"""\{[^{}]*+\}|(?<![\w.-])[\w.-]++=(?:"[^"]*+"|'[^']*+'|[^\s,{}]++)""")
_WORD: Final = re.compile(r"[\w.:/#!=+-]++")
_WORDS: Final = 2
"""More of them behind a label are no attributes."""

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
    column: int
    """Where its fence or tag begins."""
    lines: list[str]
    closed: bool = False
    whole: bool = True
    """Whether no string is open at its end."""


@dataclass(frozen=True, slots=True)
class _Opening:
    fence: str
    label: str
    column: int
    code: str = ""
    """What stands on the fence's own line."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """A place where a block may end."""

    line: int
    column: int
    in_string: bool


def parse_reply(text: str, *, cut: bool = False) -> ParsedReply:
    """The thought and the code of a reply; `cut` says that the reply hit a token limit.

    Raises:
        ParsingError: no code, or code that was cut off. The message is written for the model.
    """
    text = _with_plain_ends(without_reasoning(text))
    thought, blocks = _fenced(text)
    chosen = [block for block in blocks if block.label in _PYTHON] or [block for block in blocks if not block.label]
    if not blocks or _in_tagged_string(text, len(thought)):
        thought, chosen = _first_tagged(text)
    if cut and chosen and not (chosen[-1].closed and all(block.whole for block in chosen)):
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
    if end is None:
        return text
    _, blocks = _fenced(_with_plain_ends(text[: end.start()]))
    return text if blocks and not blocks[-1].closed else text[end.end() :]  # within a fence it is part of the code


def _with_plain_ends(text: str) -> str:
    """With the line ends that Python makes of its source; the others of `splitlines` may stand in a string."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


# --- fences -----------------------------------------------------------------------------------------------------------


def _fenced(text: str) -> tuple[str, list[_Block]]:
    """The text before the first fence, and all fenced blocks."""
    lines = text.split("\n")
    before: list[str] = []
    blocks: list[_Block] = []
    at, retries = 0, _RETRIES
    while at < len(lines) and not (blocks and _INVENTED.match(lines[at])):
        line = lines[at]
        opening = _opening(line)
        if opening is None:
            at += 1
            if not blocks:
                before.append(line)
            continue
        if not blocks:
            before.append(line[: opening.column])
        if opening.code:
            lines[at] = opening.code
        else:
            at += 1
        if opening.label and opening.label not in _PYTHON:
            block, at = _read_other(opening, lines, at)
        else:
            block, at, missed = _read_code(opening, lines, at, look=retries > 0)
            retries -= missed
        blocks.append(block)
    return "\n".join(before), blocks


def _opening(line: str) -> _Opening | None:
    """The fence that a line opens."""
    found = _FENCE.match(line)
    opening = _with_info(found[1], found[2], found.start(1)) if found else None
    if opening is not None:
        return opening
    found = _FENCE_BEHIND_TEXT.search(line)
    if found is None or sum(1 for _ in _TICKS.finditer(line, 0, found.start())) % 2:
        return None  # with one before it, it is the end of ```code in a line```
    return _with_info(found[1], found[2], found.start())


def _with_info(fence: str, info: str, column: int) -> _Opening | None:
    """An opening fence with what its info string says; None for text that only looks like one."""
    found = _INFO.match(info)
    assert found is not None  # noqa: S101  # it matches any line
    label, rest = found[1].lower(), found[2]
    rest = rest if rest.strip("{}. \t") else ""
    if fence[0] == "`" and "`" in info:  # ```python f()``` on a line of its own; anything else is code within prose
        end = _closing(rest, fence)
        whole = label in _PYTHON and end is not None and rest[:end].strip() and "`" not in rest[:end]
        return _Opening(fence, label, column, rest.lstrip()) if whole else None
    if _are_attributes(rest):
        return _Opening(fence, label or ("" if not rest else rest.strip()), column)
    return _Opening(fence, label, column, rest.lstrip()) if label in _PYTHON else None


def _are_attributes(rest: str) -> bool:
    """Whether this is what may follow a label (`title="x.py"`, `{.line}`), and neither code nor a sentence."""
    words = _PAIR.sub(" ", rest).translate(dict.fromkeys(map(ord, "{},;"), " ")).split()
    return len(words) <= _WORDS and all(_WORD.fullmatch(word) and not iskeyword(word) for word in words)


def _closing(line: str, fence: str) -> int | None:
    """Where the fence begins that a line ends with, if it is as long as this one."""
    bare = line.rstrip()
    for mark in _CLOSED_BY:
        bare = bare.removesuffix(mark)
    bare = bare.rstrip()
    column = len(bare.rstrip(fence[0]))
    return column if len(bare) - column >= len(fence) else None


def _read_code(opening: _Opening, lines: list[str], start: int, *, look: bool) -> tuple[_Block, int, bool]:
    """The block from this line on, the line behind it, and whether it was looked for in vain.

    It ends at the first fence outside of strings and comments. Where there is none (a string that never ends, say), it
    ends at the first fence of all, or with the reply if that leaves no string open. `look=False` takes the first one.
    """
    literals = Literals()
    first: _Ending | None = None
    for number in range(start, len(lines)):
        line = lines[number]
        column = _closing(line, opening.fence)
        if column is not None:
            literals.feed(line[:column])
            ending = _Ending(number, column, literals.open)
            # ~~~ is Python (an operator, thrice), so behind code it closes nothing.
            if literals.outside and (opening.fence[0] == "`" or not line[:column].strip()):
                return _ended(opening, lines, start, ending), number + 1, False
            first = first or ending
            if not look:
                break
        literals.feed(line[column:] + "\n")  # all of it where it ends with no fence
    if first is None or (first.in_string and look and not literals.open):
        return _Block(opening.label, opening.column, lines[start:], whole=not literals.open), len(lines), False
    return _ended(opening, lines, start, first), first.line + 1, look


def _ended(opening: _Opening, lines: list[str], start: int, ending: _Ending) -> _Block:
    taken = [*lines[start : ending.line], lines[ending.line][: ending.column]]
    return _Block(opening.label, opening.column, taken, closed=True, whole=not ending.in_string)


def _read_other(opening: _Opening, lines: list[str], start: int) -> tuple[_Block, int]:
    """The same for a block of another language, whose lines nobody needs."""
    for number in range(start, len(lines)):
        column = _closing(lines[number], opening.fence)
        if column is None:
            continue
        text = lines[number][:column]
        # One that is farther in belongs to a block within this one.
        if opening.fence not in text if text.strip() else len(text) <= opening.column + 3:
            return _Block(opening.label, opening.column, [], closed=True), number + 1
    return _Block(opening.label, opening.column, []), len(lines)


# --- tags -------------------------------------------------------------------------------------------------------------


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
    retries = _RETRIES
    found = text.find(opening)
    before = text[:found] if found >= 0 else text
    line = end = 0
    while found >= 0:
        start = found + len(opening)
        line = max(line, text.rfind("\n", end, found) + 1)
        first = text.find(closing, start)
        end = _tag_outside(text, start, first, closing) if retries else first
        if end < 0 <= first:
            end = first
            retries -= 1
        blocks.append(_Block("python", start - line, text[start : end if end >= 0 else None].split("\n"), end >= 0))
        if end < 0:
            break
        found = text.find(opening, end)
        if found >= 0 and any(map(_INVENTED.match, text[end + len(closing) : found].split("\n"))):
            break
    return before, blocks


def _tag_outside(text: str, start: int, found: int, closing: str) -> int:
    """Where a closing tag stands outside of strings and comments, from the one at `found` on; -1 for nowhere."""
    literals = Literals()
    while found >= 0:
        literals.feed(text[start:found])
        if literals.outside:
            return found
        start, found = found, text.find(closing, found + 1)
    return -1


def _in_tagged_string(text: str, fence: int) -> bool:
    """Whether the first fence stands in a string of tagged code, so that it is part of an answer."""
    for opening, closing in _TAGS:
        found = text.find(opening, 0, fence)
        if found < 0:
            continue
        start = found + len(opening)
        literals = Literals()
        literals.feed(text[start:fence])
        return literals.open and _tag_outside(text, start, text.find(closing, start), closing) > fence
    return False


# --- margins ----------------------------------------------------------------------------------------------------------


def _source(block: _Block) -> str:
    """The block's code without the margin of a block that is indented as a whole."""
    blank = next((number for number, line in enumerate(block.lines) if line.strip(" \t\f")), 0)
    lines = block.lines[blank:]
    margin = _margin(lines, block.column)
    code = "\n".join(line[len(commonprefix((line, margin))) :] for line in lines) if margin else "\n".join(lines)
    return code.rstrip()


def _margin(lines: list[str], column: int) -> str:
    """Code begins without indentation. So where it does not, what is before it was put before all lines.

    Up to the column of the fence it is taken from each line as far as it is there, as in CommonMark. More than that is
    taken only if each line has it. A blank line keeps what it has beyond the margin: it may be within a string.
    """
    full = [line for line in lines if line.strip()]
    first = next((line for line in full if line.lstrip()[0] != "#"), full[0] if full else "")
    margin = _indentation(first)
    if first.startswith("\f", len(margin)):
        return ""  # begins the line anew
    return margin if len(margin) <= column else commonprefix([_indentation(line) for line in full])


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
