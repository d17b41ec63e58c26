"""The value codec under arbitrary values and arbitrary bytes."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import datetime as dt
import marshal  # noqa: TID251  # reads our own bytes, as the guest does
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.runtime.values import (
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
ZONES = st.none() | st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary()
EXTENDED_SCALARS = (
    st.dates()
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
)
SCALARS = PLAIN_SCALARS | EXTENDED_SCALARS
KEYS = st.recursive(
    SCALARS.filter(lambda key: key == key),
    lambda keys: st.tuples(keys, keys) | st.frozensets(keys, max_size=3),
    max_leaves=5,
)


def nested(scalars: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        scalars,
        lambda values: (
            st.lists(values, max_size=5)
            | st.tuples(values, values)
            | st.dictionaries(KEYS, values, max_size=5)
            | st.sets(KEYS, max_size=5)
            | st.frozensets(KEYS, max_size=5)
        ),
        max_leaves=30,
    )


VALUES = nested(SCALARS)
LIMIT_STRATEGY = st.builds(ValueLimits, st.integers(64, 4000), st.integers(1, 6), st.integers(20, 60))


def shape(value: object) -> object:
    """The value with its types, in a form in which NaN equals itself and the order of a set does not count."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return kind, [shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    if isinstance(value, dict):
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    fold = value.fold if isinstance(value, dt.datetime | dt.time) else 0
    return kind, repr(value), fold


@given(VALUES)
@pytest.mark.guarantee("G21")
def test_every_value_comes_back_as_it_was(value: object) -> None:
    assert shape(decode(encode(value, LIMITS), LIMITS)) == shape(value)


@given(nested(PLAIN_SCALARS))
def test_the_plain_format_is_what_marshal_reads(value: object) -> None:
    raw = encode(value, LIMITS)

    if raw[0] == PLAIN:
        assert shape(marshal.loads(raw[1:])) == shape(value)  # noqa: S302  # our own bytes, as the guest reads them


@given(VALUES, LIMIT_STRATEGY)
def test_what_one_side_may_send_the_other_may_read(value: object, limits: ValueLimits) -> None:
    with suppress(ValueTooLarge):
        raw = encode(value, limits)
        back, cost = decode_counted(raw, limits)
        assert cost <= limits.size
        assert shape(back) == shape(value)


@given(VALUES, LIMIT_STRATEGY)
def test_what_one_side_refuses_the_other_refuses_too(value: object, limits: ValueLimits) -> None:
    try:
        decode(encode(value, LIMITS), limits)
    except ValueTooLarge as refusal:
        try:
            encode(value, limits)
        except ValueTooLarge:
            return
        raise AssertionError("the encoder lets through what the decoder refuses") from refusal


def read(raw: bytes, limits: ValueLimits) -> None:
    """Decode hostile bytes; what can be read must be data that crosses again at no higher price."""
    try:
        value, cost = decode_counted(raw, limits)
    except (BadValue, ValueTooLarge):
        return
    assert cost <= limits.size
    with suppress(CrossError):  # a named zone cannot come out of `decode`, but a limit on digits may count otherwise
        assert shape(decode(encode(value, limits), limits)) == shape(value)


@given(st.binary(max_size=200), LIMIT_STRATEGY)
@pytest.mark.guarantee("G21")
def test_random_bytes_give_data_or_one_of_two_errors(raw: bytes, limits: ValueLimits) -> None:
    read(raw, limits)


TOKENS = st.sampled_from(
    [bytes((tag,)) for tag in b"NTFigulsdmDhez[(<>{0"]
    + [n.to_bytes(4, "little", signed=True) for n in (0, 1, 2, 3, -1, 2**31 - 1, -(2**31))]
    + [b"\x01a", b"\x03", b"\xff", b"1.5", b"2020-01-01", b";0", b"\0" * 8]
)


@given(st.sampled_from([b"\0", b"\1", b"\2"]), st.lists(TOKENS, max_size=40), LIMIT_STRATEGY)
def test_tags_and_lengths_in_any_order_give_data_or_one_of_two_errors(
    form: bytes, tokens: list[bytes], limits: ValueLimits
) -> None:
    read(form + b"".join(tokens), limits)


@given(VALUES, st.data())
def test_a_value_with_one_byte_changed_or_cut_off_gives_data_or_one_of_two_errors(
    value: object, data: st.DataObject
) -> None:
    raw = bytearray(encode(value, LIMITS))
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] = data.draw(st.integers(0, 255))
    else:
        del raw[at:]
    read(bytes(raw), LIMITS)
