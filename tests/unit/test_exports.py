"""The public face: `__all__` is what can be imported, and importing it is cheap."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import cloche

FACE = Path(cloche.__file__ or "")
MODULES: dict[str, str] = vars(cloche)["_MODULES"]
HEAVY = ("pydantic", "anyio", "asyncio", "httpx", "wasmtime", "typer", "rich", "jinja2", "ctypes")


def test_all_is_sorted_and_without_duplicates() -> None:
    assert list(cloche.__all__) == sorted(set(cloche.__all__))


def test_all_is_exactly_what_loads_on_first_use() -> None:
    assert set(cloche.__all__) == set(MODULES)


@pytest.mark.parametrize("name", cloche.__all__)
def test_every_public_name_can_be_imported_and_is_defined_where_the_table_says(name: str) -> None:
    value = getattr(cloche, name)
    assert value.__module__ == f"cloche.{MODULES[name]}"
    assert value.__name__ == name


def test_type_checkers_see_every_public_name_from_the_same_module() -> None:
    seen: dict[str, str] = {}
    for node in ast.walk(ast.parse(FACE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            seen.update({alias.asname or alias.name: node.module for alias in node.names})
    assert seen == MODULES


def test_every_public_method_and_property_of_a_public_class_says_what_it_does() -> None:
    silent: list[str] = []
    for name in cloche.__all__:
        kind: object = getattr(cloche, name)
        for base in kind.__mro__ if isinstance(kind, type) else ():
            ours = base.__module__.startswith("cloche.")
            for member, value in vars(base).items() if ours else ():
                callable_one = isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
                if callable_one and not member.startswith("_") and not inspect.getdoc(getattr(kind, member)):
                    silent.append(f"{name}.{member}")
    assert silent == []


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cloche.nothing  # noqa: B018  # the access is the test


def test_dir_lists_the_public_names() -> None:
    assert set(cloche.__all__) <= set(dir(cloche))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, cloche; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = [{str(FACE.parent.parent)!r}]; {code}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=True,
    )
    assert found.stdout.split() == []
