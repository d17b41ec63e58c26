"""Frozen records with strict JSON: what frames are made of. A record is a dataclass; its annotations are its schema.

The rule: reading is strict. Exactly the declared keys, each once, each of exactly its type and within its bounds; a
value is checked before anything is built from it. Why not pydantic here: its import and the building of twenty models
cost a process start 200 ms, more than everything else together.
"""

from __future__ import annotations

# pyright: reportUnknownMemberType=false
# what JSON gives is looked at item by item
import json
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin

from .plain import fields, record

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# `type(value) is list` narrows Any to list[Unknown]; each item is looked at before it is used.

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
RecordT = TypeVar("RecordT", bound="Record")
_Check = Callable[[Any], Any]


class WrongRecord(ValueError):
    """JSON that is not the record it should be; the text names the place and never quotes the input."""


@record
class Range:
    """Bounds of a number, for `Annotated`. NaN and infinity are outside every range."""

    least: float
    below: float


@record
class Longest:
    """Greatest length of a text or array, for `Annotated`."""

    length: int


@record(kw_only=True)
class Record:
    """Base of all records. Compared by value; unknown and missing keys are errors."""

    def to_json(self) -> dict[str, Json]:
        """The record as plain data, every field present."""
        return {name: _plain(getattr(self, name)) for name in _names(self.__class__)}

    @classmethod
    def from_json(cls: type[RecordT], data: object) -> RecordT:
        """The record that the data describes.

        Raises:
            WrongRecord: it describes none of this kind.
        """
        return cast("RecordT", _record_check(cls, "")(data))


@record(kw_only=True)
class TaggedRecord(Record):
    """A record whose JSON starts with `"type"`, the constant of its class."""

    type: ClassVar[str]

    def to_json(self) -> dict[str, Json]:
        return {"type": self.type, **{name: _plain(getattr(self, name)) for name in _names(self.__class__)}}


def read_tagged(kinds: dict[str, type[TaggedRecord]], text: bytes) -> TaggedRecord:
    """The record of one of these kinds that the JSON text describes.

    Raises:
        WrongRecord: it describes none of them.
    """
    try:
        source = str(text, "utf-8")
        pairs, end = _scan(source, 0)
    except StopIteration:
        raise WrongRecord("no JSON") from None
    except (ValueError, RecursionError) as exc:
        raise WrongRecord(f"no JSON: {type(exc).__name__}") from None
    if type(pairs) is not tuple or end != len(source):
        raise WrongRecord("not one object")
    data = _unique(pairs)
    tag = data.pop("type", None)
    kind = kinds.get(tag) if type(tag) is str else None
    if kind is None:
        raise WrongRecord("unknown type")
    record: TaggedRecord = (_CHECKS.get((kind, kind.type)) or _record_check(kind, kind.type))(data)
    return record


def dump(data: dict[str, Json]) -> bytes:
    """What `to_json` gave, as compact ASCII JSON."""
    return _ENCODER.encode(data).encode("ascii")


# --- checks, one per annotation, built on first use -------------------------------------------------------------------


_CHECKS: dict[tuple[type[Record], str], _Check] = {}


def _record_check(kind: type[Record], place: str) -> _Check:
    """Reads one record. `place` is where it stands, for the error's text; it is bound here, not at each call."""
    check = _CHECKS.get((kind, place))
    if check is None:
        check = _CHECKS[kind, place] = _new_record_check(kind, place)
    return check


def _new_record_check(kind: type[Record], place: str) -> _Check:
    hints = typing.get_type_hints(kind, include_extras=True)
    rows = [(name, _check_of(hints[name], f"{place}.{name}"), *_at_sight(hints[name])) for name in _names(kind)]
    count = len(rows)
    wrong = f"wrong fields at {place or 'the top'}"

    def check(value: Any) -> Record:
        if type(value) is tuple:
            value = _unique(value)
        if type(value) is not dict or len(value) != count:
            raise WrongRecord(wrong)
        built: dict[str, Any] = {}
        for name, one, plain, least, below in rows:
            if name not in value:
                raise WrongRecord(wrong)
            field = value[name]
            sort = type(field)
            # Every frame goes through here: what is right at sight costs no call.
            right = sort in plain or (sort is int and least <= field < below)
            built[name] = field if right else one(field)
        return kind(**built)

    return check


