"""`cloche exec` as a shell sees it: what it prints where, and how it exits."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.places import params, where

from cloche import Sandbox
from cloche.cli.system_exit import exit_of

DEADLINE_S = 60
CLOCHE = (sys.executable, "-P", "-m", "cloche")

pytestmark = pytest.mark.wasmtime


def _cloche(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLOCHE, *arguments],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
    )


def _options(place: str) -> list[str]:
    return [f"--{name}={value}" for name, value in where(place).items()]


def _outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("place", params())
def test_value_of_the_last_expression_is_printed_like_in_the_repl(place: str) -> None:
    assert _outcome(_cloche("exec", *_options(place), "print('hi'); 'a' * 3")) == (0, "hi\n'aaa'\n", "")


def test_none_is_not_printed() -> None:
    assert _outcome(_cloche("exec", "None")) == (0, "", "")


def test_value_that_cannot_leave_is_printed_as_its_repr() -> None:
    assert _outcome(_cloche("exec", "type('Odd', (), {'__repr__': lambda self: '<odd>'})()")) == (0, "<odd>\n", "")


def test_file_and_standard_input_are_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('from a file')\n", encoding="utf-8")
    assert _cloche("exec", str(script)).stdout == "from a file\n"
    assert _cloche("exec", "-", stdin="print('from stdin')\n").stdout == "from stdin\n"


def test_error_of_the_code_exits_1_with_its_traceback_on_stderr() -> None:
    done = _cloche("exec", "print('before')\n1 / 0")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_sys_exit_gives_the_exit_code_and_no_traceback() -> None:
    assert _outcome(_cloche("exec", "import sys\nprint('done')\nsys.exit(0)")) == (0, "done\n", "")
    assert _outcome(_cloche("exec", "import sys; sys.exit('not today')")) == (1, "", "not today\n")
    done = _cloche("exec", "--json", "import sys; sys.exit(3)")
    assert (done.returncode, json.loads(done.stdout)["error"]["type"]) == (3, "SystemExit")


def test_every_kind_of_exit_is_read_as_python_reads_it() -> None:
    expected = {
        "sys.exit()": (0, ""),
        "sys.exit(None)": (0, ""),
        "raise SystemExit": (0, ""),
        "exit(2)": (2, ""),
        "sys.exit(-1)": (255, ""),
        "sys.exit(300)": (44, ""),
        "sys.exit('')": (1, "\n"),
        "sys.exit('a\\nb')": (1, "a\nb\n"),
        "sys.exit((1, 2))": (1, "(1, 2)\n"),
        "1 / 0": None,
        "class SystemExit(Exception): pass\nraise SystemExit('sys.exit(0) was not meant')": None,
    }
    with Sandbox(isolation="thread") as box:
        found = {code: box.run(f"import sys\n{code}").error for code in expected}
    assert {code: exit_of(error) for code, error in found.items() if error is not None} == expected


def _late(*options: str) -> subprocess.CompletedProcess[str]:
    """A cell that prints and runs past its deadline: a short one, or a long one where it had not printed by then."""
    command = ("exec", *options, "print('started')\nwhile True: pass", "--deadline")
    done = _cloche(*command, "1")
    return done if "started" in done.stdout else _cloche(*command, "20")


@pytest.mark.parametrize("place", params(sampled=False))
def test_deadline_exits_124_and_keeps_what_was_printed(place: str) -> None:
    done = _late(*_options(place))
    assert (done.returncode, done.stdout) == (124, "started\n")
    assert done.stderr.splitlines()[-1] == "        Give it more time with --deadline SECONDS, or let the code do less."
    assert 'Traceback (most recent call last):\n  File "/' not in done.stderr


@pytest.mark.parametrize("place", params(sampled=False))
def test_memory_limit_reaches_the_guest(place: str) -> None:
    done = _cloche("exec", *_options(place), "--memory-mb", "64", "len(bytes(200_000_000))")
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_json_prints_the_cell_and_nothing_else() -> None:
    done = _cloche("exec", "--json", "print('\\x1b[2J')\n{'sum': 1 + 1}")
    fields = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (fields["ok"], fields["value"], fields["stdout"], fields["failure"]) == (True, {"sum": 2}, "\x1b[2J\n", None)
    assert "\x1b" not in done.stdout


def test_json_of_a_missed_deadline_has_the_partial_cell_and_the_failure() -> None:
    done = _late("--json")
    fields = json.loads(done.stdout)
    assert (done.returncode, fields["ok"], fields["stdout"]) == (124, False, "started\n")
    assert fields["failure"]["code"] == "timed_out"


@pytest.mark.parametrize("place", params(sampled=False))
def test_tool_of_the_current_directory_runs_on_the_host(tmp_path: Path, place: str) -> None:
    source = "import os\n\ndef host_pid(add: int) -> int:\n    return os.getppid() + add\n"
    (tmp_path / "host_tools.py").write_text(source, encoding="utf-8")
    done = _cloche("exec", *_options(place), "--tools", "host_tools:host_pid", "host_pid(0)", cwd=tmp_path)
    assert _outcome(done) == (0, f"{os.getpid()}\n", "")


def test_output_streams_while_the_cell_runs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = "from pathlib import Path\n\ndef read(path: str) -> str:\n    return Path(path).read_text()\n"
    (tmp_path / "waiting_tools.py").write_text(source, encoding="utf-8")
    code = f"print('waiting')\nread({str(fifo)!r})"
    command = [*CLOCHE, "exec", "--tools", "waiting_tools:read", code]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"  # the cell cannot end before the line below
            fifo.write_text("released", encoding="utf-8")
            assert process.stdout.read() == "'released'\n"
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


@pytest.mark.guarantee("G26")
def test_guest_cannot_send_control_characters_to_a_terminal() -> None:
    assert _on_a_terminal("print('\\x1b]0;owned\\x07\\u202e')") == "\\x1b]0;owned\\x07\\u202e\r\n"


def test_reader_that_goes_away_ends_the_cell() -> None:
    with subprocess.Popen([*CLOCHE, "exec", "while True: print('y' * 1000)"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        try:
            assert process.wait(DEADLINE_S) == 141
        finally:
            process.kill()


def test_start_of_exec_loads_nothing_that_it_does_not_need() -> None:
    unneeded = {"asyncio", "anyio", "httpx", "rich", "jinja2", "wasmtime", "litellm", "cloche.agents"}
    code = "import sys; from cloche.cli import build_app; build_app(['exec']); "
    code += f"print(sorted({unneeded} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout == "[]\n"


def _on_a_terminal(code: str) -> str:
    """What a terminal gets from `cloche exec`."""
    leader, follower = pty.openpty()
    try:
        subprocess.run(
            [*CLOCHE, "exec", code], stdin=subprocess.DEVNULL, stdout=follower, check=True, timeout=DEADLINE_S
        )
        os.close(follower)
        shown = b""
        while chunk := _read_terminal(leader):
            shown += chunk
        return shown.decode()
    finally:
        os.close(leader)


def _read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 4096)
    except OSError:  # Linux says EIO once the other end is closed and drained
        return b""
