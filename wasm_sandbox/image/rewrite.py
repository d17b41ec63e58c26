"""The edits that turn Pyodide's module into ours. Each takes a module and returns one; no function body is written by
hand, four are replaced by a direct call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from . import wasm
from .wasm import WasmError

MUTABLE_PREFIX = "__global_"
"""Exported name of a mutable global: this and its number."""

_FUNCREF = 0x70
_LOCAL_GET, _CALL, _END = b"\x20", b"\x10", b"\x0b"


def drop_got_imports(module: bytes) -> bytes:
    """Turn the `GOT.*` global imports into constants 0 of the module itself.

    They are the addresses of GL and console functions of the JavaScript side, which nothing in CPython takes.
    """
    sections = wasm.parse(module)
    kept: list[bytes] = []
    got: list[bytes] = []
    for entry in wasm.imports(sections):
        if entry.kind != wasm.GLOBAL:
            kept.append(entry.raw)
            continue
        if not entry.module.startswith("GOT.") or entry.raw[-2] != wasm.I32:
            raise WasmError(f"unexpected global import {entry.module}.{entry.name}")
        got.append(bytes((wasm.I32, entry.raw[-1])) + wasm.i32_const(0))
    body = wasm.section_body(sections, wasm.GLOBALS)
    count, at = wasm.read_leb(body, 0)
    # The former imports come first: so every global keeps its number.
    body = wasm.leb(count + len(got)) + b"".join(got) + body[at:]
    sections = wasm.replaced(sections, wasm.IMPORTS, wasm.vector(kept))
    return wasm.build(wasm.replaced(sections, wasm.GLOBALS, body))


def export_mutable_globals(module: bytes) -> bytes:
    """Give every mutable global of type i32 a name, so that the snapshot can read it."""
    sections = wasm.parse(module)
    names = [entry.raw for entry in wasm.exports(sections).values()]
    for entry in wasm.defined_globals(sections):
        if not entry.mutable:
            continue
        if entry.type != wasm.I32:
            raise WasmError(f"mutable global {entry.index} is not an i32")
        names.append(wasm.export(f"{MUTABLE_PREFIX}{entry.index}", wasm.GLOBAL, entry.index))
    return wasm.build(wasm.replaced(sections, wasm.EXPORTS, wasm.vector(names)))


def redirect(module: bytes, calls: Mapping[str, tuple[str, int]]) -> bytes:
    """Replace bodies of exported functions: `calls` maps a name to the exported function to call and its parameters."""
    sections = wasm.parse(module)
    names = wasm.exports(sections)
    imported = sum(entry.kind == wasm.FUNCTION for entry in wasm.imports(sections))
    targets = {names[name].index - imported: (names[to].index, count) for name, (to, count) in calls.items()}
    body = wasm.section_body(sections, wasm.CODE)
    count, at = wasm.read_leb(body, 0)
    bodies: list[bytes] = []
    for index in range(count):
        size, start = wasm.read_leb(body, at)
        code = body[start : start + size]
        if index in targets:
            target, parameters = targets[index]
            loads = b"".join(_LOCAL_GET + wasm.leb(i) for i in range(parameters))
            code = b"\0" + loads + _CALL + wasm.leb(target) + _END
        bodies.append(wasm.leb(len(code)) + code)
        at = start + size
    return wasm.build(wasm.replaced(sections, wasm.CODE, wasm.vector(bodies)))


def add_table_slots(module: bytes, names: Sequence[str]) -> tuple[bytes, int]:
    """Append exported functions to table 0; the module and the first new slot. So C code can call them by pointer."""
    sections = wasm.parse(module)
    functions = wasm.exports(sections)
    tables = wasm.section_body(sections, wasm.TABLES)
    count, at = wasm.read_leb(tables, 0)
    if tables[at] != _FUNCREF or tables[at + 1] != 0:
        raise WasmError("table 0 is not an open table of functions")
    first, after = wasm.read_leb(tables, at + 2)
    tables = wasm.leb(count) + bytes((_FUNCREF, 0)) + wasm.leb(first + len(names)) + tables[after:]
    elements = wasm.section_body(sections, wasm.ELEMENTS)
    count, at = wasm.read_leb(elements, 0)
    indices = wasm.vector([wasm.leb(functions[name].index) for name in names])
    elements = wasm.leb(count + 1) + elements[at:] + b"\0" + wasm.i32_const(first) + indices
    sections = wasm.replaced(sections, wasm.TABLES, tables)
    return wasm.build(wasm.replaced(sections, wasm.ELEMENTS, elements)), first


def table_size(module: bytes) -> int:
    """Slots of table 0."""
    tables = wasm.section_body(wasm.parse(module), wasm.TABLES)
    _, at = wasm.read_leb(tables, 0)
    return wasm.read_leb(tables, at + 2)[0]


def mutable_globals(module: bytes) -> dict[str, int]:
    """Names that `export_mutable_globals` gave, and the globals' present numbers."""
    found = wasm.exports(wasm.parse(module))
    return {name: entry.index for name, entry in found.items() if name.startswith(MUTABLE_PREFIX)}


def prune_exports(module: bytes, keep: Collection[str], *, mutable: bool) -> bytes:
    """Export nothing but `keep` and, if asked, the mutable globals. Raises WasmError if one of `keep` is not there."""
    sections = wasm.parse(module)
    found = wasm.exports(sections)
    missing = sorted(set(keep) - set(found))
    if missing:
        raise WasmError(f"the module does not export {', '.join(missing)}")
    kept = [e.raw for name, e in found.items() if name in keep or (mutable and name.startswith(MUTABLE_PREFIX))]
    return wasm.build(wasm.replaced(sections, wasm.EXPORTS, wasm.vector(kept)))
