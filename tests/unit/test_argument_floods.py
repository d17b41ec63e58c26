"""Wrong arguments in numbers: the host says so without making an object of each mistake."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# wrong arguments of any shape
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from cloche import Tool
from cloche.runtime.tool_signature import BadArguments

MANY = 50_000


class Row(BaseModel):
    a: str
    b: str
    c: str


@dataclass
class Plain:
    a: str
    rows: list[Row]


def save(rows: list[Row]) -> None:
    """Save rows."""


def names(values: dict[str, str]) -> None:
    """Save names."""


def deep(plain: Plain) -> None:
    """Save a plain one."""


def few(x: int) -> None:
    """Take one."""


def many(*numbers: int) -> None:
    """Take any number."""


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize(
    ("function", "args", "kwargs", "told"),
    [
        (save, ([{}] * MANY,), {}, "rows.0.a: Field required; rows.0.b: Field required; rows.0.c: Field required"),
        (names, ({str(i): None for i in range(MANY)},), {}, "values.0: Input should be a valid string"),
        (deep, ({"a": "x", "rows": [{"a": "1", "b": "2"}] * MANY},), {}, "plain.rows.0.c: Field required"),
        (few, (1,), {f"k{i}": 1 for i in range(MANY)}, f"{MANY + 1} arguments are far too many; pass a list"),
        (few, tuple(range(MANY)), {}, f"{MANY} arguments are far too many; pass a list"),
        (many, ("x",) * MANY, {}, f"{MANY} arguments are far too many; pass a list"),
    ],
    ids=["models", "dict", "inside a dataclass", "keywords", "positions", "open positions"],
)
def test_many_wrong_items_cost_no_more_than_one(
    function: object, args: tuple[object, ...], kwargs: dict[str, object], told: str
) -> None:
    """The text is that of the first item alone: pydantic has made no error of the others."""
    tool = Tool(function)  # type: ignore[arg-type]  # plain functions all
    with suppress(BadArguments):
        tool.bind((), {})  # builds the validator
    tracemalloc.start()
    try:
        with pytest.raises(BadArguments) as caught:
            tool.bind(args, kwargs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value).partition(": ")[2] == told
    assert peak < 2_000_000
