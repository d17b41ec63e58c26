"""The real numpy and pandas, where they are installed: what a tool returns reaches the code as it is meant."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from cloche.runtime.tools import Tool, tool
from cloche.runtime.values import CrossError, ValueLimits, decode, encode

np: Any = pytest.importorskip("numpy")
LIMITS = ValueLimits()


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (lambda: np.int64(5), 5),
        (lambda: np.float32(0.5), 0.5),
        (lambda: np.float64(0.5), 0.5),
        (lambda: np.bool_(True), True),
        (lambda: np.str_("a"), "a"),
        (lambda: np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (lambda: np.array(7), 7),
        (lambda: np.array(["a", None], dtype=object), ["a", None]),
        (lambda: {"rows": [np.uint8(1)], np.int64(3): 4}, {"rows": [1], 3: 4}),
    ],
)
def test_numbers_and_arrays_are_numbers_and_lists(make: Any, plain: object) -> None:
    back = decode(encode(make(), LIMITS), LIMITS)
    assert (back, repr(back)) == (plain, repr(plain))


@pytest.mark.parametrize(
    "make", [lambda: np.datetime64("2024-01-01"), lambda: np.longdouble(1), lambda: np.array([1j])]
)
def test_what_python_has_nothing_for_is_refused(make: Any) -> None:
    with pytest.raises(CrossError, match="cannot cross"):
        encode(make(), LIMITS)


def promised(hint: object, result: object) -> object:
    """The result of a tool that promises this type."""

    def give() -> object:
        return result

    give.__annotations__["return"] = hint
    made = tool(give)
    assert isinstance(made, Tool)
    return made.checked(result)


def test_a_tool_that_promises_numbers_may_return_those_of_numpy() -> None:
    assert repr(promised(int, np.int64(5))) == "5"
    assert repr(promised(list[int], np.arange(3))) == "[0, 1, 2]"
    assert repr(promised(dict[str, list[float]], {"a": np.ones(2), "b": [np.float32(1)]})) == (
        "{'a': [1.0, 1.0], 'b': [1.0]}"
    )


def test_times_and_tables_of_pandas() -> None:
    pd: Any = pytest.importorskip("pandas")
    table = pd.DataFrame({"day": pd.to_datetime(["2024-01-01", None]), "n": [1, 2]})
    back = decode(encode(table.to_dict("records"), LIMITS), LIMITS)
    assert back == [{"day": dt.datetime(2024, 1, 1), "n": 1}, {"day": None, "n": 2}]
    with pytest.raises(CrossError, match=r"DataFrame cannot cross; what its to_dict\(\) gives may"):
        encode(table, LIMITS)
    with pytest.raises(CrossError, match="Timestamp with nanoseconds"):
        encode(pd.Timestamp(1), LIMITS)
