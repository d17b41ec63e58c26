"""What is taken for code in a reply, and what never is."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from cloche.agents.errors import ParsingError
from cloche.agents.parsing import ParsedReply, parse_reply

NO_CODE = "Your reply holds no Python code block. Nothing was run."


def code(text: str) -> str:
    return parse_reply(text).code


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1\n```",
        "```py\nx = 1\n```",
        "```Python\nx = 1\n```",
        "```python3\nx = 1\n```",
        "```{python}\nx = 1\n```",
        "``` python \nx = 1\n``` ",
        "```\nx = 1\n```",
        "~~~python\nx = 1\n~~~",
        "````python\nx = 1\n````",
        "<code>\nx = 1\n</code>",
        "<code>x = 1</code>",
        "Code: ```python\nx = 1\n```",
        "1. So:\n   ```python\n   x = 1\n   ```\n",
        "```python\nx = 1```",
        "```python\nx = 1",
        "<code>\n```python\nx = 1\n```\n</code>",
        "```python\r\nx = 1\r\n```\r\n",
        "```python\nx = 1\n```<end_code>",
        "```py\nx = 1\n```<|im_end|>",
        "```tool_code\nx = 1\n```",
        "<python>\nx = 1\n</python>",
        "<execute>x = 1</execute>",
        "[PYTHON]\nx = 1\n[/PYTHON]",
        "<think>I could ```python\nwipe()\n``` now</think>\n```python\nx = 1\n```",
        "so I could ```python\nwipe()\n```\n</think>\n```python\nx = 1\n```",
    ],
)
def test_marked_code_is_found(text: str) -> None:
    assert code(text) == "x = 1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "x = 1",
        "import os\nos.system('x')",
        "The answer is `x = 1`.",
        "```\n```",
        "```python\n\n```",
        '```json\n{"x": 1}\n```',
        "```bash\nrm -rf /\n```",
        "```text\nx = 1\n```",
        "<code></code>",
        ">>> x = 1",
        "<think>\n```python\nx = 1\n```",
        "<think><code>x = 1</code></think> I will.",
        "<tool_call>x = 1</tool_call>",
    ],
)
def test_anything_else_is_never_code(text: str) -> None:
    with pytest.raises(ParsingError) as caught:
        parse_reply(text)
    assert str(caught.value) == NO_CODE


def test_the_thought_is_the_text_before_the_code() -> None:
    assert parse_reply("First this.\nThen:\n```python\nx = 1\n```\nDone.") == ParsedReply("First this.\nThen:", "x = 1")
    assert parse_reply("Hm. <code>x = 1</code>") == ParsedReply("Hm.", "x = 1")
    assert parse_reply("Code: ```python\nx = 1\n```").thought == "Code:"


def test_several_python_blocks_are_one_cell() -> None:
    assert code("```python\nx = 1\n```\nand\n```py\ny = x\n```") == "x = 1\n\ny = x"
    assert code("<code>x = 1</code> and <code>y = x</code>") == "x = 1\n\ny = x"


def test_blocks_of_other_languages_are_left_out() -> None:
    assert code("```json\n{}\n```\n```python\nx = 1\n```\n```\n42\n```") == "x = 1"


def test_indentation_and_blank_lines_inside_are_kept() -> None:
    assert code("```python\n\nif x:\n\n    y = 1\n\n```") == "if x:\n\n    y = 1"


def test_a_fence_ends_only_at_one_as_long() -> None:
    assert code("````python\nx = '''\n```\n'''\n````") == "x = '''\n```\n'''"


def test_what_the_model_invents_after_its_code_is_not_run() -> None:
    text = "```python\nx = 1\n```\nObservation: 1\n```python\nwipe()\n```"
    assert code(text) == "x = 1"
    assert code("<code>x = 1</code>\n**Observation**:\n<code>wipe()</code>") == "x = 1"


def test_code_that_was_cut_off_is_not_run() -> None:
    with pytest.raises(ParsingError, match="cut off before the code ended"):
        parse_reply("```python\ndelete_all(", cut=True)
    assert parse_reply("```python\nx = 1\n```\nand now", cut=True).code == "x = 1"


def test_syntax_is_not_judged_here_because_the_guest_is_newer() -> None:
    newer = 'def first[T](items: list[T]) -> T:\n    return items[0]\nf"{"a" + "b"}"\nawait x'
    assert code(f"```python\n{newer}\n```") == newer
    assert code("```python\nthis is no python\n```") == "this is no python"


@pytest.mark.parametrize(
    "text",
    [
        "```\n" * 50_000 + "<code>" * 50_000 + "`" * 50_000,
        "`" * 200_000 + "x",
        "~" * 200_000 + "</think>",
        "```" + " " * 200_000 + "!",
        "```" + "a" * 200_000 + "!",
        " " * 200_000 + "</think",
        "</think>\n" * 50_000,
        "x```\n" * 50_001 + "</think>",
        "<code></code>" * 50_000,
        "<code>" * 50_000,
        "<code></code>" + " #" * 200_000 + "<code></code>",
    ],
)
def test_a_long_reply_takes_time_in_proportion(text: str) -> None:
    """Each of these took minutes with a pattern that tries every way to fail."""
    started = time.process_time()
    with suppress(ParsingError):
        parse_reply(text)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("inside", ["print('</think>')", "x = '''\n</think>\n'''", "x = '<think>'", "# <code>x</code>"])
def test_code_may_speak_of_tags(inside: str) -> None:
    assert code(f"```python\n{inside}\n```\nSome prose.") == inside
