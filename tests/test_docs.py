"""The pages say what the code says: limits, exit codes, JSON fields, links, locked requirements."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from cloche.cli import exits
from cloche.cli.render import cell_fields
from cloche.runtime.config import RuntimeConfig
from cloche.runtime.limits import KIB, MIB, Limits
from cloche.runtime.tenants import TenantLimits

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/README.md",
    "docs/architecture.md",
    "docs/cli.md",
    "docs/limits.md",
    "docs/tools.md",
    "docs/agents.md",
    "docs/memory.md",
    "docs/models.md",
    "docs/coming-from-smolagents.md",
    "docs/features.md",
    "docs/engines.md",
)


def test_page_of_limits_lists_every_field_with_its_default(root: Path) -> None:
    first_table = _read(root / "docs/limits.md").partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", first_table, re.MULTILINE))
    defaults = {field.name: field.default for field in dataclasses.fields(Limits)}
    assert {name: _number(name, text) for name, text in rows.items()} == defaults


def test_page_of_the_command_line_lists_every_exit_code(root: Path) -> None:
    section = _read(root / "docs/cli.md").partition("## Exit codes")[2]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert listed == sorted(value for name, value in vars(exits).items() if name.isupper())


def test_page_of_the_command_line_lists_every_field_of_a_cell(root: Path) -> None:
    section = _read(root / "docs/cli.md").partition("## Output")[2].partition("## Tools")[0]
    first_column = "".join(re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", first_column)) == sorted(cell_fields(None))


def test_page_of_the_command_line_lists_every_variable_of_the_environment(root: Path) -> None:
    section = _read(root / "docs/cli.md").partition("## Environment")[2]
    listed = set(re.findall(r"`CLOCHE_(\w+)", "".join(re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE))))
    runtime = {field.name for field in dataclasses.fields(RuntimeConfig)} - {"policy", "tenants", "tenant_limits"}
    tenant = {f"tenant_{field.name}" for field in dataclasses.fields(TenantLimits)}
    ours = {"model", "base_url", "api_key", "cache", "debug", "require_walls"}
    assert listed == {name.upper() for name in runtime | tenant | ours}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page: str, root: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _read(root / page))
    assert [link for link in links if not ((root / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_of_the_source_that_a_page_names_are_there(page: str, root: Path) -> None:
    named = re.findall(r"`((?:agents|runtime|wasm_sandbox|deno_host|src|tests)/[\w./]*)`", _read(root / page))
    assert named
    assert [name for name in named if not (root / name).exists()] == []


def test_every_requirement_is_locked_by_hash_and_the_lock_names_no_place(root: Path) -> None:
    lock = _read(root / "requirements/dev.txt")
    entries = re.findall(r"^([\w.-]+)==[^\n]+\\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", lock, re.MULTILINE)
    locked = {name for name, _ in entries}
    assert len(entries) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE))
    assert _required(root) <= locked
    assert not re.search(r"://|^\s*-(?!-hash)", lock, re.MULTILINE)
    assert "://" not in _read(root / "requirements/pyright.lock")


def _required(root: Path) -> set[str]:
    """Names that pyproject.toml (without the extra that nobody needs here) and dev.in ask for."""
    project = tomllib.loads(_read(root / "pyproject.toml"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["build"]]
    lines += [line for line in _read(root / "requirements/dev.in").splitlines() if not line.startswith("#")]
    return {re.split(r"[^\w.-]", line)[0] for line in lines}


def _number(name: str, text: str) -> float:
    """The default in a row such as `64 MiB` in the field's own unit."""
    amount, _, unit = text.strip().replace("10 000", "10000").partition(" ")
    scale = {"": 1, "s": 1, "KiB": KIB, "MiB": 1 if name.endswith("_mb") else MIB}[unit]
    return float(amount) * scale


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
