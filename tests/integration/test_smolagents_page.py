"""docs/coming-from-smolagents.md: every snippet of ours runs as it stands, with a scripted model."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.support.pages import snippets

from cloche import ScriptedModel, ToolCallRequest
from cloche.agents.models.scripted import Line

pytestmark = [pytest.mark.wasmtime, pytest.mark.usefixtures("patient")]
PAGE = "docs/coming-from-smolagents.md"


def py(code: str) -> str:
    return f"```python\n{code}\n```"


DIFF = """import difflib
path = search_codebase("acme/api", "import")[0]
text = fetch_repo_file("acme/api", path)
diff = difflib.unified_diff(text.splitlines(), ["import os", "import time"], "a/" + path, "b/" + path, lineterm="")
final_answer("\\n".join(diff))"""
SEARCH = """page = visit_webpage(web_search("Nigeria population capital")[0]["url"])
people = int(page.partition("Population: ")[2].split()[0])
final_answer(f"{page.partition('Capital: ')[2].split('.')[0]}, {3 * people}")"""

CASES: dict[str, tuple[list[Line], str]] = {
    "A first agent": ([py("final_answer(sum(range(1, 11)))")], "55 final\n"),
    "JSON tool calls": ([ToolCallRequest("1", "final_answer", {"value": "20 * 7 + 4 * 7"})], "20 * 7 + 4 * 7\n"),
    "Web search": ([py(SEARCH)], "Abuja, 690000000\n"),
    "A function as a tool": ([py("final_answer(most_downloaded_model('text-classification'))")], "acme/large\n"),
    "A class as a tool": (
        [
            py("sql_query('DELETE FROM sales')"),
            py("final_answer(sql_query('SELECT item, MAX(amount) FROM sales')[0][0])"),
        ],
        "milk\n",
    ),
    "Imports": ([py("import requests"), py("final_answer('no network')")], "ModuleNotFoundError no network\n"),
    "Where code runs": ([py("while True: pass"), py("final_answer('done')")], "TimedOut done\n"),
    "What is refused": ([py("open('/etc/passwd')"), py("final_answer(None)")], "1 FileNotFoundError\n2 ok\n"),
    "A developer's agent": (
        [py(DIFF)],
        "--- a/app/router.py\n+++ b/app/router.py\n@@ -1 +1,2 @@\n+import os\n import time\n",
    ),
    "A manager and specialists": (
        [
            ToolCallRequest("1", "research", {"task": "the latest headline"}),
            lambda messages: ToolCallRequest("2", "final_answer", {"value": messages[-1].content}),
        ],
        "All is well 3\n",
    ),
    "Choosing models": ([], "Qwen/Qwen2.5-Coder-32B-Instruct claude-sonnet-4-5\n"),
    "Logs, and a second look": (
        [py("final_answer(stock('tea'))")],
        """1 "final_answer(stock('tea'))" [('stock', 'ok')] None\n""",
    ),
    "Memory and state": (
        [py("prices = {'tea': 3.5, 'milk': 1.25}\nfinal_answer('noted')"), py("final_answer(sum(prices.values()))")],
        "4.75\n",
    ),
    "Planner, executor, critic": (
        [py("final_answer(['add up', 'take the largest'])")],
        "- add up\n- take the largest\n",
    ),
}
"""By heading: what the model says, and what the snippet prints."""


@pytest.fixture
def web(root: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[dict[str, object]]:
    """The small web of the examples, as the page's names for it."""
    monkeypatch.setattr(sys, "path", [str(root / "examples"), *sys.path])
    from _local_web import local_web, rules_for
    from _pages import small_web

    with local_web(small_web) as address:
        yield {"search_page": f"{address}/lite/", "rules": rules_for(address)}


def test_every_snippet_has_its_model(root: Path) -> None:
    assert list(snippets(root / PAGE, headings="##")) == list(CASES)


def test_quotes_are_short(root: Path) -> None:
    quoted = re.findall(r"^```py\n(.*?)^```$", (root / PAGE).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(quoted) == 12
    assert max(text.count("\n") for text in quoted) <= 5


@pytest.mark.parametrize("heading", CASES)
def test_a_snippet_of_the_page_prints_what_it_should(
    heading: str, root: Path, web: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, printed = CASES[heading]
    names: dict[str, object] = {
        "model": ScriptedModel(lines),
        "model_of_research": ScriptedModel([py("final_answer('All is well')")]),
        **web,
    }
    exec(snippets(root / PAGE, headings="##")[heading], names)  # our own page
    assert capsys.readouterr().out == printed
