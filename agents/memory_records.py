"""Frozen records to JSON data and back, by the annotations of their fields.

The rule: the classes come from the annotations of our own code and never from the file. Every field is written and has
to be there, no other field may be, and each has exactly its type. A step, which may be one of several classes, says by
`kind` which of these it is.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Final, Literal, Union, cast, get_args, get_origin, get_type_hints

from ..runtime.errors import ConfigError
from .errors import MemoryFileError
from .memory_values import dump_value, load_value

KIND: Final = "kind"


def dump(hint: object, value: object, path: str) -> object:
    """A value of this annotation as JSON data.

    Raises:
        MemoryFileError: a value in it is no plain data.
    """
    origin = get_origin(hint)
    if hint is object or hint is float or _is_free_dict(hint):
        return dump_value(value, path)
    if hint is bytes:
        return base64.b64encode(cast("bytes", value)).decode("ascii")
    if origin in (Union, UnionType):
        return _dump_union(hint, value, path)
    if origin is tuple:
        (item,) = get_args(hint)[:1]
        return [dump(item, entry, f"{path}[{at}]") for at, entry in enumerate(cast("tuple[object, ...]", value))]
    if origin in (dict, Mapping):
        return {key: dump(get_args(hint)[1], entry, path) for key, entry in cast("Mapping[str, object]", value).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return dump_record(hint, value, path)
    return value


def dump_record(kind: type, value: object, path: str, leave_out: frozenset[str] = frozenset()) -> dict[str, object]:
    """The fields of a record as JSON data."""
    hints = fields_of(kind)
    return {
        name: dump(hint, getattr(value, name), f"{path}.{name}")
        for name, hint in hints.items()
        if name not in leave_out
    }


def load(hint: object, data: object, path: str) -> object:
    """The value of this annotation that the JSON data stands for.

    Raises:
        MemoryFileError: it is not one; the message says where.
    """
    simple = _SIMPLE.get(hint)  # type: ignore[call-overload, unused-ignore]  # annotations are hashable
    if simple is not None:
        return simple(data, path)
    origin = get_origin(hint)
    if _is_free_dict(hint):
        return load_value(_object(data, path), path)
    if origin in (Union, UnionType):
        return _load_union(hint, data, path)
    if origin is Literal:
        if not isinstance(data, str) or data not in get_args(hint):
            raise _wrong(path, f"one of {', '.join(map(repr, get_args(hint)))}", data)
        return data
    if origin is tuple:
        (item,) = get_args(hint)[:1]
        return tuple(load(item, entry, f"{path}[{at}]") for at, entry in enumerate(_list(data, path)))
    if origin in (dict, Mapping):
        return {key: load(get_args(hint)[1], entry, path) for key, entry in _object(data, path).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return load_record(hint, data, path)
    raise AssertionError(f"no reader for {hint!r}")


def load_record(kind: type, data: object, path: str, given: Mapping[str, object] | None = None) -> object:
    """The record whose fields these are. `given`: fields that do not come from the data."""
    given = given or {}
    hints = {name: hint for name, hint in fields_of(kind).items() if name not in given}
    fields = _object(data, path)
    if fields.keys() != hints.keys():
        missing, unknown = sorted(hints.keys() - fields.keys()), sorted(fields.keys() - hints.keys())
        raise MemoryFileError(
            f"{path}: missing {missing!s:.200}, unknown {unknown!s:.200}; the file was altered or cut"
        )
    values = {name: load(hint, fields[name], f"{path}.{name}") for name, hint in hints.items()}
    try:
        return kind(**values, **given)
    except (ConfigError, TypeError, ValueError) as exc:
        raise MemoryFileError(f"{path}: {exc!s:.300}; the file was altered") from None


@lru_cache(maxsize=64)
def fields_of(kind: type) -> dict[str, object]:
    """Name and annotation of each field that the constructor takes."""
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(kind) if entry.init}


def _is_free_dict(hint: object) -> bool:
    return get_origin(hint) in (dict, Mapping) and get_args(hint)[1] is object


def _members(hint: object) -> tuple[bool, list[object]]:
    """Whether None is allowed, and what else."""
    members = get_args(hint)
    return NoneType in members, [member for member in members if member is not NoneType]


def _dump_union(hint: object, value: object, path: str) -> object:
    _, members = _members(hint)
    if value is None:
        return None
    if len(members) == 1:
        return dump(members[0], value, path)
    return {KIND: type(value).__name__, **dump_record(type(value), value, path)}


def _load_union(hint: object, data: object, path: str) -> object:
    optional, members = _members(hint)
    if data is None and optional:
        return None
    if len(members) == 1:
        return load(members[0], data, path)
    fields = dict(_object(data, path))
    name = fields.pop(KIND, None)
    kinds = {cast("type", member).__name__: cast("type", member) for member in members}
    if not isinstance(name, str) or name not in kinds:
        raise _wrong(f"{path}.{KIND}", f"one of {', '.join(kinds)}", name)
    return load_record(kinds[name], fields, path)


def _object(data: object, path: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise _wrong(path, "an object", data)
    return cast("dict[str, object]", data)


def _list(data: object, path: str) -> list[object]:
    if not isinstance(data, list):
        raise _wrong(path, "a list", data)
    return cast("list[object]", data)


def _exactly(kind: type) -> Callable[[object, str], object]:
    def read(data: object, path: str) -> object:
        if type(data) is not kind:
            raise _wrong(path, f"of type {kind.__name__}", data)
        return data

    return read


def _number(data: object, path: str) -> float:
    value = load_value(data, path)
    if type(value) not in (int, float) or math.isnan(cast("float", value)):
        raise _wrong(path, "a number", data)
    return cast("float", value)


def _bytes(data: object, path: str) -> bytes:
    try:
        if isinstance(data, str):
            return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _wrong(path, "base64", data)


def _wrong(path: str, wanted: str, data: object) -> MemoryFileError:
    return MemoryFileError(f"{path} has to be {wanted}, not {data!r:.60}; the file was altered or is another version's")


_SIMPLE: Final[dict[object, Callable[[object, str], object]]] = {
    object: load_value,
    str: _exactly(str),
    int: _exactly(int),
    bool: _exactly(bool),
    float: _number,
    bytes: _bytes,
}
