"""The snippets of docs/agents.md, run as they stand with a scripted model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.pages import snippets

from cloche import ScriptedModel

pytestmark = pytest.mark.wasmtime


def py(code: str) -> str:
    return f"```python\n{code}\n```"


CASES: dict[str, tuple[list[str], str]] = {
    "Agents": ([py("final_answer(get_price('tea') + get_price('milk'))")], "4.75 final\n"),
    "Events": (
        [py("print(get_price('tea'))"), py("final_answer(3.5)")],
        "runs: print(get_price('tea'))\nprints: 3.5\nruns: final_answer(3.5)\ndone\n3.5\n",
    ),
    "Typed answers and checks": (
        [
            py("final_answer({'items': ['tea', 'milk']})"),
            py("final_answer({'items': ['tea', 'milk'], 'total': 5})"),
            py("final_answer({'items': ['tea', 'milk'], 'total': get_price('tea') + get_price('milk')})"),
        ],
        "Receipt(items=['tea', 'milk'], total=4.75) 3\n",
    ),
    "Inputs and images": ([py("final_answer(sum(row['name'] is None for row in rows))")], "1\n"),
    "Conversations": ([py("numbers = [1, 2, 3, 4]\nfinal_answer('done')"), py("final_answer(sum(numbers))")], "10\n"),
    "Budgets": ([py("print(1)")] * 3, "budget 2\n"),
    "Sub-agents": ([py("final_answer(pricer(task='Price of tea?'))")], "3.5 2\n"),
    "Hooks, approvals, callbacks": (
        [py("import urllib.request"), py("order('gold')"), py("final_answer(order('tea'))")],
        "seen: order tea is on its way\n['Veto', 'ToolError', None] tea is on its way\n",
    ),
    "Code, prompts, imports": (
        [py("final_answer(get_price('tea'))")],
        "Task: What does tea cost?\n\nAnswer in Swedish.\n",
    ),
    "The sandbox": ([py("final_answer(len(open('/tmp/data.csv').read().split(',')))")], "3 2\n4\n"),
    "Watching from outside": ([py("final_answer(get_price('tea'))")], "3.5\n"),
}
"""By heading: what the model says, and what the snippet prints."""


def test_every_snippet_has_its_model(root: Path) -> None:
    assert list(snippets(root / "docs/agents.md")) == list(CASES)


@pytest.mark.parametrize("heading", CASES)
def test_a_snippet_of_the_page_prints_what_it_should(
    heading: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if heading == "Watching from outside":
        pytest.importorskip("opentelemetry")
    lines, printed = CASES[heading]
    page = snippets(root / "docs/agents.md")
    names: dict[str, object] = {
        "model": ScriptedModel(lines),
        "model_of_pricer": ScriptedModel([py("final_answer(get_price('tea'))")]),
    }
    before = page["Agents"].partition("agent = ")[0] + "from cloche import Budget\n"
    exec(before + page[heading], names)  # our own page
    assert capsys.readouterr().out == printed
