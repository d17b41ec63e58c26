"""The tables name every import of the module, with the right number of arguments, and the docs page shows them."""

from __future__ import annotations

import inspect
from pathlib import Path

from tests.support.fake_box import import_types

from cloche.wasm_sandbox.imports import ALL_IMPORTS, GROUPS, IN_SHIM, TRAPS
from cloche.wasm_sandbox.imports.table import markdown


def test_tables_name_exactly_the_imports_of_the_pinned_module() -> None:
    assert {*ALL_IMPORTS, *IN_SHIM, *TRAPS} == set(import_types())


def test_no_import_stands_in_two_tables() -> None:
    assert len(ALL_IMPORTS) + len(IN_SHIM) + len(TRAPS) == len(import_types())
    assert sum(map(len, GROUPS.values())) == len(ALL_IMPORTS)


def test_every_handler_takes_as_many_arguments_as_wasm_passes() -> None:
    types = import_types()
    for name, entry in ALL_IMPORTS.items():
        inspect.signature(entry.handler).bind(object(), *types[name][0])


def test_no_handler_takes_or_returns_an_external_reference() -> None:
    types = import_types()
    assert not [name for name in ALL_IMPORTS if "externref" in (*types[name][0], *types[name][1])]


def test_every_import_says_why() -> None:
    assert all(entry.why and "\n" not in entry.why and "|" not in entry.why for entry in ALL_IMPORTS.values())


def test_docs_page_is_the_tables(root: Path) -> None:
    page = (root / "docs" / "host-imports.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m cloche.wasm_sandbox.imports > docs/host-imports.md"
