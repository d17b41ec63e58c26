"""The snippets of docs/memory.md, run as they stand with a scripted model; a run of a real sandbox through a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.pages import snippets

from cloche import CodeAgent, RunResult, ScriptedModel

pytestmark = pytest.mark.wasmtime


def py(code: str) -> str:
    return f"```python\n{code}\n```"


SEVEN = py("final_answer(6 * 7)")
CASES: dict[str, tuple[list[str], str]] = {
    "Save and load a run": ([py("final_answer(set('tea') == {'t', 'e', 'a'})")], "True True 1\n"),
    "Go on with a conversation": ([py("number = 7\nfinal_answer('noted')"), py("final_answer(7)")], "7 2\n"),
    "A run for a second model": (
        [SEVEN],
        "system: Was this done well?\nuser: Task: How much is 6 times 7?\nassistant: ```python\n",
    ),
    "On the console": ([SEVEN], "42\n"),
    "OpenTelemetry": ([SEVEN], "42\n"),
}
"""By heading: what the model says, and what the snippet prints."""


def test_every_snippet_has_its_model(root: Path) -> None:
    assert list(snippets(root / "docs/memory.md")) == list(CASES)


@pytest.mark.parametrize("heading", CASES)
def test_a_snippet_of_the_page_prints_what_it_should(
    heading: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in {"On the console": ["rich"], "OpenTelemetry": ["opentelemetry"]}.get(heading, []):
        pytest.importorskip(module)
    lines, printed = CASES[heading]
    exec(snippets(root / "docs/memory.md")[heading], {"model": ScriptedModel(lines)})  # our own page
    assert capsys.readouterr().out == printed


def test_a_run_of_a_real_sandbox_comes_back_with_artifacts_errors_and_metadata() -> None:
    model = ScriptedModel(
        [
            py("open('/out/a.bin', 'wb').write(bytes(range(256)))\n(1, {2}, b'x', '[1]')"),
            py("1 / 0"),
            py("import datetime\nfinal_answer({'when': datetime.date(2026, 1, 2), 3: float('inf')})"),
        ]
    )
    run = CodeAgent([], model).run("Do it.")
    again = RunResult.from_json(run.to_json())
    assert again == run
    assert again.metadata == run.metadata
    assert again.metadata is not None
    first = again.steps[0].cell
    assert first is not None
    assert first.artifacts[0].data == bytes(range(256))
    assert first.value == (1, {2}, b"x", "[1]")
