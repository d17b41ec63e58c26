"""`cloche doctor`, and what every command says when something is missing or the call is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloche

DEADLINE_S = 120


def _cloche(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "cloche", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
    )


@pytest.mark.wasmtime
def test_doctor_finds_that_sandboxes_work_and_names_the_walls() -> None:
    done = _cloche("doctor", "--json")
    found = json.loads(done.stdout)
    cells = {check["name"]: check["ok"] for check in found["checks"] if check["name"].startswith("cell")}
    cells.pop("cell (deno)")  # good to have
    assert (done.returncode, found["ok"], cells) == (0, True, {"cell (process)": True, "cell (thread)": True})
    assert {"wasm", "process"} <= {wall["name"] for wall in found["walls"] if wall["active"]}


@pytest.mark.wasmtime
def test_doctor_in_a_pipe_prints_plain_lines() -> None:
    done = _cloche("doctor")
    assert "\x1b" not in done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()][:2] == ["ok      cloche", "ok      python"]


def test_doctor_without_an_image_exits_1_and_says_what_to_do(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.wasm")
    done = _cloche("doctor", CLOCHE_IMAGE=missing)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("missing")]
    assert done.returncode == 1
    assert line.startswith(f"missing image: CLOCHE_IMAGE names {missing}")
    assert line.endswith("; correct it, or unset it and run `cloche image build`")


def test_doctor_finds_a_cache_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = _cloche("doctor", "--json", CLOCHE_CACHE=str(tmp_path), CLOCHE_IMAGE="/dev/null/none")
    (cache,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "cache"]
    assert (done.returncode, cache["ok"]) == (1, False)
    assert "can be written by other users" in cache["text"]


def test_exec_without_an_image_exits_2_with_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    done = _cloche("exec", "1 + 1", CLOCHE_IMAGE=str(tmp_path / "missing.wasm"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("cloche: CLOCHE_IMAGE names ")
    assert "correct it, or unset it and run `cloche image build`" in done.stderr


def test_debug_variable_shows_the_traceback(tmp_path: Path) -> None:
    done = _cloche("exec", "1 + 1", CLOCHE_IMAGE=str(tmp_path / "missing.wasm"), CLOCHE_DEBUG="1")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.returncode == 2


def test_json_says_in_json_what_kept_the_cell_from_running(tmp_path: Path) -> None:
    done = _cloche("exec", "--json", "1 + 1", CLOCHE_IMAGE=str(tmp_path / "missing.wasm"))
    fields = json.loads(done.stdout)
    assert (done.returncode, fields["ok"], fields["complete"], fields["failure"]["code"]) == (2, False, False, "image")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exec", "--tools", "nowhere:tool", "1"], "--tools 'nowhere:tool': there is no module named 'nowhere' here"),
        (["exec", "--tools", "json:__name__", "1"], "--tools 'json:__name__': it leads to type str, which is no tool"),
        (["exec", "missing.py"], "there is no file missing.py"),
    ],
)
def test_wrong_argument_exits_2_and_is_named(arguments: list[str], message: str) -> None:
    done = _cloche(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cloche: {message}")


def test_help_lists_every_command() -> None:
    done = _cloche("--help")
    assert done.returncode == 0
    assert [name for name in ("exec", "run", "doctor", "image") if f"\n  {name} " not in done.stdout] == []


def test_the_version_is_that_of_the_package() -> None:
    done = _cloche("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cloche {cloche.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["explode"], ["exec"], ["exec", "--isolation", "none", "1"], ["exec", "--memory-mb", "1", "1"]]
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    done = _cloche(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: cloche" in done.stderr
