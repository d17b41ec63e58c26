"""The guest's short ways for small values and plain results: the bytes are those of the long way."""

from __future__ import annotations

import types
from typing import Any

import pytest

from cloche.runtime import protocol, values
from cloche.runtime.limits import KIB

LEAST = values.ValueLimits(size=KIB, depth=1, digits=20)
"""The smallest that `Limits` allows."""


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.fixture
def frames(guest_package: types.ModuleType) -> Any:
    return guest_package.entry.frames


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, 2**31 - 1, -(2**31), 1.5, float("inf"), float("nan"), "", "tea", "x" * 256],
    ids=lambda value: repr(value)[:20],
)
def test_a_small_value_is_written_as_the_codec_writes_it_and_breaks_no_limit(frames: Any, value: object) -> None:
    assert frames.is_small(value)
    written = frames.encode_small(value)
    assert written == values.encode(value, values.ValueLimits())
    assert repr(values.decode(written, LEAST)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [2**31, -(2**31) - 1, 10**30, "x" * 257, "é", "\ud800", b"", [], (), {}, 1j, ..., Text("a"), Number(1), print],
    ids=lambda value: ascii(value)[:20],
)
def test_any_other_value_goes_the_long_way(frames: Any, value: object) -> None:
    assert not frames.is_small(value)


def test_as_many_small_arguments_as_are_taken_together_break_no_limit(frames: Any) -> None:
    limits = values.ValueLimits(size=KIB, depth=3, digits=20)
    few = (limits.size - 3 * 64) // frames.SMALL_COST
    arguments: list[object] = [["x" * 256] * few, {}]
    assert values.decode(frames.encode_small(arguments), limits) == arguments


@pytest.mark.parametrize("value_repr", [None, "2", "'é%b%d\"\n'"])
def test_a_plain_result_is_told_in_full(frames: Any, value_repr: str | None) -> None:
    outcome = frames.Outcome()
    outcome.value_repr = value_repr
    outcome.value = None if value_repr is None else b"\0i\2\0\0\0"
    result, parts = protocol.parse_from_worker(frames.result(outcome), max_bytes=KIB)
    assert result == protocol.Result(
        attachments=tuple(len(part) for part in parts),
        has_value=value_repr is not None,
        value_repr=value_repr,
        value_error=None,
        error=None,
        interrupted=False,
        ended_by_tool=False,
    )
    assert [bytes(part) for part in parts] == ([] if outcome.value is None else [outcome.value])


@pytest.mark.parametrize("field", ["interrupted", "ended_by_tool"])
def test_an_interrupt_and_an_ending_are_told_whatever_the_value(frames: Any, field: str) -> None:
    outcome = frames.Outcome()
    outcome.value, outcome.value_repr = b"\0i\2\0\0\0", "2"
    setattr(outcome, field, True)
    result, _ = protocol.parse_from_worker(frames.result(outcome), max_bytes=KIB)
    assert getattr(result, field) is True
