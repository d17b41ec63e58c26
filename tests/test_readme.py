"""The README's snippets run as they stand; only the address of the model is another one here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BASE_URL = "http://localhost:8080/v1"
DEADLINE_S = 60

pytestmark = pytest.mark.wasmtime


def test_readme_has_a_sandbox_and_an_agent() -> None:
    assert ["Sandbox(" in snippet for snippet in SNIPPETS] == [True, False]
    assert ["CodeAgent(" in snippet for snippet in SNIPPETS] == [False, True]


def test_sandbox_snippet_runs(tmp_path: Path) -> None:
    assert _run_snippet(SNIPPETS[0], tmp_path) == ""


def test_agent_snippet_runs_against_an_endpoint(tmp_path: Path, chat_endpoint: Callable[..., str]) -> None:
    url = chat_endpoint("```python\nfinal_answer(get_price('tea') + get_price('milk'))\n```")
    assert BASE_URL in SNIPPETS[1]
    assert _run_snippet(SNIPPETS[1].replace(BASE_URL, url), tmp_path) == "3.5 final 15\n"


def test_first_command_prints_its_value(tmp_path: Path) -> None:
    (line,) = re.findall(r"^(cloche exec [^#\n]+)", README, re.MULTILINE)
    done = _run([sys.executable, "-P", "-m", *shlex.split(line)], tmp_path)
    assert done == "2\n"


def _run_snippet(snippet: str, folder: Path) -> str:
    script = folder / "snippet.py"
    script.write_text(snippet, encoding="utf-8")
    return _run([sys.executable, "-W", "error", str(script)], folder)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
