"""Fences as models write them: what opens and closes a block, and that the code between comes out as it was written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from cloche.agents import parsing
from cloche.agents.errors import ParsingError
from cloche.agents.literals import Literals
from cloche.agents.parsing import parse_reply

ANSWER = 'final_answer("""Run this:\n\n```python\nprint(1)\n```\n\nor this:\n```\nls\n```\n""")'


def code(text: str) -> str:
    return parse_reply(text).code


@pytest.mark.parametrize(
    "source",
    [
        "m = '''###\n   \n###'''\nfinal_answer(m)",  # a grid with an empty row
        "m = '''\n\t\n \n'''",
        "x = 'a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei'",
        "x = 1\n\x0c\ny = 2",
        'def f():\n    """Example:\n\n    ```\n    f()\n    ```\n    """',
        "t = '''see ```\nand ```'''",
        ANSWER,
        "# ends with ```\nx = 1",
        "x = 'a\\\n```\\\nb'",
        "x = r'''\\\\'''\ny = '''\n```\n'''",
        "x = f'''{'''\n```\n'''}\n```\n{{ {d['k']:>{w}}\n```\n'''",
        "x = f'''{1:\n'\n```\n}'''",
        "x = f'{a # '\n}' + '''\n```\n'''",
        "x = f'\\N{APOSTROPHE}{'\\N{EM DASH}'}' + rf'\\N{1}' + '''\n```\n'''",
        "x = t'''\n```\n{'```'}'''",
        "x = 1if'a'else'''\n```\n'''",
        "f = lambda r: r'''\n```\n''' # it's\n'''\n```\n'''",
    ],
)
@pytest.mark.parametrize("label", ["python", "", "py title='x.py'"])
def test_code_comes_out_as_it_was_written(source: str, label: str) -> None:
    assert code(f'First.\n```{label}\n{source}\n```\nIt\'s """done.') == source


@pytest.mark.parametrize(
    "info",
    [
        'python title="x.py"',
        "python title='my file.py' linenums=\"1\"",
        "python {.line}",
        "python{1,3-4,7}",
        "{.python .numberLines startFrom=5}",
        "{python, echo=FALSE}",
        "python, copy",
        "Python:main.py",
        "python3.12",
        " py  ",
    ],
)
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_the_first_word_of_the_info_string_is_the_label(info: str, fence: str) -> None:
    assert code(f"{fence}{info}\nx = 1\n{fence}\nDone.") == "x = 1"


@pytest.mark.parametrize("info", ['json title="x.json"', "bash copy", "text {.wrap}", "yaml, copy", "c# x"])
def test_a_block_of_another_language_ends_where_it_ends(info: str) -> None:
    """Its closing fence was taken for an opening one, and what followed it for code."""
    assert code(f"```{info}\nwipe()\n```\nSo:\n```python\nx = 1\n```") == "x = 1"
    with pytest.raises(ParsingError):
        parse_reply(f"```{info}\nwipe()\n```\nimport this")


def test_a_block_within_a_block_of_another_language_is_not_run() -> None:
    with pytest.raises(ParsingError):
        parse_reply("```markdown\n1. Do:\n    ```python\n    wipe()\n    ```\n```\nimport this")


def test_code_may_begin_on_the_line_of_the_fence() -> None:
    assert code("```python final_answer(1)```") == "final_answer(1)"
    assert code("So:\n\n```python final_answer('it is 1')```\nDone.") == "final_answer('it is 1')"
    assert code("```python x = 5\nprint(x)\n```") == "x = 5\nprint(x)"
    assert code("```python import os\nprint(os)\n```") == "import os\nprint(os)"


@pytest.mark.parametrize(
    "text",
    [
        "```python wipe()``` is what I would never do.",
        "Never call ```python wipe()```",
        "Never call ```wipe()```\nimport this",
        "```wipe()```\nimport this",
        "```python```\nimport this",
        "``` So much for the code.\nimport this",
    ],
)
def test_code_within_prose_is_not_run(text: str) -> None:
    with pytest.raises(ParsingError):
        parse_reply(text)
    assert code(f"{text}\n```python\nx = 1\n```") == "x = 1"


