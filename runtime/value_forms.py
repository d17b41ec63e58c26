"""What is outside the codec's set and still crosses, as the plain data that stands for it.

The rule: a subclass of a plain type crosses as that type, an enum's member as its value, what is written as text (an
identifier, a path, an address) as its text, a record (dataclass, pydantic model) as the dict of its fields, what is a
row of items (a deque, a range, a dict's view, numpy's numbers and arrays) as the list of them. All else is refused by
the name of its type, and with a way out where it has one.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum
from typing import Any

from .value_types import ITEM_COST, CrossError, ValueTooLarge

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false
# Values of any kind, and `issubclass` narrows their types to generics of Unknown.

_WHOLE = slice(None)
_PLAIN: tuple[tuple[type, Callable[..., object]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
    (bytes, lambda value: bytes.__getitem__(value, _WHOLE)),
    (dict, dict.copy),
    (list, lambda value: list.__getitem__(value, _WHOLE)),
    (tuple, lambda value: tuple.__getitem__(value, _WHOLE)),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (dt.datetime, lambda value: _moment(value)),
    (dt.date, lambda value: dt.date(value.year, value.month, value.day)),
    (dt.time, lambda value: _time(value)),
    (dt.timedelta, lambda value: dt.timedelta(value.days, value.seconds, value.microseconds)),
    (Decimal, Decimal),
    (bytearray, bytes),
    (memoryview, bytes),
    (deque, lambda value: list(deque.__iter__(value))),
)
"""What a subclass holds, as its plain type, whatever the subclass has made of the methods."""
_TEXTS = frozenset(
    {
        ("uuid", "UUID"),
        ("pathlib", "PurePath"),
        ("pathlib._local", "PurePath"),  # Python 3.13
        ("ipaddress", "_IPAddressBase"),
        ("pydantic.networks", "_BaseUrl"),
        ("pydantic.networks", "_BaseMultiHostUrl"),
        ("pydantic_core._pydantic_core", "Url"),
        ("pydantic_core._pydantic_core", "MultiHostUrl"),
    }
)
"""By name: whoever has such a value has imported its module, and nobody else should pay for that."""
_MOMENTS = frozenset({dt.datetime, dt.time, dt.timedelta})
_NUMPY = frozenset({("numpy", "generic"), ("numpy", "ndarray")})
_ROWS = frozenset({range, type({}.keys()), type({}.values()), type({}.items())})
_CONVERSIONS = ("to_dict", "to_dicts", "to_pylist", "tolist", "model_dump", "_asdict", "isoformat")
"""Methods of tables, tensors, rows and dates that give plain data, by what is asked for first."""


def is_record(kind: type) -> bool:
    """Whether values of the type are records: dataclasses or pydantic models."""
    if issubclass(kind, Enum) or is_root_model(kind):
        return False
    # The first is `is_dataclass`, for whose import a process start pays 10 ms.
    return hasattr(kind, "__dataclass_fields__") or isinstance(getattr(kind, "model_fields", None), dict)


def fields_of(record: object, path: str) -> dict[str, object]:
    """The fields of a record by name, without those that a pydantic model excludes.

    Raises:
        CrossError: a field has no value.
    """
    names: Iterable[str]
    if hasattr(type(record), "__dataclass_fields__"):
        import dataclasses

        names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # looked at above
    else:
        names = getattr(type(record), "model_fields", ())
    hidden = excluded_fields(type(record))
    try:
        return {name: getattr(record, name) for name in names if name not in hidden}
    except AttributeError as exc:
        raise CrossError(f"{type(record).__name__} has a field without a value: {exc.name}", path) from None


def plain_form(value: Any, path: str, room: int) -> object:
    """What stands for a value that is neither plain nor a record; its parts may be anything.

    Args:
        room: parts that may still come. What says that it has more is not looked at.

    Raises:
        CrossError: nothing does.
        ValueTooLarge: it has more parts than there is room for.
    """
    kind = type(value)
    if issubclass(kind, Enum):
        return value.value
    if is_root_model(kind):
        return value.root
    if kind in _ROWS:
        _check_room(len(value), room, path)
        return list(value)
    for plain, unwrap in _PLAIN:
        if issubclass(kind, plain):
            if plain in _MOMENTS and _is_finer(value):
                raise CrossError(f"{kind.__name__} with nanoseconds cannot cross; round it to microseconds", path)
            return unwrap(value)
    names = {(base.__module__, base.__qualname__) for base in kind.__mro__}
    if names & _TEXTS:
        return str(value)
    if names & _NUMPY:
        return _from_numpy(value, path, room)
    raise CrossError(f"{kind.__name__} cannot cross{_way_out(kind)}", path)


def _check_room(parts: int, room: int, path: str) -> None:
    if parts > room:
        raise ValueTooLarge("value_bytes", parts * ITEM_COST, room * ITEM_COST, path)


def _moment(value: dt.datetime) -> dt.datetime | None:
    if value != value:  # pandas' NaT, "no time"
        return None
    date, time = (value.year, value.month, value.day), (value.hour, value.minute, value.second, value.microsecond)
    return dt.datetime(*date, *time, value.tzinfo, fold=value.fold)


def _time(value: dt.time) -> dt.time:
    return dt.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


def _is_finer(value: object) -> bool:
    """Whether it is a time of pandas with a part that a datetime has no room for."""
    parts = getattr(value, "nanosecond", 0), getattr(value, "nanoseconds", 0)
    return any(type(part) is int and part > 0 for part in parts)


def _from_numpy(value: Any, path: str, room: int) -> object:
    """Numbers, texts and what else an array holds, as Python has them; an array as a list, of lists if it is one."""
    parts = 1
    for side in value.shape:  # without a single number in it, it may still be many lists
        parts *= side or 1
    _check_room(parts, room, path)
    plain: object = None if value.dtype.kind in "mM" else value.tolist()
    if plain is None or type(plain) is type(value):
        name = f"{type(value).__name__} of type {value.dtype}"
        raise CrossError(f"{name} cannot cross; convert it to floats, texts or datetimes (astype, tolist)", path)
    return plain


def _way_out(kind: type) -> str:
    """What its author may write instead."""
    if hasattr(kind, "__next__"):
        return "; make a list of it"
    known = next((name for name in _CONVERSIONS if hasattr(kind, name)), None)
    return f"; what its {known}() gives may" if known is not None else ""


def without_numpy(value: Any, room: int) -> Any:
    """The value with numpy's numbers and arrays as Python's, wherever they sit in plain containers. `room` as for
    `plain_form`.

    Raises:
        CrossError: one has no plain form.
        ValueTooLarge: an array has more parts than there is room for.
        RecursionError: it holds itself.
    """
    kind = type(value)
    if kind is dict:
        return {without_numpy(key, room): without_numpy(item, room) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(without_numpy(part, room) for part in value)
    is_numpy = any((base.__module__, base.__qualname__) in _NUMPY for base in kind.__mro__)
    return _from_numpy(value, "result", room) if is_numpy else value


def excluded_fields(kind: type) -> set[str]:
    """Names of the fields that a pydantic model or dataclass keeps to itself, `Field(exclude=True)`."""
    fields: dict[str, object] = getattr(kind, "__pydantic_fields__", {})
    return {name for name, field in fields.items() if getattr(field, "exclude", None) is True}


def is_root_model(kind: type) -> bool:
    """Whether it is a pydantic `RootModel`, which is written as what it holds."""
    return getattr(kind, "__pydantic_root_model__", False) is True
