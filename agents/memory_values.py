"""Values in a memory file: JSON where JSON says it exactly, the value codec where it does not.

The rule: what is read back equals what was written, type by type, and a text stays a text whatever it looks like. None,
bool, str, integers of 64 bits, finite floats, lists and dicts with text keys are written as they are. All else of the
codec's closed set (bytes, tuples, sets, dates, Decimals, large integers, NaN, other keys) is `{"$value": base64}` of
the codec's own bytes, whose decoder builds nothing outside that set and counts before it builds.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, cast

from pydantic import BaseModel

from ..runtime.values import BadValue, CrossError, ValueLimits, ValueTooLarge, decode_counted, encode
from .errors import MemoryFileError

TAG: Final = "$value"
MAX_DEPTH: Final = 100
"""Of nested values. The file itself may go `memory.MAX_DEPTH` deep."""
INT_BITS: Final = 63
HOST_BYTES: Final = 64 * 1024 * 1024
"""Memory that all tagged values of one file may take together, as the codec charges it; at 64 bytes for each part it
is also what bounds the time of a hostile file."""
_LIMITS: Final = ValueLimits(size=1024 * 1024 * 1024, depth=MAX_DEPTH)
_left: ContextVar[list[int]] = ContextVar("cloche_memory_left")
"""What is left for the file that is being read: one number in a list."""


@contextmanager
def reading(host_bytes: int) -> Generator[None]:
    """Tagged values that are read in this block share one allowance."""
    token = _left.set([host_bytes])
    try:
        yield
    finally:
        _left.reset(token)


def dump_value(value: object, path: str) -> object:
    """The value as JSON data. Models of pydantic and dataclasses become dicts.

    Raises:
        MemoryFileError: it, or a part of it, is outside the set.
    """
    return _dump(value, path, MAX_DEPTH)


def load_value(data: object, path: str) -> object:
    """What `dump_value` made this of. Bounded by the file, which was counted before.

    Raises:
        MemoryFileError: a tag that no `dump_value` writes.
    """
    if isinstance(data, list):
        return [load_value(item, path) for item in cast("list[object]", data)]
    if isinstance(data, dict):
        fields = cast("dict[str, object]", data)
        if TAG in fields:
            return _decoded(fields, path)
        return {key: load_value(item, path) for key, item in fields.items()}
    return data


def _dump(value: object, path: str, depth: int) -> object:
    if depth < 0:
        raise MemoryFileError(f"{path} is nested deeper than {MAX_DEPTH} or holds itself; save a flat copy of it")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int and cast("int", value).bit_length() <= INT_BITS:
        return value
    if kind is float and math.isfinite(cast("float", value)):
        return value
    if kind is list:
        return [_dump(item, f"{path}[{at}]", depth - 1) for at, item in enumerate(cast("list[object]", value))]
    if kind is dict and _text_keys(cast("dict[object, object]", value)):
        items = cast("dict[str, object]", value).items()
        return {key: _dump(item, f"{path}[{key!r:.40}]", depth - 1) for key, item in items}
    record = _fields_of(value)
    return _encoded(value, path) if record is None else _dump(record, path, depth)


def _text_keys(value: dict[object, object]) -> bool:
    return TAG not in value and all(type(key) is str for key in value)


def _fields_of(value: object) -> dict[str, object] | None:
    """The fields of a model or dataclass; None for other things."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="python")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping) and type(cast("object", value)) is not dict:
        return dict(cast("Mapping[str, object]", value))
    return None


def _encoded(value: object, path: str) -> dict[str, str]:
    try:
        return {TAG: base64.b64encode(encode(value, _LIMITS, path)).decode("ascii")}
    except CrossError as exc:
        raise MemoryFileError(
            f"{exc}: only plain data can be saved; give the run an answer of plain data or of a pydantic model"
        ) from None


def _decoded(fields: dict[str, object], path: str) -> object:
    text = fields[TAG]
    if len(fields) != 1 or not isinstance(text, str):
        raise MemoryFileError(f"{path}: a tagged value has the field {TAG!r} and nothing else; the file was altered")
    try:
        left = _left.get([HOST_BYTES])
        limits = ValueLimits(size=max(1, left[0]), depth=MAX_DEPTH)
        value, charged = decode_counted(base64.b64decode(text, validate=True), limits, path)
        left[0] -= charged
        return value
    except ValueTooLarge as exc:
        raise MemoryFileError(
            f"{exc!s:.200}: the values of the file are too large; raise max_bytes= if it is yours"
        ) from None
    except (BadValue, CrossError, binascii.Error, ValueError) as exc:
        raise MemoryFileError(f"{path}: not a value ({exc!s:.200}); the file was altered") from None
