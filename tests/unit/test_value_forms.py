"""What is outside the codec's set and still crosses, as the plain data that stands for it."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import array
import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import pytest
from pydantic import BaseModel, Field, HttpUrl, RootModel, TypeAdapter

from cloche.runtime.values import CrossError, ValueLimits, ValueTooLarge, decode, encode

LIMITS = ValueLimits()


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class Color(enum.IntEnum):
    RED = 1


class Shade(enum.StrEnum):
    DARK = "dark"


class Odd(enum.Enum):
    POINT = Point(1, 2)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what it holds"


class Row(NamedTuple):
    name: str
    place: pathlib.PurePath


class Secret(BaseModel):
    name: str
    key: str = Field(exclude=True)


class Numbers(RootModel[list[int]]):
    pass


class Moment(dt.datetime):
    """As a library has its own."""


class Attributes(dict[str, int]):
    """Its items are its attributes, too: whoever asks for another gets a KeyError."""

    def __getattr__(self, name: str) -> int:
        return self[name]


class Never(dt.datetime):
    """pandas' NaT is one of these, and equals nothing."""

    def __ne__(self, other: object) -> bool:
        return True


class Bag(list[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([0])


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ([Text("x")], ["x"]),
        (Color.RED, 1),
        ({Color.RED: {Shade.DARK}}, {1: {"dark"}}),
        (Odd.POINT, {"x": 1, "y": 2}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Row("a", pathlib.PurePosixPath("/out/a.csv")), ("a", "/out/a.csv")),
        ({Row("a", pathlib.PurePosixPath("b"))}, {("a", "b")}),
        (Bag([1, 2]), [1, 2]),
        (type("Sum", (int,), {"__int__": lambda self: 0})(2**70), 2**70),
        (type("Rate", (float,), {})(1.5), 1.5),
        (type("Raw", (bytes,), {})(b"ab"), b"ab"),
        (type("Names", (set,), {})({1}), {1}),
        (type("Names", (frozenset,), {})({1}), frozenset({1})),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (ipaddress.ip_address("::1"), "::1"),
        (TypeAdapter(HttpUrl).validate_python("https://example.com/a"), "https://example.com/a"),
        ([Secret(name="a", key="hidden")], [{"name": "a"}]),
        (Numbers([1, 2]), [1, 2]),
        (collections.deque([1, 2], 2), [1, 2]),
        (range(3), [0, 1, 2]),
        ([{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()], [["a"], [1], [("a", 1)]]),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab")[1:], b"b"),
        (Moment(2024, 2, 29, 12, 30, 1, 5, dt.UTC, fold=1), dt.datetime(2024, 2, 29, 12, 30, 1, 5, dt.UTC, fold=1)),
        (type("Day", (dt.date,), {})(2024, 2, 29), dt.date(2024, 2, 29)),
        (type("Hour", (dt.time,), {})(1, 2, 3, 4, fold=1), dt.time(1, 2, 3, 4, fold=1)),
        (type("Span", (dt.timedelta,), {})(1, 2, 3), dt.timedelta(1, 2, 3)),
        (type("Money", (Decimal,), {})("1.50"), Decimal("1.50")),
        (Never(1, 1, 1), None),
        (Attributes(nanosecond=5), {"nanosecond": 5}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_a_plain_form_crosses_as_that(value: object, plain: object) -> None:
    back = decode(encode(value, LIMITS), LIMITS)

    assert (repr(back), type(back)) == (repr(plain), type(plain))


class Paint(enum.Enum):
    RED = [255, 0, 0]  # such a value is what is tested


class Number(int):
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    "value",
    [
        {Paint.RED: "a"},
        {Paint.RED},
        {Odd.POINT: 1},
        {Number(1): 1, Number(True): 2},
        {uuid.UUID(int=1): 1, str(uuid.UUID(int=1)): 2},
        {(Number(1), 2): 1, (1, 2): 2},
        [{"deep": {Paint.RED}}],
    ],
    ids=repr,
)
def test_keys_that_do_not_serve_as_plain_data_are_refused_here_and_not_taken_for_an_attack_there(value: object) -> None:
    with pytest.raises(CrossError, match=r"^inputs"):
        encode(value, LIMITS, "inputs")


def test_a_plain_form_costs_what_it_stands_for() -> None:
    limits = ValueLimits(size=64 * 11)
    assert decode(encode([Color.RED] * 10, limits), limits) == [1] * 10
    with pytest.raises(ValueTooLarge):
        encode([Color.RED] * 11, limits)


def test_a_plain_form_that_holds_itself_ends_at_the_limit_of_depth() -> None:
    ring = collections.defaultdict[str, object](list)
    ring["back"] = ring
    with pytest.raises(ValueTooLarge, match="value_depth"):
        encode(ring, LIMITS)


# --- what has a way out, and numpy ------------------------------------------------------------------------------------


class Table:
    def to_dict(self) -> dict[str, list[int]]:
        return {"a": [1]}


class Fine(dt.datetime):
    """As pandas' Timestamp."""

    nanosecond = 7


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (iter([1]), "value: list_iterator cannot cross; make a list of it"),
        ([map(str, [1])], "value[0]: map cannot cross; make a list of it"),
        (Table(), "value: Table cannot cross; what its to_dict() gives may"),
        (array.array("i", [1]), "value: array cannot cross; what its tolist() gives may"),
        (Fine(2024, 1, 1), "value: Fine with nanoseconds cannot cross; round it to microseconds"),
        (1j, "value: complex cannot cross"),
    ],
    ids=["iterator", "map", "table", "array", "nanoseconds", "complex"],
)
def test_what_has_none_is_refused_with_the_way_out_that_it_has(value: object, words: str) -> None:
    with pytest.raises(CrossError) as caught:
        encode(value, LIMITS)
    assert str(caught.value) == words


def test_a_range_is_measured_before_it_is_written_out() -> None:
    with pytest.raises(ValueTooLarge, match="value_bytes"):
        encode({"all": range(10**15)}, LIMITS)


class DataType:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __str__(self) -> str:
        return f"type {self.kind}"


class generic:  # it is looked up by this name
    """What cloche knows of numpy: a name, a shape, a type, and `tolist`. test_numpy.py has the real one."""

    __module__ = "numpy"

    def __init__(self, plain: object, size: int = 1, kind: str = "i") -> None:
        self.plain, self.dtype = plain, DataType(kind)
        self.shape: tuple[int, ...] = (size,)

    def tolist(self) -> object:
        return self.plain


class int64(generic):
    __module__ = "numpy"


def test_numbers_and_arrays_of_numpy_cross_as_numbers_and_lists() -> None:
    value = {"sum": int64(5), "rows": generic([[1, 2], [3, 4]], size=4)}
    assert decode(encode(value, LIMITS), LIMITS) == {"sum": 5, "rows": [[1, 2], [3, 4]]}


def test_an_array_is_measured_before_it_is_written_out() -> None:
    with pytest.raises(ValueTooLarge, match="value_bytes"):
        encode(generic(None, size=10**9), LIMITS)
    rows = generic(None)
    rows.shape = (10**9, 0)
    with pytest.raises(ValueTooLarge, match="value_bytes"):
        encode(rows, LIMITS)


@pytest.mark.parametrize("kind", ["m", "M"])
def test_times_of_numpy_are_refused_for_they_would_be_bare_numbers(kind: str) -> None:
    with pytest.raises(CrossError, match=f"int64 of type type {kind} cannot cross; convert it"):
        encode(int64(1, kind=kind), LIMITS)


def test_a_number_that_only_numpy_has_is_refused() -> None:
    wide = int64(None)
    wide.plain = wide
    with pytest.raises(CrossError, match="int64 of type type i cannot cross"):
        encode(wide, LIMITS)
