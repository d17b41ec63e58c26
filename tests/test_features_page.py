"""docs/features.md: what it says we have is linked to code and to a test; what we leave has a reason."""

from __future__ import annotations

import re
from pathlib import Path

VERDICTS = ("Have", "Adapted", "Left", "Open")


def rows(root: Path) -> list[list[str]]:
    """The cells of each row, without the heads of the tables."""
    page = (root / "docs/features.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| smol", "| in "))]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def links(cell: str) -> list[str]:
    return re.findall(r"\]\(\.\./([^)]+)\)", cell)


def test_every_link_leads_to_a_file(root: Path) -> None:
    found = {link for row in rows(root) for cell in row for link in links(cell)}
    assert len(found) > 60
    assert sorted(link for link in found if not (root / link).is_file()) == []


def test_every_row_has_a_verdict_and_a_reason_or_code_and_a_test(root: Path) -> None:
    found = rows(root)
    assert len(found) > 80
    assert [row for row in found if len(row) != 4 or not row[1].startswith(VERDICTS)] == []
    for item, verdict, code, proof in found:
        tests = [link for link in links(proof) if link.startswith(("tests/", "examples/"))]
        if verdict.startswith(("Have", "Adapted")):
            assert links(code), item
            assert tests, item
            assert not any(link.startswith("tests/") for link in links(code)), item
        else:
            assert len(verdict + proof) > 20, item


def test_each_defect_of_smolagents_has_its_regression_test(root: Path) -> None:
    page = (root / "docs/features.md").read_text(encoding="utf-8").partition("## Defects")[2]
    assert page.count("[test_smolagents_defects.py]") == 8
