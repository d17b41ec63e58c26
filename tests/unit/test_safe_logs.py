"""What a log holds of text that a guest chose: one escaped, truncated line, whatever the tool did with it."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloche import Runtime, Sandbox, SandboxFileError
from cloche.runtime import lazy
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.safe_logs import logged, one_line

HOSTILE = "x\x1b]0;pwned\x07\nERROR:root:FORGED record\r\n\u202e" + "y" * 100_000


@contextmanager
def log_text() -> Generator[io.StringIO]:
    """What a plain handler writes for our loggers."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    ours = logging.getLogger("cloche")
    ours.addHandler(handler)
    try:
        yield stream
    finally:
        ours.removeHandler(handler)


def check(text: str) -> None:
    lines = text.splitlines()
    assert text.isprintable() or set(text) - {"\n"} == {char for char in text if char.isprintable()}
    assert sum(line.startswith(("ERROR:", "WARNING:")) for line in lines) == 1, lines
    assert len(text) < 20_000


@pytest.mark.wasmtime
@pytest.mark.guarantee("G26")
def test_a_tool_that_quotes_its_argument_cannot_be_made_to_forge_a_log_record() -> None:
    def find(name: str) -> str:
        try:
            raise KeyError(name)
        except KeyError as exc:
            error = RuntimeError(f"cannot find {name}")
            error.add_note(f"asked for {name}")
            raise error from exc

    with log_text() as log, Sandbox(tools=[find], isolation="thread") as box:
        cell = box.run("find(text)", inputs={"text": HOSTILE})
    assert cell.error is not None
    check(log.getvalue())
    assert "RuntimeError: cannot find x\\x1b]0;pwned\\x07\\nERROR:root:FORGED" in log.getvalue()
    assert "KeyError" in log.getvalue()
    assert "in find" in log.getvalue(), "the traceback of the tool is still there for its author"


def test_the_name_of_an_exception_and_a_str_that_fails_are_harmless_too() -> None:
    class Stubborn(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    Stubborn.__qualname__ = "A\nERROR:root:FORGED"
    kind, made, _ = logged(Stubborn())
    assert kind.__qualname__ == "A\\nERROR:root:FORGED"
    assert str(made) == "(its message cannot be shown)"


def test_a_chain_is_cut() -> None:
    top = RuntimeError("0")
    for number in range(1, 100):
        following = RuntimeError(str(number))
        following.__context__ = top
        top = following
    made: BaseException | None = logged(top)[1]
    length = 0
    while made is not None:
        made, length = made.__context__, length + 1
    assert length == 8


def test_one_line_is_one_line() -> None:
    assert one_line("a\nb\tc\x00") == "a\\nb\\tc\\x00"
    assert len(one_line(HOSTILE)) < 5000


@pytest.mark.guarantee("G26")
def test_the_error_of_a_hostile_file_system_is_one_line() -> None:
    with Runtime(sources={"process": FakeSource()}) as runtime, runtime.sandbox() as box:
        with pytest.raises(SandboxFileError) as caught:
            box.read_file("/tmp/missing")
        assert str(caught.value).isprintable()


# --- where records go -------------------------------------------------------------------------------------------------


def test_a_logger_of_the_package_prints_nothing_where_logging_is_not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("cloche")
    monkeypatch.setattr(ours, "handlers", [])
    for name in ("cloche.one", "cloche.other"):
        assert lazy.logger(name).name == name
    assert [type(entry) for entry in ours.handlers] == [logging.NullHandler]


def test_every_logger_of_the_package_is_one_of_those(root: Path) -> None:
    folders = ("agents", "runtime", "wasm_sandbox", "deno_host")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py") if "guest" not in path.parts]
    named = [path.name for path in sources if "getLogger(" in path.read_text(encoding="utf-8")]
    assert named == ["lazy.py"]