@pytest.mark.parametrize(
    "text",
    [
        "1. So:\n   ```python\n   m = '''#\n     \n   #'''\n   ```\n   Done.",
        "- ```python\n  m = '''#\n    \n  #'''\n  ```",
        "   ```python\n   m = '''#\n     \n   #'''\n```",
        "```python\n  m = '''#\n    \n  #'''\n```",
        "\t```python\n\tm = '''#\n\t  \n\t#'''\n\t```",
        "   ```python\nm = '''#\n  \n#'''\n   ```",
        "1. So:\n   ```python\n   # why\n   m = '''#\n     \n#'''\n   ```",
        "  <code>\n  m = '''#\n    \n  #'''\n  </code>",
    ],
)
def test_a_margin_is_taken_from_lines_and_not_from_blanks_beyond_it(text: str) -> None:
    assert code(text).removeprefix("# why\n") == "m = '''#\n  \n#'''"


def test_an_indented_fence_takes_nothing_from_code_that_has_no_margin() -> None:
    source = "# Two.\nm = '''#\n      #'''\nif m:\n    m = 1"
    assert code(f"   ```python\n{source}\n   ```") == source
    assert code(f"   ```python\n   {source}\n   ```") == f"   {source}"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_are_those_that_python_makes_of_them(end: str) -> None:
    assert code(ANSWER.join(["Hm.\n```python\n", "\n```\nDone."]).replace("\n", end)) == ANSWER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx = 1  # done```\nAll done.", "x = 1  # done"),
        ("```python\nx = '''a\n```\nAll done.", "x = '''a"),
        ("```python\nx = f'{a\n```\nAll done.", "x = f'{a"),
        (f"```python\n{ANSWER}", ANSWER),
        ("```python\nx = 'a\n```\nIt's done.", "x = 'a"),
        ("```\nHe said '''\n```\nSo:\n```python\nx = 1\n```", "x = 1"),
        ("```python\nx = '```'```\nDone.", "x = '```'"),
        ("~~~python\ny = (~~~\n1)\n~~~\nDone.", "y = (~~~\n1)"),
        ("```python\nx = 1\n```  <end_code>", "x = 1"),
    ],
)
def test_what_else_may_end_a_block(text: str, expected: str) -> None:
    assert code(text) == expected


def test_a_string_that_a_cut_left_open_is_not_run() -> None:
    with pytest.raises(ParsingError, match="cut off before the code ended"):
        parse_reply('```python\nfinal_answer("""So:\n```python\nx = 1\n```\nand th', cut=True)
    assert parse_reply(f"```python\n{ANSWER}\n```\nAnd th", cut=True).code == ANSWER


@pytest.mark.parametrize(
    "source",
    [
        "final_answer('<code>x</code>')",
        ANSWER,
        'final_answer("""```python\nwipe()\n```""")',
        "x = 1  # no </code>\ny = 2",
    ],
)
def test_tagged_code_may_hold_tags_and_fences(source: str) -> None:
    assert code(f"It's:\n<code>\n{source}\n</code>\nDone.") == source


def test_a_tag_in_prose_leaves_the_fences_their_code() -> None:
    assert code("The <code>f</code> isn't used: ```python\nx = 1\n```") == "x = 1"
    assert code("I don't use <code>, it's:\n```python\nx = 1\n```\nand no </code>.") == "x = 1"


def test_reasoning_ends_outside_of_fences_with_attributes_too() -> None:
    assert code("```python title='x'\nx = '''\n</think>\n'''\n```") == "x = '''\n</think>\n'''"
    assert code("so ```python\nwipe('''\n```\n</think>\n```python\nx = 1\n```") == "x = 1"


@pytest.mark.parametrize(
    "piece",
    [
        "```python\n'''\n```\n",
        "```python\n#```\n",
        "```python\n'''\n```\n\"\"\"\n```\n",
        "~~~python\nx~~~\n",
        "```\nf'{\n```\n",
        "<code>#</code>",
        "<code>'''</code>\n",
        "```json\nx```\n",
        "```python #```\n",
    ],
)
@pytest.mark.parametrize("tail", ["", "</think>\n"])
def test_the_work_grows_as_the_reply_does(piece: str, tail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of these seems to go on to the end of the reply."""
    read = 0

    def counted(function: Callable[..., object], place: int) -> Callable[..., object]:
        def call(*args: object) -> object:
            nonlocal read
            read += len(str(args[place])) + 1
            return function(*args)

        return call

    for name in ("_opening", "_closing"):
        monkeypatch.setattr(parsing, name, counted(getattr(parsing, name), 0))
    monkeypatch.setattr(Literals, "feed", counted(Literals.feed, 1))
    text = piece * 2000 + tail
    with suppress(ParsingError):
        parse_reply(text)
    assert read < 15 * len(text)
