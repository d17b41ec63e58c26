"""`repr` with an end: no more text is built than is kept.

Rule: for values that fit, the text is what `repr` gives. The cap holds for the plain containers and texts of any size;
the `__repr__` of other types is run as it is, under the deadline, and cut afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_CUT = "..."
_repr = repr
_type_of: Callable[[object], type] = type
_SCALARS = frozenset((int, float, complex, bool, type(None)))
_LONGEST_INT_BITS = 14_286  # of 4301 digits: CPython agrees to print 4300, if it was not told otherwise


class _Full(Exception):
    """The cap is reached."""


def bounded_repr(value: Any, limit: int) -> str:
    """`repr(value)`, at most `limit` characters; a longer one ends in an ellipsis.

    Raises:
        BaseException: whatever a `__repr__` of the user raises.
    """
    kind = _type_of(value)
    if kind is int:
        return _integer(value)
    if kind in _SCALARS:
        return _repr(value)
    writer = _Writer(limit)
    try:
        writer.write(value)
    except _Full:
        return "".join(writer.parts)[: limit - len(_CUT)] + _CUT
    return "".join(writer.parts)


def _integer(value: int) -> str:
    bits = value.bit_length()
    if bits < _LONGEST_INT_BITS:
        try:
            return _repr(value)
        except ValueError:  # more digits than `sys.get_int_max_str_digits()`
            pass
    return f"<int of {bits} bits>"


class _Writer:
    """Collects the text until it is full."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self._left = limit
        self._open: set[int] = set()

    def write(self, value: Any) -> None:
        kind = _type_of(value)
        writer = _CONTAINERS.get(kind)
        if writer is None or len(value) == 0:
            self._add(self._leaf(value, kind))
        elif id(value) in self._open:
            self._add("[...]" if kind is list else "{...}" if kind is dict else "(...)")
        else:
            self._open.add(id(value))
            writer(self, value)
            self._open.discard(id(value))

    def _leaf(self, value: Any, kind: type) -> str:
        if kind is int:
            return _integer(value)
        if kind is str or kind is bytes:
            return _repr(value[: self._left + 1])
        return _repr(value)

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self._left -= len(text)
        if self._left < 0:
            raise _Full

    def _items(self, start: str, items: Any, end: str) -> None:
        self._add(start)
        first = True
        for item in items:
            if not first:
                self._add(", ")
            first = False
            self.write(item)
        self._add(end)

    def list(self, value: Any) -> None:
        self._items("[", value, "]")

    def tuple(self, value: Any) -> None:
        self._items("(", value, ",)" if len(value) == 1 else ")")

    def set(self, value: Any) -> None:
        self._items("{", value, "}")

    def frozenset(self, value: Any) -> None:
        self._items("frozenset({", value, "})")

    def dict(self, value: Any) -> None:
        self._add("{")
        first = True
        for key, item in value.items():
            if not first:
                self._add(", ")
            first = False
            self.write(key)
            self._add(": ")
            self.write(item)
        self._add("}")


_CONTAINERS: dict[type, Callable[[_Writer, Any], None]] = {
    list: _Writer.list,
    tuple: _Writer.tuple,
    set: _Writer.set,
    frozenset: _Writer.frozenset,
    dict: _Writer.dict,
}
