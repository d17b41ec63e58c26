"""The snippets of docs/tools.md run as they stand, and its tables name what the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloche.runtime.tool_options import OPTION_NAMES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "tools.md").read_text(encoding="utf-8")
SECTIONS = [section.partition("\n") for section in PAGE.split("\n## ")[1:]]
SNIPPETS = {
    heading: snippet
    for heading, _, text in SECTIONS
    for snippet in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
}
DEADLINE_S = 60


@pytest.mark.wasmtime
@pytest.mark.parametrize("heading", SNIPPETS)
def test_snippet_runs(heading: str, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(SNIPPETS[heading], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr


def test_every_snippet_of_the_page_is_run() -> None:
    assert len(SNIPPETS) == PAGE.count("```python") == 5


def test_the_table_of_options_is_complete() -> None:
    (table,) = [text for heading, _, text in SECTIONS if heading == "Time, retries, marks"]
    assert set(re.findall(r"`(\w+)(?:=\w+)?`", table)) >= OPTION_NAMES
