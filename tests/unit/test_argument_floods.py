"""Wrong arguments in numbers: the host says so without making an object of each mistake."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# wrong arguments of any shape
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from cloche import Tool
from cloche.agents.answers import OutputType
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


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 1
    below: Strict | None = None


class Extras(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]  # pyright: ignore[reportIncompatibleVariableOverride]  # as pydantic documents it


class Loose(BaseModel):
    a: int = 1


class Pair(NamedTuple):
    a: int = 1
    b: int = 2


@pydantic_dataclass(config=ConfigDict(extra="forbid"))
class StrictPlain:
    a: int = 1


class StrictDict(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # as pydantic documents it
    a: int


def strict(value: Strict) -> None:
    """Save a strict one."""


def several(values: list[Strict]) -> None:
    """Save strict ones."""


class Basket(BaseModel):
    names: list[str]


def basket(value: Basket) -> None:
    """Save a basket."""


def extras(value: Extras) -> None:
    """Save one with numbers."""


def pair(value: Pair) -> None:
    """Save a pair."""


def strict_plain(value: StrictPlain) -> None:
    """Save a strict plain one."""


def strict_dict(value: StrictDict) -> None:
    """Save a strict dict."""


def loose(value: Loose) -> None:
    """Save what is known."""


FLOOD = {f"k{i}": "x" for i in range(MANY)}
FLOODED = f"{MANY} keys are far too many"


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
        (basket, ({"names": [None] * MANY},), {}, "value.names.0: Input should be a valid string"),
        (strict, (FLOOD,), {}, f"value: {FLOODED}"),
        (strict, ({"below": {"below": FLOOD}},), {}, f"value.below.below: {FLOODED}"),
        (several, ([FLOOD] * 10,), {}, f"values.0: {FLOODED}"),
        (extras, (FLOOD,), {}, f"value: {FLOODED}"),
        (pair, (FLOOD,), {}, f"value: {FLOODED}"),
        (pair, (list(range(MANY)),), {}, f"value: {FLOODED}"),
        (strict_plain, (FLOOD,), {}, f"value: {FLOODED}"),
        (strict_dict, (FLOOD,), {}, f"value: {FLOODED}"),
    ],
    ids=[
        "models",
        "dict",
        "inside a dataclass",
        "keywords",
        "positions",
        "open positions",
        "a list in a model",
        "unknown keys",
        "unknown keys of a model that holds itself",
        "unknown keys in a list",
        "typed unknown keys",
        "keys of a named tuple",
        "items of a named tuple",
        "unknown keys of a dataclass",
        "unknown keys of a TypedDict",
    ],
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


def test_a_few_unknown_keys_are_named_and_many_that_are_allowed_pass() -> None:
    with pytest.raises(BadArguments) as caught:
        Tool(strict).bind(({"x": 1, "below": {"y": 2}},), {})
    assert str(caught.value) == (
        "strict(): value.below.y: Extra inputs are not permitted; value.x: Extra inputs are not permitted"
    )
    assert Tool(loose).bind((FLOOD,), {}) == ((Loose(),), {})
    numbers = {f"k{i}": i for i in range(4000)}
    (bound,), _ = Tool(extras).bind((numbers,), {})
    assert isinstance(bound, Extras)
    assert bound.model_extra == numbers


@pytest.mark.guarantee("G28")
def test_an_answer_with_a_flood_of_unknown_keys_is_one_mistake() -> None:
    value, wrong = OutputType.of(Strict).read({"below": FLOOD})
    assert value is None
    assert wrong is not None
    assert wrong.endswith(f"value.below: {FLOODED}")
