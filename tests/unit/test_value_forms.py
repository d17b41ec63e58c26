"""What is outside the codec's set and still crosses, as the plain data that stands for it."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import collections
import dataclasses
import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Iterator
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
    ],
    ids=repr,
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
