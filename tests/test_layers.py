"""Layers point one way: agents -> runtime -> engines -> leaves. Read from the imports, `TYPE_CHECKING` ones aside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LEAVES = {"protocol", "framing", "limits", "errors", "records", "bounded", "large_blocks", "plain"}
"""Modules of `runtime` that every layer may use."""
CODEC = {"values", "value_types", "value_forms", "value_encoder", "value_decoder"}
"""The codec is a leaf as well: host and guest have the same files, so it imports nothing but itself."""
FOLDERS = ("runtime", "wasm_sandbox", "deno_host", "agents")
MAY_IMPORT = {
    "agents": {"runtime"},
    "runtime": {"wasm_sandbox", "deno_host"},
    "wasm_sandbox": {"deno_host"},  # the image builder fetches its inputs through the pinned Deno project
    "deno_host": set[str](),
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_package_imports_only_lower_layers(folder: str, root: Path) -> None:
    wrong = [
        f"{path.relative_to(root)}:{line} imports {'.'.join(target)}"
        for path in sorted((root / folder).rglob("*.py"))
        if "guest" not in path.relative_to(root / folder).parts
        for line, target in _package_imports(path, root)
        if not _allowed(folder, target)
    ]
    assert wrong == []


@pytest.mark.parametrize("leaf", sorted(LEAVES | CODEC))
def test_leaf_imports_only_leaves(leaf: str, root: Path) -> None:
    path = root / "runtime" / f"{leaf}.py"
    targets = {target for _, target in _package_imports(path, root)}
    mine = CODEC if leaf in CODEC else LEAVES
    assert {target[:2] for target in targets} <= {("runtime", name) for name in mine}


def test_package_of_the_leaves_imports_nothing(root: Path) -> None:
    assert (root / "runtime" / "__init__.py").read_text(encoding="utf-8") == ""


def _allowed(folder: str, target: tuple[str, ...]) -> bool:
    if target[0] == folder or target[0] in MAY_IMPORT[folder]:
        return True
    return target[0] == "runtime" and len(target) > 1 and target[1] in LEAVES | CODEC


def _package_imports(path: Path, root: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Line and absolute target, below `cloche`, of each import of our own packages that happens at run time."""
    place = path.relative_to(root).with_suffix("").parts
    found: list[tuple[int, tuple[str, ...]]] = []
    for node in _at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = place[: len(place) - node.level]
            module = (*base, *(node.module or "").split(".")) if node.module else base
            found += [(node.lineno, (*module, alias.name)) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cloche":
            found.append((node.lineno, ("cloche",)))  # the face lists everybody: only relative imports inside
        elif isinstance(node, ast.Import):
            found += [(node.lineno, ("cloche",)) for alias in node.names if alias.name.split(".")[0] == "cloche"]
    return found


def _at_run_time(node: ast.AST) -> list[ast.AST]:
    """All nodes below, without the bodies of `if TYPE_CHECKING`."""
    nodes: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            nodes += [below for part in child.orelse for below in _at_run_time(part)]
            continue
        nodes += [child, *_at_run_time(child)]
    return nodes
