"""Runs inside the guest while an image is built, after guest_preload.py: finds the functions that every cell runs.

CPython writes to a function's code whenever it runs: it counts its branches and what its instructions met. A page with
such code is a page that each sandbox has for itself. Those that a first small cell runs are left in `busy`, for
guest_gather.py.
"""

import gc
from importlib import import_module
from types import CodeType, FunctionType

_Guest = import_module("_cloche.entry").Guest
_rehearsal = import_module("_cloche.rehearsal")


def _live(code: CodeType) -> int:
    """Another number once the code has run."""
    return hash(code._co_code_adaptive)  # type: ignore[attr-defined]


def _unused(functions: list[FunctionType]) -> dict[int, CodeType]:
    """Code of these that has never run, by the number of the code it is a copy of; where that has run."""
    copies: dict[int, CodeType] = {}
    for code in {id(function.__code__): function.__code__ for function in functions}.values():
        copy = code.replace()
        if _live(copy) != _live(code):
            copies[id(code)] = copy
    return copies


def _find() -> list[FunctionType]:
    functions = [item for item in gc.get_objects() if type(item) is FunctionType]
    originals = [function.__code__ for function in functions]
    copies = _unused(functions)
    for function, code in zip(functions, originals, strict=True):
        function.__code__ = copies.get(id(code), code)
    before = [_live(function.__code__) for function in functions]
    _rehearsal.rehearse_for_lease(_Guest, 0)
    found: list[FunctionType] = []
    for function, code, was in zip(functions, originals, before, strict=True):
        if _live(function.__code__) != was and function.__module__ != _rehearsal.__name__:
            found.append(function)
        function.__code__ = code
    return found


busy = _find()
gc.collect()
