"""Runs inside the guest while an image is built, after guest_busy.py: gives the functions in `busy` copies of their
code, one behind the other.

The heap has no holes at this moment. A copy is longer than a block of the small-object allocator, whose blocks of one
size stand together, whatever they are for.
"""

from opcode import opmap
from types import CodeType, FunctionType

_LEAST = (512 - CodeType.__basicsize__) // 2 + 1
"""Instructions of a code object that is larger than any block of the small-object allocator."""
_NOTHING = bytes((opmap["NOP"], 0))
_NO_LINE, _LONGEST = 0x80 | 15 << 3, 8
"""An entry of a line table for instructions that stand on no line, and how many it can be for."""


def _copied(code: CodeType) -> CodeType:
    """The same code; a short one with instructions behind its end, that nothing reaches."""
    missing = max(0, _LEAST - len(code.co_code) // 2)
    padding = [min(_LONGEST, missing - at) for at in range(0, missing, _LONGEST)]
    lines = bytes([_NO_LINE | (length - 1) for length in padding])
    return code.replace(co_code=code.co_code + _NOTHING * missing, co_linetable=code.co_linetable + lines)


def _gather(functions: list[FunctionType]) -> None:
    codes = {id(function.__code__): function.__code__ for function in functions}
    copies = {number: _copied(code) for number, code in codes.items()}
    for function in functions:
        function.__code__ = copies[id(function.__code__)]


_gather(globals()["busy"])
for _name in [*globals()]:
    if not _name.startswith("__") and _name != "_name":
        del globals()[_name]
globals().pop("_name")
