"""SECURITY.md and the tests say the same: each guarantee is shown by tests that exist, each marker names a guarantee.

The rule: the table of the page is the list. Its last column names probes (`fs-01`, or `fs-*` for all of a kind) and
test modules (`security/test_jail`); a test says which guarantee it shows by `@pytest.mark.guarantee("G01")`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "SECURITY.md"
_ROW = re.compile(r"\| (G\d\d) \| (.+?) \| (.+?) \| (.+?) \|")
_RULE = re.compile(r"\| (R\d+) \| (.+?) \| (.+?) \|")
_PROBE = re.compile(r"[a-z]+-(\d+[ab]?|\*)")
_MODULE = re.compile(r"[\w/]+/test_\w+")
GUARANTEES, RULES = 43, 12


@dataclass(frozen=True)
class Row:
    """One guarantee of the page."""

    probes: frozenset[str]
    modules: frozenset[str]


@functools.cache
def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := _ROW.fullmatch(line):
            assert match[1] not in found, f"{match[1]} stands twice in SECURITY.md"
            found[match[1]] = _row(re.findall(r"`([^`]+)`", match[4]), match[1])
    return found


def _row(names: list[str], guarantee: str) -> Row:
    probes = {name for name in names if _PROBE.fullmatch(name)}
    modules = {name for name in names if _MODULE.fullmatch(name)}
    assert probes | modules == set(names), (
        f"{guarantee}: neither probe nor test module: {set(names) - probes - modules}"
    )
    return Row(frozenset(probes), frozenset(modules))


@functools.cache
def markers() -> dict[str, set[str]]:
    """Module to the guarantees that its tests name, read without importing anything."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for decorator in node.decorator_list:
                    if name := _marked(decorator):
                        found[str(path.relative_to(TESTS).with_suffix(""))].add(name)
    return found


def _marked(decorator: ast.expr) -> str | None:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.guarantee":
        (argument,) = decorator.args
        assert isinstance(argument, ast.Constant)
        return str(argument.value)
    return None


@functools.cache
def probe_files() -> frozenset[str]:
    return frozenset(path.stem for path in (TESTS / "security" / "probes").glob("*.py"))


def matching(probe: str) -> set[str]:
    """The files of a probe's name, or of a kind of probes."""
    if probe.endswith("*"):
        return {name for name in probe_files() if name.startswith(probe[:-1])}
    return {probe} & probe_files()


def test_the_page_lists_every_guarantee_of_the_threat_model_once() -> None:
    assert list(rows()) == [f"G{number:02}" for number in range(1, GUARANTEES + 1)]


def test_every_guarantee_is_shown_by_a_test_that_names_it() -> None:
    unshown = [name for name, row in rows().items() if not any(name in markers()[module] for module in row.modules)]
    assert unshown == []


def test_every_module_of_a_row_has_a_test_that_names_the_guarantee() -> None:
    wrong = [
        f"{name}: {module}" for name, row in rows().items() for module in row.modules if name not in markers()[module]
    ]
    assert wrong == []


def test_every_marker_names_a_guarantee_whose_row_names_its_module() -> None:
    wrong = [
        f"{module} shows {name}"
        for module, names in markers().items()
        for name in names
        if name not in rows() or module not in rows()[name].modules
    ]
    assert wrong == []


def test_every_probe_of_a_row_exists_and_every_probe_belongs_to_a_guarantee() -> None:
    named = {probe: matching(probe) for row in rows().values() for probe in row.probes}
    assert [probe for probe, files in named.items() if not files] == []
    assert sorted(probe_files() - set().union(*named.values())) == []


def test_every_rule_is_carried_by_guarantees_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = {match[1]: re.findall(r"G\d\d", match[3]) for match in map(_RULE.fullmatch, text.splitlines()) if match}
    assert list(found) == [f"R{number}" for number in range(1, RULES + 1)]
    assert [rule for rule, names in found.items() if not names or not set(names) <= rows().keys()] == []
