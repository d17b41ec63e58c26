"""Code that compiles comes out of a reply as it went in, whatever fence of CommonMark is around it."""

from __future__ import annotations

import warnings

from hypothesis import assume, given
from hypothesis import strategies as st

from cloche.agents.literals import Literals
from cloche.agents.parsing import parse_reply

TICKS = ["`", "``", "```", "~~~", "\n```\n", "\n    ```\n", "```python\n"]
BLANKS = ["\n", " ", "\t", "\n   \n", "\u2028", "\x0c", "\x85"]
MARKS = ["'", '"', "''", '""', "'''", '"""', "\\", "\\\n", "{", "}", "{{", "}}", "{x}", ":", "#", "a", "</code>"]
TEXTS = st.lists(st.sampled_from(TICKS + BLANKS + MARKS), max_size=8).map("".join)
PREFIXES = st.sampled_from(["", "r", "b", "Rb", "u", "f", "F", "rf", "fR"])
QUOTES = st.sampled_from(["'", '"', "'''", '"""'])
STRINGS = st.builds("{0}{1}{2}{1}".format, PREFIXES, QUOTES, TEXTS)
LINES = st.one_of(
    st.builds("x = {}".format, STRINGS),
    st.builds("if x:\n    {}\n\n    x = 1{}else 2".format, STRINGS, STRINGS.map("if{}".format)),
    st.builds("# {}".format, TEXTS.map(lambda text: text.replace("\n", ""))),
    st.builds("x = [{}, # {}\n{}\n   ]".format, STRINGS, st.sampled_from(["it's", "```", '"""', "\\"]), STRINGS),
    st.sampled_from(["", "   ", "x = (~\n1)", "x \\\n= {1:\\\n2}", "f'{x}'"]),
)


def compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "cell", "exec")
        except (SyntaxError, ValueError):
            return False
    return True


SOURCES = st.lists(LINES.filter(compiles), min_size=1, max_size=4).map(lambda lines: "\n".join(["x = 0", *lines, "x"]))


def closes(line: str, fence: str) -> bool:
    """By the rule of CommonMark."""
    bare = line.strip(" \t")
    indent = line.expandtabs(4)
    return bare.startswith(fence) and not bare.strip(fence[0]) and len(indent) - len(indent.lstrip(" ")) < 4


@given(
    source=SOURCES,
    fence=st.sampled_from(["```", "````", "~~~", "~~~~~~"]),
    longer=st.integers(0, 2),
    info=st.sampled_from(["python", " Python ", 'py title="it\'s.py"', "python {.line}", "python3, copy"]),
    margin=st.sampled_from(["", " ", "   "]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    after=st.sampled_from(["", "\n", "\nIt's done.", '\nSee """this""":\n- x\n', "\n```json\n{}\n```"]),
)
def test_any_code_comes_out_byte_for_byte(
    source: str, fence: str, longer: int, info: str, margin: str, end: str, after: str
) -> None:
    assume(not any(closes(line, fence) for line in source.split("\n")))
    inside = "\n".join(margin + line for line in source.split("\n"))
    reply = f"Thought.\n{margin}{fence}{info}\n{inside}\n{margin}{fence}{fence[0] * longer}{after}"
    assert parse_reply(reply.replace("\n", end)).code == source


@given(source=SOURCES)
def test_backticks_in_strings_close_nothing(source: str) -> None:
    """Even those that CommonMark takes for the end."""
    assert parse_reply(f"```python\n{source}\n```\nDone.").code == source


@given(source=SOURCES, others=st.lists(st.integers(0, 300), max_size=3))
def test_code_that_compiles_leaves_no_string_open(source: str, others: list[int]) -> None:
    literals = Literals()
    literals.feed(source)
    assert literals.outside
    for cut in others:  # a part of it is read without failing, and so is the rest behind it
        literals = Literals()
        literals.feed(source[cut:] + "\n" + source[:cut])
