"""docs/models.md says what the code says, and its snippets run as they stand; only the addresses are others here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support import messages_wire as anthropic
from tests.support.chat_server import Answer, chat_server, reply, streamed

import cloche
from cloche.agents import errors
from cloche.agents.models import anthropic as anthropic_module

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BASE_URL = "http://localhost:8080/v1"
SNIPPETS = {
    section.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    for section in re.split(r"^##? ", PAGE, flags=re.MULTILINE)
}
CASES: list[tuple[str, Sequence[Answer], str]] = [
    ("Models", [], "<OpenAIModel 'qwen2.5-coder' at URL>\n"),
    ("Ask without an agent", [reply("Hi.")], "Hi. stop 27\n"),
    ("Streaming", [streamed("one ", "two ", "three")], "one |two |three|20 7\n"),
    (
        "Tools",
        [
            anthropic.reply(anthropic.tool_use("get_price", {"item": "tea"}), stop_reason="tool_use"),
            anthropic.reply(anthropic.text("3.5 euros.")),
        ],
        "get_price {'item': 'tea'}\n3.5 euros.\n",
    ),
    ("Structured output", [reply('{"name": "Lund", "people": 94703}')], "94703\n"),
    ("Tokens and cost", [reply("Hi.")], "0.0000144\n"),
    ("Fallbacks", [], "claude-sonnet-4-5\n"),
    ("Tests without a model", [], "It costs 3.5 euros.\n"),
    ("A model of your own", [], "Hello!\n"),
]


def test_every_snippet_of_the_page_is_run() -> None:
    assert [title for title, found in SNIPPETS.items() if found] == [title for title, _, _ in CASES]
    assert all(len(found) <= 1 for found in SNIPPETS.values())


@pytest.mark.parametrize(("title", "answers", "printed"), CASES, ids=[title for title, _, _ in CASES])
def test_a_snippet_prints_what_it_should(
    title: str,
    answers: Sequence[Answer],
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [snippet] = SNIPPETS[title]
    with chat_server(*answers) as server:
        monkeypatch.setattr(anthropic_module, "ANTHROPIC_URL", server.url)
        exec(compile(snippet.replace(BASE_URL, server.url), title, "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out == printed.replace("URL", server.url)
        assert len(server.requests) == len(answers)


def test_the_table_lists_every_model_class() -> None:
    listed = re.findall(r"^\| `(\w+Model)` \|", PAGE.partition("\n## ")[0], re.MULTILINE)
    assert sorted(listed) == sorted(name for name in cloche.__all__ if name.endswith("Model") and name != "Model")


def test_the_table_of_errors_lists_every_error_that_an_endpoint_can_cause() -> None:
    section = PAGE.partition("## Errors, retries and time")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    kinds = {kind.__name__ for kind in errors.ModelError.__subclasses__()}
    assert set(listed) == kinds - {"ReplayMismatch"}
