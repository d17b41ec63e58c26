"""The worker's side stays small: what a fork server loads needs the standard library and nothing of the host's.

Which layer may import which is checked in tests/test_layers.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cloche

ROOT = Path(cloche.__file__ or "").parent
ENTRIES = ("wasm_sandbox.program", "wasm_sandbox.worker", "wasm_sandbox.fork_server")
ALLOWED_OF_THE_RUNTIME = {"runtime.errors", "runtime.framing", "runtime.large_blocks", "runtime.plain"}
"""Leaves without foreign imports."""
FOREIGN = {"pydantic", "anyio", "wasmtime", "httpx", "typing_extensions"}


def loaded_with(module: str) -> Iterator[str]:
    """Dotted names, below the package, of what importing this module imports at once."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in _at_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[:-1]
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            names = [".".join(filter(None, [*base, alias.name])) for alias in node.names]
            yield from (name if _is_module(name) else name.rpartition(".")[0] for name in names)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported: no function bodies, nothing for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _at_import(child)


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_what_a_worker_loads_needs_the_standard_library_alone() -> None:
    reached: dict[str, str] = dict.fromkeys(ENTRIES, "the start")
    todo = [*reached]
    wrong: list[str] = []
    while todo:
        module = todo.pop()
        for target in loaded_with(module):
            if target.split(".")[0] in FOREIGN or (
                target.startswith("runtime.") and target not in ALLOWED_OF_THE_RUNTIME
            ):
                wrong.append(f"{module} (by way of {reached[module]}) imports {target}")
            elif _is_module(target) and target not in reached:
                reached[target] = module
                todo.append(target)
    assert wrong == []
    assert {"wasm_sandbox.relay", "wasm_sandbox.capi", "runtime.errors"} <= set(reached)
