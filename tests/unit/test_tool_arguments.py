"""Arguments of a tool: what data becomes for its parameter, and what is said of data that does not fit."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import datetime as dt
import typing
from decimal import Decimal

import pytest
from pydantic import Field
from tests.support.order_types import Color, Order, Row

from cloche.runtime.tool_signature import BadArguments
from cloche.runtime.tools import Tool


def echo(
    number: int = 0,
    real: float = 0.0,
    text: str = "",
    flag: bool = False,
    raw: bytes = b"",
    pair: tuple[int, str] = (0, ""),
    names: frozenset[str] = frozenset(),
    row: Row | None = None,
    order: Order | None = None,
    color: Color = Color.RED,
    day: dt.date = dt.date.min,
    money: Decimal = Decimal(0),
    either: int | str = 0,
    prices: dict[str, float] | None = None,
    small: typing.Annotated[int, Field(ge=0, lt=10)] = 0,
    loose: typing.Annotated[int, Field(strict=False)] = 0,
    anything: object = None,
) -> None: ...


ECHO = Tool(echo)


@pytest.mark.parametrize(
    ("name", "sent", "got"),
    [
        ("number", 3, 3),
        ("number", 10**30, 10**30),
        ("real", 3, 3.0),
        ("pair", [1, "x"], (1, "x")),
        ("names", ["a", "b", "a"], frozenset("ab")),
        ("row", {"item": "tea"}, Row("tea", 1)),
        ("order", {"rows": [{"item": "tea", "count": 2}], "number": "7"}, Order(rows=[Row("tea", 2)], number=7)),
        ("color", "blue", Color.BLUE),
        ("day", "2024-02-29", dt.date(2024, 2, 29)),
        ("day", dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
        ("money", Decimal("1.5"), Decimal("1.5")),
        ("either", "3", "3"),
        ("either", 3, 3),
        ("prices", {"tea": 2}, {"tea": 2.0}),
        ("small", 9, 9),
        ("loose", "3", 3),
        ("anything", {"a": [1, (2,)]}, {"a": [1, (2,)]}),
    ],
)
def test_plain_data_becomes_what_the_parameter_asks_for(name: str, sent: object, got: object) -> None:
    _, by_name = ECHO.bind((), {name: sent})

    assert (by_name[name], type(by_name[name])) == (got, type(got))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {"number": "3"}, "number: Input should be a valid integer"),
        ((), {"number": 3.0}, "number: Input should be a valid integer"),
        ((), {"number": True}, "number: Input should be a valid integer"),
        ((), {"real": "1.5"}, "real: Input should be a valid number"),
        ((), {"real": True}, "real: Input should be a valid number"),
        ((), {"text": 1}, "text: Input should be a valid string"),
        ((), {"text": b"x"}, "text: Input should be a valid string"),
        ((), {"flag": 1}, "flag: Input should be a valid boolean"),
        ((), {"flag": "yes"}, "flag: Input should be a valid boolean"),
        ((), {"raw": "x"}, "raw: Input should be a valid bytes"),
        ((), {"pair": ["1", "x"]}, "pair.0: Input should be a valid integer"),
        ((), {"names": [1]}, "names.0: Input should be a valid string"),
        ((), {"row": {"item": "tea", "count": "2"}}, "row.count: Input should be a valid integer"),
        ((), {"prices": {"tea": "2"}}, "prices.tea: Input should be a valid number"),
        ((), {"color": "green"}, "color: Input should be 'red' or 'blue'"),
        ((), {"small": 10}, "small: Input should be less than 10"),
        (("x",), {}, "number: Input should be a valid integer"),
        ((), {"nmber": 3}, "nmber: Unexpected keyword argument"),
        ((1,), {"number": 1}, "number: Got multiple values for argument"),
    ],
)
def test_arguments_that_do_not_fit_name_the_parameter(
    args: tuple[object, ...], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        ECHO.bind(args, kwargs)

    assert message in str(caught.value)
    assert str(caught.value).startswith("echo(): ")


def test_a_default_is_not_mistaken_for_a_schema() -> None:
    def f(config: dict[str, object] = {"type": "int"}) -> None: ...  # noqa: B006  # shaped like a core schema

    assert Tool(f).bind((), {}) == ((), {"config": {"type": "int"}})


def test_many_problems_are_told_in_short() -> None:
    def f(*rows: int) -> None: ...

    with pytest.raises(BadArguments) as caught:
        Tool(f).bind(("x",) * 100, {})
    assert str(caught.value).endswith("; and 95 more")
    with pytest.raises(BadArguments, match="1000 things are wrong"):
        Tool(f).bind(("x",) * 1000, {})
    assert len(str(caught.value)) < 400
