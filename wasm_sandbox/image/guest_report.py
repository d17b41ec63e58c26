"""Runs inside the guest while an image is built, after its snapshot was taken: tells the host where the objects are.

Two answers. The first is two numbers for each object: its address and its type's. The second is about instructions
that load a constant and count the reference: their two forms, counting and not, then the code object, the instruction's
address and the constant's. What this script itself makes is in both; the host leaves out what is not in the snapshot.
"""

import gc
from array import array
from importlib import import_module
from opcode import opmap
from types import CodeType
from typing import cast

from _opcode_metadata import _specialized_opmap  # type: ignore[import-not-found]  # of CPython 3.14

_keys = dict[object, object].keys  # not the object's own: a subclass may have another
_forms = cast("dict[str, int]", _specialized_opmap)
_COUNTING, _NOT_COUNTING = _forms["LOAD_CONST_MORTAL"], _forms["LOAD_CONST_IMMORTAL"]
_CODE_PARTS = ("co_consts", "co_names", "co_name", "co_qualname", "co_filename", "co_linetable", "co_exceptiontable")


def _parts(item: object) -> list[object]:
    """What the garbage collector does not tell of an object's parts."""
    if issubclass(type(item), dict):
        return [*_keys(cast("dict[object, object]", item))]
    if type(item) is CodeType:
        return [getattr(item, name) for name in _CODE_PARTS]
    return []


def _constants(code: CodeType) -> list[int]:
    """Three numbers for each instruction that counts the references of the constant it loads."""
    found: list[int] = []
    plain = code.co_code
    live = cast("bytes", code._co_code_adaptive)  # type: ignore[attr-defined]
    at = live.find(_COUNTING)
    while at >= 0:
        if at % 2 == 0 and plain[at] == opmap["LOAD_CONST"]:
            index, before = plain[at + 1], at - 2
            while before >= 0 and plain[before] == opmap["EXTENDED_ARG"]:
                index |= plain[before + 1] << (4 * (at - before))
                before -= 2
            found += id(code), id(code) + CodeType.__basicsize__ + at, id(code.co_consts[index])
        at = live.find(_COUNTING, at + 1)
    return found


def _report() -> None:
    gc.unfreeze()
    todo: list[object] = gc.get_objects()
    types: dict[int, int] = {id(None): id(type(None))}
    constants: list[int] = [_COUNTING, _NOT_COUNTING]
    while todo:
        item = todo.pop()
        if id(item) in types:
            continue
        types[id(item)] = id(type(item))
        if type(item) is CodeType:
            constants += _constants(item)
        todo.append(type(item))
        todo.extend(gc.get_referents(item))
        todo.extend(_parts(item))
    for numbers in ([number for pair in types.items() for number in pair], constants):
        import_module("_host").call(array("I", numbers).tobytes())


_report()
