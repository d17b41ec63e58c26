"""What stands on the command line: code, a file or stdin; tools by name."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cloche.cli.exec_command import read_source
from cloche.cli.tools import load_tools
from cloche.runtime.errors import ConfigError


def test_argument_that_names_a_file_is_read(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_bytes("\ufeffprint('é')\n".encode())
    assert read_source(str(script)) == "print('é')\n"


@pytest.mark.parametrize("code", ["1 + 1", "x" * 10_000, "a\0b", "first\nsecond.py", "open('data.py')"])
def test_argument_that_names_no_file_is_code(code: str) -> None:
    assert read_source(code) == code


def test_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"print(1)\n"), encoding="utf-8"))
    assert read_source("-") == "print(1)\n"


def test_missing_script_is_named_and_not_run_as_code() -> None:
    with pytest.raises(ConfigError, match=r"^there is no file missing\.py$"):
        read_source("missing.py")


def test_script_that_is_no_text_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_source(str(script))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with tools in the current directory."""
    name = "shop_of_this_test"
    text = "def price(item: str) -> float:\n    return 2.0\n\nTOOLS = [price, price]\nNUMBER = 3\n"
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "broken_shop.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_tools_come_from_the_current_directory_and_lists_are_taken_apart(shop: str) -> None:
    tools = load_tools([f"{shop}:price", f"{shop}:TOOLS"])
    assert [tool.__name__ for tool in tools] == ["price", "price", "price"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shop", "write it as module:function"),
        (":price", "write it as module:function"),
        ("no_such_module_here:price", "there is no module named 'no_such_module_here' here"),
        ("broken_shop:price", "importing broken_shop failed: ZeroDivisionError: division by zero"),
        ("shop_of_this_test:missing", "shop_of_this_test has no missing"),
        ("shop_of_this_test:NUMBER", "it leads to type int, which is no tool"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_tool_that_cannot_be_loaded_is_named_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_tools([name])
    assert str(caught.value) == f"--tools {name!r}: {message}"
