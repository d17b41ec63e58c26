"""Guest text on its way out: escaped on a terminal, untouched in a pipe, ASCII in JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.cli.failures import complain
from cloche.cli.render import cell_fields, is_plain_json, write_json
from cloche.cli.terminal import escape_controls, write_guest_text, write_text
from cloche.runtime.cell import Artifact, Cell, LimitHit
from cloche.runtime.errors import ConfigError, ImageError, WorkerCrashed
from cloche.runtime.protocol import GuestError


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class _Pipe(_Terminal):
    def isatty(self) -> bool:
        return False


def test_terminal_escapes_are_spelled_out() -> None:
    assert escape_controls("\x1b]0;owned\x07\r\x9b2J") == r"\x1b]0;owned\x07\x0d\x9b2J"


def test_direction_characters_are_spelled_out() -> None:
    assert escape_controls("a\u202eb\u2066c\u200fd") == r"a\u202eb\u2066c\u200fd"


def test_plain_text_newline_and_tab_stay_as_they_are() -> None:
    assert escape_controls("naïve\t日本\n") == "naïve\t日本\n"


@given(st.text())
@pytest.mark.guarantee("G26")
def test_no_control_character_survives_escaping(text: str) -> None:
    assert not [char for char in escape_controls(text) if char < " " and char not in "\n\t" or "\x7f" <= char < "\xa0"]


def test_guest_text_is_escaped_on_a_terminal_and_raw_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = _Terminal(), _Pipe()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", pipe)
    write_guest_text("\x1b[2J", to="stdout")
    write_guest_text("\x1b[2J", to="stderr")
    assert (terminal.getvalue(), pipe.getvalue()) == (r"\x1b[2J", "\x1b[2J")


def test_character_that_the_stream_cannot_encode_is_spelled_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_text("é日", stream)
    assert raw.getvalue() == rb"\xe9\u65e5"


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", [1, ["two"]], {"key": [None]}])
def test_plain_json_values_are_printed_as_values(value: object) -> None:
    assert is_plain_json(value)
    assert cell_fields(Cell(value=value))["value"] == value


@pytest.mark.parametrize("value", [b"bytes", (1, 2), {1, 2}, {1: "key"}, float("nan"), float("inf"), [{"deep": b""}]])
def test_value_that_json_would_change_is_null_and_its_repr_stays(value: object) -> None:
    fields = cell_fields(Cell(value=value, value_repr=repr(value)))
    assert (fields["value"], fields["value_repr"]) == (None, repr(value))


def test_json_line_has_every_field_and_only_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell(
        value=[1],
        value_repr="[1]",
        stdout="\x1b[2J日\x9b",
        error=GuestError(type="ValueError", message="no", traceback="Traceback", line=1),
        artifacts=(Artifact(name="a.txt", path="/out/a.txt", mime="text/plain", data=b"abc", sha256="00"),),
        limits=(LimitHit("output_bytes", 20, 10),),
    )
    write_json(cell_fields(cell, failure={"code": "timed_out", "message": "late"}))
    line = capsys.readouterr().out
    assert line.isascii()
    assert "\x1b" not in line
    fields = json.loads(line)
    assert fields.pop("usage")["tool_calls"] == 0
    assert fields == {
        "ok": False,
        "value": [1],
        "value_repr": "[1]",
        "value_error": None,
        "stdout": "\x1b[2J日\x9b",
        "stderr": "",
        "output_cut": False,
        "error": {"type": "ValueError", "message": "no", "traceback": "Traceback", "line": 1},
        "artifacts": [{"name": "a.txt", "path": "/out/a.txt", "mime": "text/plain", "size_bytes": 3, "sha256": "00"}],
        "artifacts_dropped": 0,
        "limits": [{"limit": "output_bytes", "used": 20, "allowed": 10}],
        "interrupted": False,
        "ended_by": None,
        "complete": True,
        "metadata": None,
        "failure": {"code": "timed_out", "message": "late"},
    }


def test_error_is_one_line_and_one_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    complain(WorkerCrashed("the worker is gone"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "cloche: the worker is gone\n"
        "        The worker is gone and its state with it; run it again. `cloche doctor` tests this machine.\n"
    )
    complain(ImageError("there is no image yet; run `cloche image build`"))
    assert capsys.readouterr().err == "cloche: there is no image yet; run `cloche image build`\n"


@pytest.mark.guarantee("G26")
def test_error_message_cannot_reach_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    complain(ConfigError("bad \x1b[2J name"))
    assert capsys.readouterr().err == "cloche: bad \\x1b[2J name\n"


def test_debug_variable_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CLOCHE_DEBUG", "1")
    complain(ConfigError("wrong"))
    assert capsys.readouterr().err == "cloche.runtime.errors.ConfigError: wrong\ncloche: wrong\n"