def _at_sight(hint: Any) -> tuple[frozenset[type], float, float]:
    """What needs no further look: values of these types, and whole numbers from the first bound to below the second.
    The check of the annotation takes them as well."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bool:
        return frozenset((bool,)), 0, 0
    if origin in (Union, types.UnionType):
        return frozenset((type(None),)), 0, 0
    if origin is Annotated and arguments[0] is int and isinstance(arguments[1], Range):
        return frozenset(), arguments[1].least, arguments[1].below
    return frozenset(), 0, 0


def _check_of(hint: Any, place: str) -> _Check:
    """The check for one annotation; only the forms that our records use exist."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(arguments[0], arguments[1], place)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        check = _check_of(inner, place)
        return lambda value: None if value is None else check(value)
    if origin is Literal:
        return _one_of(frozenset(arguments), place)
    if origin is tuple:
        return _array(_check_of(arguments[0], place), sys.maxsize, place)
    if isinstance(hint, type) and issubclass(hint, Record):
        return _record_check(hint, place)
    return _SCALARS[hint](place)


def _bounded(hint: Any, bound: Range | Longest, place: str) -> _Check:
    """Kind and bound in one look: these run for every frame."""
    if isinstance(bound, Range):
        return _whole(bound, place) if hint is int else _number(bound, place)
    if get_origin(hint) is tuple:
        return _numbers(hint, bound.length, place) or _array(_check_of(get_args(hint)[0], place), bound.length, place)
    return _text(place, bound.length)


def _whole(bounds: Range, place: str) -> _Check:
    least, below = bounds.least, bounds.below

    def check(value: Any) -> int:
        if type(value) is not int:
            raise WrongRecord(f"no int at {place}")
        if not least <= value < below:
            raise WrongRecord(f"out of range at {place}")
        return value

    return check


def _number(bounds: Range, place: str) -> _Check:
    def check(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise WrongRecord(f"no number at {place}")
        if not bounds.least <= value < bounds.below:  # NaN and infinities fail this
            raise WrongRecord(f"out of range at {place}")
        return float(value)

    return check


def _text(place: str, length: int = sys.maxsize) -> _Check:
    def check(value: Any) -> str:
        if type(value) is not str:
            raise WrongRecord(f"no str at {place}")
        if len(value) > length:
            raise WrongRecord(f"too long at {place}")
        if not value.isascii() and not _encodable(value):
            raise WrongRecord(f"lone surrogate at {place}")
        return value

    return check


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _one_of(allowed: frozenset[str], place: str) -> _Check:
    def check(value: Any) -> str:
        if type(value) is not str or value not in allowed:
            raise WrongRecord(f"unknown word at {place}")
        return value

    return check


def _array(one: _Check, length: int, place: str) -> _Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise WrongRecord(f"no array at {place}")
        if len(value) > length:  # before anything is built of it
            raise WrongRecord(f"too long at {place}")
        return tuple([one(item) for item in value])

    return check


def _numbers(hint: Any, length: int, place: str) -> _Check | None:
    """The check for an array of whole numbers in a range, which every frame has: one call for all of them."""
    item = get_args(hint)[0]
    if get_origin(item) is not Annotated or get_args(item)[0] is not int:
        return None
    bounds = get_args(item)[1]
    least, below = bounds.least, bounds.below
    slowly = _array(_whole(bounds, place), length, place)

    def check(value: Any) -> tuple[int, ...]:
        if type(value) is list and len(value) <= length:
            for item in value:
                if type(item) is not int or not least <= item < below:
                    break
            else:
                return tuple(value)
        found: tuple[int, ...] = slowly(value)  # says what is wrong
        return found

    return check


def _exactly(kind: type) -> Callable[[str], _Check]:
    def make(place: str) -> _Check:
        def check(value: Any) -> Any:
            if type(value) is not kind:
                raise WrongRecord(f"no {kind.__name__} at {place}")
            return value

        return check

    return make


_SCALARS: dict[Any, Callable[[str], _Check]] = {bool: _exactly(bool), int: _exactly(int), str: _text}


_NAMES: dict[type[Record], tuple[str, ...]] = {}


def _names(kind: type[Record]) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    return names


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    return [_plain(item) for item in value] if type(value) is tuple else value


def _unique(pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """An object as the scanner below gives it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WrongRecord("a key twice")
    return found


def _no_constant(name: str) -> float:
    raise WrongRecord("a number that is none")


_scan = cast(
    "Callable[[str, int], tuple[Any, int]]",
    # The type stubs of the standard library leave `scan_once` out.
    json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant).scan_once,  # type: ignore[attr-defined]
)
"""CPython's scanner itself: no white space around the value, which no frame of ours has. Objects come as tuples of
pairs, so that a key that stands there twice is seen."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
