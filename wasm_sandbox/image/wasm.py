"""The wasm binary format, as far as the image builder needs it: sections in and out, and the few entries it edits.

A module is a list of `Section`s. Nothing here knows what a module is for.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...runtime.plain import record

MAGIC = b"\0asm\1\0\0\0"
CUSTOM, IMPORTS, TABLES, MEMORIES, GLOBALS, EXPORTS = 0, 2, 4, 5, 6, 7
ELEMENTS, CODE, DATA, DATA_COUNT = 9, 10, 11, 12
FUNCTION, TABLE, MEMORY, GLOBAL, TAG = 0, 1, 2, 3, 4
I32 = 0x7F

_LEB_IMMEDIATES = (0x41, 0x42, 0x23, 0xD2)  # i32.const, i64.const, global.get, ref.func
_F32_CONST, _F64_CONST, _REF_NULL, _END = 0x43, 0x44, 0xD0, 0x0B


class WasmError(Exception):
    """Bytes that are no wasm module, or one that uses what this editor does not know."""


@record
class Section:
    id: int
    body: bytes


@record
class Entry:
    """One import or export: its name, its kind, and its raw bytes in the section."""

    module: str
    name: str
    kind: int
    index: int
    """Of an export. For an import: its number among the imports of its kind."""
    raw: bytes


@record
class GlobalEntry:
    """A global that the module defines. `index` counts the imported ones first."""

    index: int
    type: int
    mutable: bool
    init: bytes
    """Its initial value, an expression with its end."""


def read_leb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the offset behind it. (Also steps over a signed one.)"""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise WasmError("number too long")
    except IndexError:
        raise WasmError("cut in a number") from None


def leb(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed_leb(value: int) -> bytes:
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        done = (value == 0 and not low & 0x40) or (value == -1 and bool(low & 0x40))
        out.append(low if done else low | 0x80)
        if done:
            return bytes(out)


def i32_const(value: int) -> bytes:
    """The expression `i32.const value end`; the value may be given signed or unsigned."""
    value &= 0xFFFFFFFF
    return b"\x41" + signed_leb(value - (1 << 32) if value >> 31 else value) + b"\x0b"


def read_i32_const(expression: bytes) -> int:
    """The unsigned value of an `i32.const` expression."""
    if expression[:1] != b"\x41":
        raise WasmError("not a constant i32")
    value, end = read_leb(expression, 1)
    bits = 7 * (end - 1)
    if value >> (bits - 1) & 1:
        value -= 1 << bits
    return value & 0xFFFFFFFF


def text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return leb(len(raw)) + raw


def read_text(data: bytes, at: int) -> tuple[str, int]:
    size, at = read_leb(data, at)
    if at + size > len(data):
        raise WasmError("cut in a name")
    return data[at : at + size].decode("utf-8"), at + size


def vector(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def parse(module: bytes) -> list[Section]:
    if module[:8] != MAGIC:
        raise WasmError("not a wasm module")
    sections: list[Section] = []
    at = 8
    while at < len(module):
        size, start = read_leb(module, at + 1)
        if start + size > len(module):
            raise WasmError("cut in a section")
        sections.append(Section(module[at], module[start : start + size]))
        at = start + size
    return sections


def build(sections: list[Section]) -> bytes:
    parts = [MAGIC]
    for section in sections:
        parts += [bytes((section.id,)), leb(len(section.body)), section.body]
    return b"".join(parts)


def custom(name: str, body: bytes) -> Section:
    return Section(CUSTOM, text(name) + body)


def section_body(sections: list[Section], section_id: int) -> bytes:
    for section in sections:
        if section.id == section_id:
            return section.body
    raise WasmError(f"no section {section_id}")


def replaced(sections: list[Section], section_id: int, body: bytes) -> list[Section]:
    """The sections with this one's body exchanged."""
    section_body(sections, section_id)
    return [Section(s.id, body) if s.id == section_id else s for s in sections]


def imports(sections: list[Section]) -> Iterator[Entry]:
    body = section_body(sections, IMPORTS)
    count, at = read_leb(body, 0)
    seen = [0] * 5
    for _ in range(count):
        start = at
        module, at = read_text(body, at)
        name, at = read_text(body, at)
        kind = body[at]
        at = _skip_import_type(body, at + 1, kind)
        yield Entry(module, name, kind, seen[kind], body[start:at])
        seen[kind] += 1


def exports(sections: list[Section]) -> dict[str, Entry]:
    body = section_body(sections, EXPORTS)
    count, at = read_leb(body, 0)
    found: dict[str, Entry] = {}
    for _ in range(count):
        start = at
        name, at = read_text(body, at)
        kind = body[at]
        index, at = read_leb(body, at + 1)
        found[name] = Entry("", name, kind, index, body[start:at])
    return found


def export(name: str, kind: int, index: int) -> bytes:
    return text(name) + bytes((kind,)) + leb(index)


def defined_globals(sections: list[Section]) -> list[GlobalEntry]:
    imported = sum(entry.kind == GLOBAL for entry in imports(sections))
    body = section_body(sections, GLOBALS)
    count, at = read_leb(body, 0)
    found: list[GlobalEntry] = []
    for index in range(imported, imported + count):
        end = skip_expression(body, at + 2)
        found.append(GlobalEntry(index, body[at], body[at + 1] == 1, body[at + 2 : end]))
        at = end
    return found


def globals_section(entries: list[GlobalEntry]) -> bytes:
    return vector([bytes((entry.type, entry.mutable)) + entry.init for entry in entries])


def skip_expression(data: bytes, at: int) -> int:
    """The offset behind a constant expression of one instruction."""
    opcode = data[at]
    if opcode in _LEB_IMMEDIATES:
        _, at = read_leb(data, at + 1)
    elif opcode == _F32_CONST:
        at += 5
    elif opcode == _F64_CONST:
        at += 9
    elif opcode == _REF_NULL:
        _, at = read_leb(data, at + 1)
    else:
        raise WasmError(f"unknown constant instruction {opcode:#x}")
    if data[at] != _END:
        raise WasmError("constant expression of more than one instruction")
    return at + 1


def skip_limits(data: bytes, at: int) -> int:
    has_maximum = data[at] & 1
    _, at = read_leb(data, at + 1)
    if has_maximum:
        _, at = read_leb(data, at)
    return at


def _skip_import_type(data: bytes, at: int, kind: int) -> int:
    if kind == FUNCTION:
        return read_leb(data, at)[1]
    if kind == TABLE:
        return skip_limits(data, at + 1)
    if kind == MEMORY:
        return skip_limits(data, at)
    if kind == GLOBAL:
        return at + 2
    if kind == TAG:
        return read_leb(data, at + 1)[1]
    raise WasmError(f"unknown kind of import {kind}")
