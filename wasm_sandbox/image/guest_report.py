"""Runs inside the guest while an image is built, after its snapshot was taken: tells the host where the objects are.

The answer is two numbers for each object: its address and its type's. What this script itself makes is in it as well;
the host leaves out what is not in the snapshot.
"""

import gc
from array import array
from importlib import import_module
from types import CodeType
from typing import cast

_keys = dict[object, object].keys  # not the object's own: a subclass may have another
_CODE_PARTS = ("co_consts", "co_names", "co_name", "co_qualname", "co_filename", "co_linetable", "co_exceptiontable")


def _parts(item: object) -> list[object]:
    """What the garbage collector does not tell of an object's parts."""
    if issubclass(type(item), dict):
        return [*_keys(cast("dict[object, object]", item))]
    if type(item) is CodeType:
        return [getattr(item, name) for name in _CODE_PARTS]
    return []


def _report() -> None:
    gc.unfreeze()
    todo: list[object] = gc.get_objects()
    types: dict[int, int] = {id(None): id(type(None))}
    while todo:
        item = todo.pop()
        if id(item) in types:
            continue
        types[id(item)] = id(type(item))
        todo.append(type(item))
        todo.extend(gc.get_referents(item))
        todo.extend(_parts(item))
    import_module("_host").call(array("I", [number for pair in types.items() for number in pair]).tobytes())


_report()
