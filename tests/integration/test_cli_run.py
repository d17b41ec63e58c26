"""`cloche run` against an endpoint that speaks OpenAI's protocol: the answer on stdout, the way there on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.places import params, where

DEADLINE_S = 60
pytestmark = pytest.mark.wasmtime

Endpoint = Callable[..., str]


def _run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLOCHE_MODEL", "CLOCHE_BASE"))
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "cloche", "run", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
    )


def test_answer_goes_to_stdout_and_the_steps_to_stderr(chat_endpoint: Endpoint, tmp_path: Path) -> None:
    source = "def get_price(item: str) -> float:\n    return {'tea': 2.4, 'milk': 1.1}[item]\n"
    (tmp_path / "shop.py").write_text(source, encoding="utf-8")
    url = chat_endpoint("```python\nprint('asking')\nfinal_answer(get_price('tea') + get_price('milk'))\n```")
    options = ("--model", "any", "--base-url", url, "--tools", "shop:get_price")
    done = _run("What do they cost?", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3.5\n")
    steps = done.stderr.splitlines()
    assert steps[:4] == [
        "step 1",
        "    print('asking')",
        "    final_answer(get_price('tea') + get_price('milk'))",
        "asking",
    ]
    assert steps[4].startswith("done after 1 steps, ")
    assert steps[4].endswith(", 10 tokens in, 5 out")


@pytest.mark.parametrize("place", params(sampled=False))
def test_json_has_the_answer_and_every_step(chat_endpoint: Endpoint, place: str) -> None:
    url = chat_endpoint("```python\n1 / 0\n```", "```python\nfinal_answer([1, 2])\n```")
    options = [f"--{name}={value}" for name, value in where(place).items()]
    done = _run("Do it.", "--model", "any", "--base-url", url, "--json", *options)
    fields = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (fields["output"], fields["stop_reason"], fields["failure"]) == ([1, 2], "final", None)
    assert [step["code"] for step in fields["steps"]] == ["1 / 0", "final_answer([1, 2])"]
    assert fields["steps"][0]["error"]["type"] == "ZeroDivisionError"
    assert fields["usage"]["input_tokens"] == 20


def test_agent_that_runs_out_of_steps_exits_1(chat_endpoint: Endpoint) -> None:
    url = chat_endpoint("```python\nprint(1)\n```")
    done = _run("Do it.", "--model", "any", "--base-url", url, "--max-steps", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no answer: max_steps" in done.stderr


def test_endpoint_that_refuses_exits_2_with_its_reason(chat_endpoint: Endpoint) -> None:
    done = _run("Do it.", "--model", "any", "--base-url", chat_endpoint())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("answered 400: no reply is left") == 1
    assert "Traceback" not in done.stderr


def test_empty_task_and_missing_model_are_refused(chat_endpoint: Endpoint) -> None:
    empty = _run(" ", "--model", "any", "--base-url", chat_endpoint())
    assert (empty.returncode, empty.stderr) == (2, "cloche: the task is empty\n")
    nameless = _run("Do it.")
    assert nameless.returncode == 2
    assert "--model" in nameless.stderr
