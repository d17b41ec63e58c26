"""The examples and the demo, run as a reader would run them."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false
# a fixture without full types
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cloche import ScriptedModel

pytestmark = pytest.mark.wasmtime
BOUND_S = 110
PATIENTLY = Path(__file__).resolve().parent.parent / "support" / "patiently.py"


@pytest.fixture(autouse=True)
def _examples_import_their_helpers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "examples")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_demo(demo: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    without = {name: value for name, value in os.environ.items() if not name.startswith("CLOCHE_MODEL")}
    return subprocess.run(
        [sys.executable, str(PATIENTLY), str(demo)],
        env={**without, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=BOUND_S,
        check=False,
    )


@pytest.fixture
def copied_demo(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "examples", tmp_path / "examples")
    return tmp_path / "examples" / "demo.py"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_first_agent(root: Path) -> None:
    line = "```python\nfinal_answer(get_price('tea') + get_price('milk'))\n```"
    assert load(root / "examples/first_agent.py").solve(ScriptedModel([line])).output == 4.75


def test_watch_a_run(root: Path) -> None:
    example = load(root / "examples/watch_a_run.py")
    assert example.watch(ScriptedModel(example.SCRIPT)) == [
        "step 1 runs 2 lines",
        "stdout: 3 12.5 14.0",
        "step 2 runs 2 lines",
        "final: 13.2",
    ]


def test_the_demo_replays_repairs_an_error_and_holds_every_attack(root: Path) -> None:
    done = run_demo(root / "examples/demo.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "words are recorded (Qwen2.5-Coder-1.5B" in done.stdout
    assert "| ToolError: ValueError: no readings for month 'July 2024'" in done.stdout
    assert "122.4 (final); the host's own calculation: 122.4" in done.stdout
    assert "FileNotFoundError" in done.stdout
    assert "URLError" in done.stdout
    assert "stopped after 4 s; the sandbox's state is kept" in done.stdout
    assert "SUCCEEDED" not in done.stdout


def test_the_demo_fails_when_a_tool_tells_the_model_something_else(copied_demo: Path) -> None:
    replace(copied_demo, "months are written like '2024-01'", "months look like '2024-01'")
    done = run_demo(copied_demo)
    assert done.returncode == 1
    assert "ReplayMismatch: message 4 (user) differs from the recorded one at character" in done.stderr


def test_the_demo_fails_when_the_data_give_another_answer(copied_demo: Path) -> None:
    readings = copied_demo.parent / "demo_data" / "rainfall.csv"
    line = next(
        line for line in readings.read_text(encoding="utf-8").splitlines() if line.startswith("Greyfell,2024-07")
    )
    replace(readings, line, "Greyfell,2024-07,0.5")
    done = run_demo(copied_demo)
    assert (done.returncode, done.stderr) == (1, "FAILED: the recorded run answered 122.4\n")


def test_the_demo_fails_when_its_prompt_is_no_longer_the_recorded_one(copied_demo: Path) -> None:
    replace(copied_demo, "Names of all weather stations.", "All weather stations.")
    done = run_demo(copied_demo)
    assert done.returncode == 1
    assert "ReplayMismatch: message 1 (system) differs" in done.stderr
