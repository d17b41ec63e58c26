"""Every example runs as a reader would run it: a process of its own, no key, no network but this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.chat_server import chat_server, reply

pytestmark = pytest.mark.wasmtime
BOUND_S = 110
PATIENTLY = Path(__file__).resolve().parent / "support" / "patiently.py"

ESSENTIAL: dict[str, tuple[str, ...]] = {
    "choose_models": (
        "Qwen/Qwen2.5-Coder-32B-Instruct: 168, 410 tokens, None dollars",
        "gpt-4.1-mini: 168, 410 tokens, 0.000176 dollars",
        "claude-sonnet-4-5: 168, 410 tokens, 0.00135 dollars",
        "broken: 168, 410 tokens, 0.000176 dollars",
    ),
    "demo": ("122.4 (final); the host's own calculation: 122.4",),
    "first_agent": ("4.75 final TokenUsage(",),
    "inspect_a_run": (
        "error ToolError: ValueError: no item 'Tea'; there are ['milk', 'tea']",
        "tool stock('tea'): ok",
        "final: 3",
        "Reflection: The first call failed",
    ),
    "manager_and_specialists": ("5 steps of all three agents", "It prints: Small model writes its own tests 32"),
    "memory": ("In the conversation: 4.75 euros", 'For later: {"currency": "euros"}'),
    "model_hub_tool": ("Answer: acme/sentiment-large",),
    "plan_execute_review": ("Answer: milk; good: False Add up per item first.", "Answer: tea; good: True"),
    "propose_patch": ("--- a/app/router.py", "+++ b/app/router.py", "+    limit()", "The code that made it:"),
    "secure_execution": (
        "FileNotFoundError: ",
        "gaierror: ",
        "OSError: ",
        "ModuleNotFoundError: No module named 'requests'",
        "TimedOut: not done within 4 s; the sandbox kept its state",
        "Answer: none of it worked",
    ),
    "sql_tool": ("step 1: attempt to write a readonly database", "step 2: ok", "Answer: milk"),
    "sum_of_numbers": ("final_answer(sum(range(1, 11)))", "Answer: 55"),
    "tool_calling_agent": ("multiply(a=24, b=5) ok", "multiply(a=24, b=2) ok", "Answer: 24 * 7 is"),
    "watch_a_run": ("step 1 runs 2 lines", "stdout: 3 12.5 14.0", "final: 13.2"),
    "web_search": (
        "step 1 called ['web_search', 'visit_webpage']",
        "step 2 called ['wikipedia_search']",
        "Answer: Abuja; 3 x 230,000,000 = 690,000,000",
    ),
}
"""By name of the example: what its output holds, in this order."""


def run_example(path: Path, *arguments: str) -> str:
    """Its output. It must end well and write no warning or traceback."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLOCHE_", "WEB", "HUB"))}
    done = subprocess.run(
        [sys.executable, str(PATIENTLY), str(path), *arguments],
        env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_example_has_its_essential_lines(root: Path) -> None:
    found = {path.stem for path in (root / "examples").glob("*.py") if not path.stem.startswith("_")}
    assert found == set(ESSENTIAL)


@pytest.mark.parametrize("name", ESSENTIAL)
def test_the_example_runs_with_no_key_and_no_server(name: str, root: Path) -> None:
    printed, place = run_example(root / "examples" / f"{name}.py"), 0
    for line in ESSENTIAL[name]:
        assert line in printed[place:], printed
        place = printed.index(line, place) + len(line)


def test_an_example_runs_live_with_a_model_that_an_endpoint_serves(root: Path) -> None:
    with chat_server(reply("```python\nfinal_answer(5 * 11)\n```")) as server:
        printed = run_example(root / "examples/sum_of_numbers.py", "--model", "mine", "--base-url", server.url)
    assert "It ran: final_answer(5 * 11)\nAnswer: 55\n" in printed
    assert [request.json["model"] for request in server.requests] == ["mine"]


def test_the_search_example_is_refused_the_local_server_without_its_rules(root: Path, tmp_path: Path) -> None:
    for path in (root / "examples").glob("*.py"):
        text = path.read_text(encoding="utf-8").replace('allow=("127.0.0.1/32",), ', "")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError, match="the script has 2 lines"):
        run_example(tmp_path / "web_search.py")
