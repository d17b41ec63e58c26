"""Wrong arguments in numbers: the host says so without making an object of each mistake."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# wrong arguments of any shape
import tracemalloc
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


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (save, ([{}] * MANY,), {}),
        (names, ({str(i): None for i in range(MANY)},), {}),
        (deep, ({"a": "x", "rows": [{}] * MANY},), {}),
        (few, (1,), {f"k{i}": 1 for i in range(MANY)}),
        (few, tuple(range(MANY)), {}),
    ],
    ids=["models", "dict", "inside a dataclass", "keywords", "positions"],
)
def test_many_wrong_items_cost_no_more_than_one(
    function: object, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    tool = Tool(function)  # type: ignore[arg-type]  # plain functions all
    with pytest.raises(BadArguments):
        tool.bind((), {})  # builds the validator
    tracemalloc.start()
    try:
        with pytest.raises(BadArguments) as caught:
            tool.bind(args, kwargs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000
    assert peak < 2_000_000
