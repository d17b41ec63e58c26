"""The value codec: what crosses, what does not and how it is said, and what hostile bytes get."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import dataclasses
import datetime as dt
import itertools
import marshal  # noqa: TID251  # to write what a hostile guest may send
import struct
import zoneinfo
from collections.abc import Callable, Iterable
from decimal import Decimal

import pytest
from pydantic import BaseModel

from cloche.runtime.values import (
    EXTENDED,
    PLAIN,
    BadValue,
    CrossError,
    ValueLimits,
    ValueTooLarge,
    decode,
    decode_counted,
    encode,
)

LIMITS = ValueLimits()
UTC = dt.UTC


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class Order(BaseModel):
    item: str
    points: list[Point]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**31 - 1,
        2**31,
        -(2**31),
        -(2**31) - 1,
        2**200,
        -(2**15),
        1.5,
        -0.0,
        float("inf"),
        "",
        "tea",
        "é\U0001f9ea",
        "\0",
        b"",
        b"\xff\0",
        [],
        (),
        {},
        set(),
        frozenset(),
        [1, (2, [3])],
        {1: {2}, "a": frozenset([3]), (1, "x"): None, b"k": 1.0, None: True},
        dt.date(2020, 2, 29),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(minutes=-90))),
        dt.timedelta(-1, 5, 6),
        dt.timedelta.max,
        UTC,
        dt.timezone(dt.timedelta(hours=5, minutes=45)),
        Decimal("1.50"),
        Decimal("-0"),
        Decimal("Infinity"),
        [2**100, dt.date.min, {"deep": (Decimal("1E+10"),)}],
    ],
    ids=repr,
)
def test_every_type_of_the_closed_set_comes_back_as_it_was(value: object) -> None:
    back = decode(encode(value, LIMITS), LIMITS)

    assert (repr(back), type(back)) == (repr(value), type(value))


def test_nan_and_the_fold_of_a_time_survive() -> None:
    assert repr(decode(encode([float("nan"), Decimal("sNaN12")], LIMITS), LIMITS)) == "[nan, Decimal('sNaN12')]"
    late = dt.datetime(2024, 10, 27, 2, 30, fold=1)
    back = decode(encode(late, LIMITS), LIMITS)
    assert isinstance(back, dt.datetime)
    assert (back, back.fold) == (late, 1)


def test_dataclasses_and_models_become_plain_dicts() -> None:
    assert decode(encode(Order(item="tea", points=[Point(1, 2)]), LIMITS), LIMITS) == {
        "item": "tea",
        "points": [{"x": 1, "y": 2}],
    }


def ring() -> list[object]:
    ring: list[object] = []
    ring.append({"back": ring})
    return ring


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rows": [1, object()]}, "inputs['rows'][1]: object cannot cross"),
        (len, "inputs: builtin_function_or_method cannot cross"),
        (Point, "inputs: type cannot cross"),
        (1j, "inputs: complex cannot cross"),
        (..., "inputs: ellipsis cannot cross"),
        ("a\ud800b", "inputs: str with a lone surrogate at index 1"),
        (["\udfff"], "inputs[0]: str with a lone surrogate at index 0"),
        (ring(), "inputs[0]['back']: contains itself"),
        ({Point(1, 2)}, "inputs[0]: Point cannot cross inside a set or as a dict key"),
        ({(Point(1, 2),): 1}, "inputs key[0]: Point cannot cross inside a set or as a dict key"),
        (
            dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
            "inputs: time zone of type ZoneInfo; use datetime.timezone",
        ),
        (dt.timezone(dt.timedelta(0), "CET"), "inputs: a named time zone; only fixed offsets cross"),
    ],
)
def test_what_cannot_cross_is_named_with_its_place(value: object, message: str) -> None:
    with pytest.raises(CrossError) as caught:
        encode(value, LIMITS, "inputs")

    assert str(caught.value) == message


def test_a_dataclass_with_a_field_missing_is_named() -> None:
    @dataclasses.dataclass
    class Half:
        there: int
        missing: int = dataclasses.field(init=False)

    with pytest.raises(CrossError, match="Half has a field without a value: missing"):
        encode(Half(1), LIMITS)


SMALL = ValueLimits(size=1000, depth=3, digits=30)


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("x" * 937, "value_bytes"),
        (b"x" * 937, "value_bytes"),
        (["x"] * 15, "value_bytes"),
        ("é" * 300, "value_bytes"),
        ([[[[]]]], "value_depth"),
        ({1: {2: {3: {}}}}, "value_depth"),
        (10**30, "int_digits"),
        ([-(10**30)], "int_digits"),
        (10**31, "int_digits"),
        ([-(10**40)], "int_digits"),
        (Decimal("1" * 31), "int_digits"),
        (Decimal("1E+31"), "int_digits"),
        (Decimal("0E-999999999"), "int_digits"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_over_a_limit_is_refused_by_both_sides(value: object, limit: str) -> None:
    with pytest.raises(ValueTooLarge) as caught:
        encode(value, SMALL)
    assert caught.value.limit == limit

    with pytest.raises(ValueTooLarge) as caught:
        decode(encode(value, ValueLimits(digits=10**10)), SMALL)
    assert caught.value.limit == limit


@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_of_exactly_the_digits_crosses_and_the_host_can_print_it(sign: int) -> None:
    value = sign * (10**4300 - 1)

    crossed = decode(encode([value], LIMITS), LIMITS)

    assert crossed == [value]
    assert len(str(crossed)) == 4302 + (sign < 0)


@pytest.mark.parametrize("value", ["x" * 936, b"x" * 936, ["x"] * 14, "é" * 234, [[[]]], 10**30 - 1, Decimal("1" * 30)])
def test_a_value_just_inside_a_limit_passes_both_sides(value: object) -> None:
    assert decode(encode(value, SMALL), SMALL) == value


def test_depth_at_the_most_that_limits_allow_needs_no_more_stack_than_there_is() -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    limits = ValueLimits(depth=400)

    assert decode(encode(deep, limits), limits) == deep


def test_a_shared_list_is_written_as_often_as_it_stands_there_and_counted() -> None:
    laugh: list[object] = ["ha"]
    for _ in range(30):
        laugh = [laugh] * 10

    with pytest.raises(ValueTooLarge):
        encode(laugh, LIMITS)


def test_the_charge_of_a_value_is_told() -> None:
    assert decode_counted(encode(["tea", 1], LIMITS), LIMITS) == (["tea", 1], 3 * 64 + 3)


def length(count: int) -> bytes:
    return struct.pack("<i", count)


PLAIN_BYTE, EXTENDED_BYTE = bytes((PLAIN,)), bytes((EXTENDED,))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        b"\1",
        b"\2N",
        b"\0NN",
        b"\0u" + length(5) + b"tea",
        b"\0u" + length(-1),
        b"\0u" + length(2**31 - 1) + b"x",
        b"\0u" + length(1) + b"\xff",
        b"\0s" + length(9) + b"x",
        b"\0i\0\0",
        b"\0g\0\0",
        b"\0[" + length(3) + b"N",
        b"\0[" + length(-1),
        b"\0{N",
        b"\0{N0",
        b"\0{[" + length(0) + b"N0",
        b"\0{NNNN0",
        b"\0<" + length(1) + b"[" + length(0),
        b"\0>" + length(2) + b"NN",
        b"\0" + b"0",
        b"\0[" + length(1) + b"0",
        b"\0l" + length(0),
        b"\0l" + length(2) + b"\1\0\0\0",
        b"\0l" + length(1) + b"\xff\xff",
        b"\0d\x031.5",
        b"\1d\x03abc",
        b"\1D\x0a2020-99-99",
        b"\1e\x05a;b;c",
        b"\1e\x031;2",
        b"\1z\x0b999999999;0",
        b"\1m\x04\xff\xff\xff\xff",
        b"\1d\xff" + length(-1),
        *[b"\0" + bytes((tag,)) + b"\0" * 8 for tag in range(256) if chr(tag) not in "NTFigusl[(<>{"],
    ],
    ids=lambda raw: raw[:12].hex(),
)
def test_bytes_that_no_encoder_writes_are_a_bad_value(raw: bytes) -> None:
    with pytest.raises(BadValue):
        decode(raw, LIMITS)


@pytest.mark.parametrize("code", [compile("1", "x", "eval"), 1j, ..., StopIteration])
@pytest.mark.guarantee("G21")
def test_nothing_that_marshal_could_build_beside_data_is_built(code: object) -> None:
    with pytest.raises(BadValue):
        decode(b"\0" + marshal.dumps(code, 2), LIMITS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda i: i * (2**61 - 1),
        lambda i: Decimal(i * (2**61 - 1)),
        lambda i: (i * (2**61 - 1), "x"),
        lambda i: frozenset([i * (2**61 - 1)]),
    ],
    ids=["int", "Decimal", "tuple", "frozenset"],
)
@pytest.mark.guarantee("G22")
def test_keys_made_to_collide_are_refused_before_the_dict_is_built(make: Callable[[int], object]) -> None:
    keys = [make(i) for i in range(1, 400)]

    for value in (dict.fromkeys(keys), set(keys), frozenset(keys)):
        with pytest.raises(ValueTooLarge, match="^value, keys: value_bytes"):
            decode(encode(value, LIMITS), LIMITS)
    assert decode(encode(keys, LIMITS), LIMITS) == keys


@pytest.mark.parametrize(
    "keys",
    [
        [(x, y) for x in range(-50, 51) for y in range(-50, 51)],
        [(x, y, z) for x in range(-8, 9) for y in range(-8, 9) for z in range(-8, 9)],
        [2**k for k in range(5000)],
        [2**k - 1 for k in range(2000)],
        [2.0**k for k in range(-1074, 1024)],
        [Decimal(2) ** k for k in range(200)],
        list(range(-1000, 1000)),
    ],
    ids=["grid", "space", "powers", "one less", "float powers", "Decimal powers", "integers"],
)
def test_keys_of_ordinary_data_that_happen_to_collide_cross(keys: list[object]) -> None:
    for value in (dict.fromkeys(keys), set(keys), frozenset(keys)):
        assert decode(encode(value, LIMITS), LIMITS) == value


@pytest.mark.guarantee("G22")
def test_keys_that_collide_here_and_there_may_not_cost_more_together() -> None:
    """Many harmless ones do not buy one bucket that takes long."""
    keys = [*range(1000), *(i * (2**61 - 1) for i in range(1, 600))]
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode(dict.fromkeys(keys), LIMITS), LIMITS)


@pytest.mark.guarantee("G22")
def test_many_containers_of_colliding_keys_cost_no_more_than_one() -> None:
    value = [dict.fromkeys(i * (2**61 - 1) + n for i in range(1, 70)) for n in range(40)]
    assert decode(encode(value[0], LIMITS), LIMITS) == value[0]
    keys = [dict.fromkeys((n, i * (2**61 - 1)) for i in range(1, 400)) for n in range(3)]
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode([value, keys], LIMITS), LIMITS)


@pytest.mark.guarantee("G22")
def test_long_keys_that_differ_in_the_end_count_by_their_length() -> None:
    """Each comparison goes through all of both."""
    keys = [(*range(40), *signs) for signs in itertools.product((-1, -2), repeat=8)]
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode(set(keys), LIMITS), LIMITS)


def nested(sizes: list[int], last: int) -> frozenset[object]:
    """Sets of sets, all of whose leaves have one hash; `last` tells two of them apart, and is looked at last."""
    size, *inner = sizes
    if not inner:
        return frozenset(HASH * n + 7 for n in range(size - 1)) | {HASH * (size + last) + 7}
    return frozenset(nested(inner, last * size + n) for n in range(size))


HASH = 2**61 - 1


@pytest.mark.guarantee("G22")
@pytest.mark.parametrize("sizes", [[40, 40, 40], [32, 32, 32], [20, 20, 20, 4]])
def test_sets_of_sets_are_refused_where_one_comparison_takes_long(sizes: list[int]) -> None:
    limits = ValueLimits(depth=10)
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode([nested(sizes, 0), nested(sizes, 1)], limits), limits)


@pytest.mark.guarantee("G22")
def test_integers_that_decimals_are_held_against_are_refused() -> None:
    """For that each is made a Decimal, which takes time with the square of its digits."""
    numbers: list[object] = [10**4200 * HASH + 7 + n * HASH for n in range(20)]
    numbers += [Decimal(7 + n * HASH) for n in range(1, 20)]
    assert len(set(map(hash, numbers))) == 1
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode(dict.fromkeys(numbers), LIMITS), LIMITS)
    few = [{10**4200: 1, -1: 3, -2: 4}, {Decimal(7): 2}, {frozenset([-1]): 1, 5: 2}, Decimal(-1)]
    assert decode(encode(few, LIMITS), LIMITS) == few


@pytest.mark.guarantee("G22")
@pytest.mark.parametrize("make", [dict.fromkeys, set, frozenset])
def test_a_large_table_is_built_under_a_clock(
    make: Callable[[Iterable[int]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of different hashes can be made to meet in it, too: what it takes is what is held."""
    value = make(range(5000))
    assert decode(encode(value, LIMITS), LIMITS) == value
    clock = itertools.count(step=0.01)
    monkeypatch.setattr("cloche.runtime.value_decoder._cpu_s", lambda: next(clock))
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode(value, LIMITS), LIMITS)
    few = [make(range(1000)) for _ in range(20)]
    assert decode(encode(few, LIMITS), LIMITS) == few
    several = [make(range(1500)) for _ in range(4)]
    with pytest.raises(ValueTooLarge, match="^value, keys"):
        decode(encode(several, LIMITS), LIMITS)


@pytest.mark.guarantee("G22")
def test_a_length_is_checked_before_anything_of_it_is_built() -> None:
    with pytest.raises(ValueTooLarge):
        decode(b"\0[" + length(2**31 - 1), LIMITS)
