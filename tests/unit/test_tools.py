"""Tools from plain functions: names, signatures, schemas, stubs."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import dataclasses
import datetime as dt
import functools
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from pydantic import Field
from tests.support.order_types import Color, Order
from typing_extensions import TypedDict

from cloche.runtime.errors import ConfigError
from cloche.runtime.tool_signature import BadArguments
from cloche.runtime.tools import Tool, ToolTable, tool
from cloche.runtime.values import ValueLimits, decode


class Quote(TypedDict):
    price: float
    order: Order


@tool
def get_price(item: str, count: int = 1) -> float:
    """Price of an item in euros.

    Looked up in the shop's own list.

    Args:
        item: name of the item,
            lower case.
        count (int): how many.

    Returns:
        The sum.
    """
    return 2.5 * count


def test_a_decorated_function_is_a_tool_and_still_callable_on_the_host() -> None:
    assert isinstance(get_price, Tool)
    assert get_price("tea", count=2) == 5.0
    assert get_price.name == "get_price"
    assert get_price.description == "Price of an item in euros.\n\nLooked up in the shop's own list."
    assert get_price.descriptions == {"item": "name of the item, lower case.", "count": "how many."}
    assert repr(get_price) == "<Tool get_price(item: str, count: int = 1) -> float>"


def test_the_guest_stub_has_what_the_guest_needs_and_nothing_else() -> None:
    assert get_price.guest_stub == {
        "name": "get_price",
        "signature": "(item: str, count: int = 1) -> float",
        "doc": get_price.doc,
        "params": [
            {"name": "item", "kind": "pos_or_kw", "default": False},
            {"name": "count", "kind": "pos_or_kw", "default": True},
        ],
    }
    assert decode(ToolTable([get_price]).stubs, ValueLimits()) == [get_price.guest_stub]


def test_the_json_schema_describes_each_parameter() -> None:
    assert get_price.json_schema == {
        "type": "object",
        "properties": {
            "item": {"title": "Item", "type": "string", "description": "name of the item, lower case."},
            "count": {"title": "Count", "type": "integer", "default": 1, "description": "how many."},
        },
        "required": ["item"],
        "additionalProperties": False,
    }


def test_the_stub_declares_the_record_types_it_names_each_once_and_in_order() -> None:
    @tool
    def quote(orders: list[Order], color: Color = Color.RED, *, when: dt.date | None = None) -> Quote:
        """A price for orders."""
        raise NotImplementedError

    assert quote.stub == (
        "class Row(TypedDict):  # a dict, written {...}\n    item: str\n    count: NotRequired[int]\n\n"
        "class Order(TypedDict):  # a dict, written {...}\n    rows: list[Row]\n    number: int\n\n"
        "class Quote(TypedDict):  # a dict, written {...}\n    price: float\n    order: Order\n\n"
        "def quote(orders: list[Order], color: Literal['red', 'blue'] = 'red', *, when: date | None = None) -> Quote:\n"
        '    """A price for orders."""\n'
        "    ..."
    )


def test_every_kind_of_parameter_shows_in_the_signature() -> None:
    def f(a, b: int, /, c: Sequence[str], *more: float, d: bytes = b"", **rest: typing.Any) -> None: ...  # type: ignore[no-untyped-def]

    def g(*, only: typing.Annotated[int, Field(gt=0)]) -> typing.Literal["x"]: ...  # type: ignore[empty-body]

    assert Tool(f).signature == "(a, b: int, /, c: list[str], *more: float, d: bytes = b'', **rest: Any) -> None"
    assert [p["kind"] for p in typing.cast("list[dict[str, str]]", Tool(f).guest_stub["params"])] == [
        "pos",
        "pos",
        "pos_or_kw",
        "var_pos",
        "kw",
        "var_kw",
    ]
    assert Tool(g).signature == "(*, only: int) -> Literal['x']"
    assert Tool(f).bind((1, 2, ["x"], 3, 4.5), {"d": b"d", "z": [1]}) == (
        (1, 2, ["x"], 3.0, 4.5),
        {"d": b"d", "z": [1]},
    )
    assert Tool(f).json_schema["required"] == ["a", "b", "c"]


class Shop:
    def price(self, item: str) -> float:
        """Price here."""
        return 1.0

    async def order(self, item: str) -> str:
        return item

    @staticmethod
    def name() -> str:
        return "shop"

    def __call__(self, item: str) -> float:
        """Call it."""
        return 3.0


class AsyncShop:
    async def __call__(self, item: str) -> float:
        return 3.0


async def fetch(url: str, retries: int = 3) -> str:
    """Fetch a page."""
    return url


@pytest.mark.parametrize(
    ("function", "name", "signature", "is_async"),
    [
        (Shop().price, "price", "(item: str) -> float", False),
        (Shop().order, "order", "(item: str) -> str", True),
        (Shop.name, "name", "() -> str", False),
        (fetch, "fetch", "(url: str, retries: int = 3) -> str", True),
        (functools.partial(fetch, "http://x"), "fetch", "(retries: int = 3) -> str", True),
        (functools.partial(fetch, retries=9), "fetch", "(url: str) -> str", True),
        (functools.lru_cache(get_price.function), "get_price", "(item: str, count: int = 1) -> float", False),
    ],
)
def test_any_callable_with_a_signature_becomes_a_tool(
    function: Callable[..., object], name: str, signature: str, is_async: bool
) -> None:
    made = Tool.from_function(function)

    assert (made.name, made.signature, made.is_async) == (name, signature, is_async)


def test_a_lambda_and_an_object_with_call_need_a_name() -> None:
    with pytest.raises(ConfigError, match="a tool cannot be named '<lambda>'"):
        Tool(lambda x: x)
    made = Tool(lambda x, y=2: x + y, name="add", description="Adds.")
    assert (made.signature, made.description, made.bind((1,), {})) == ("(x, y=2)", "Adds.", ((1,), {"y": 2}))
    assert (Tool(Shop(), name="shop").doc, Tool(AsyncShop(), name="shop").is_async) == ("Call it.", True)


@pytest.mark.guarantee("G06")
def test_what_a_partial_has_bound_stays_with_the_host() -> None:
    def search(query: str, key: str) -> str:
        return query + key

    bound = Tool(functools.partial(search, key="secret"))

    assert "secret" not in repr(bound.guest_stub) + bound.stub + repr(bound.json_schema)
    with pytest.raises(BadArguments, match="key: Unexpected keyword argument"):
        bound.bind(("tea",), {"key": "mine"})


def test_a_wrapped_function_keeps_its_signature() -> None:
    @functools.wraps(get_price.function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return 0

    assert Tool(wrapper).signature == "(item: str, count: int = 1) -> float"


@pytest.mark.parametrize(
    "name",
    ["", "1x", "a b", "a.b", "class", "None", "print", "type", "tools", "__import__", "__x", "größe", "a" * 65, "a\n"],
)
def test_a_name_that_the_guest_cannot_use_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a tool cannot be named"):
        Tool(fetch, name=name)


@pytest.mark.parametrize("name", ["a", "_", "get_price", "match", "x" * 64])
def test_an_ordinary_name_is_taken(name: str) -> None:
    assert Tool(fetch, name=name).name == name


def generator() -> Iterator[int]:
    yield 1


class Unknowable:
    pass


def takes_unknowable(thing: Unknowable) -> None: ...


def misspelt(thing: Unknwon) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is the point


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tool(Shop), "a tool is a function, not <class"),
        (lambda: Tool(3), "a tool is a function, not 3"),  # type: ignore[arg-type]
        (lambda: Tool(generator), "tool 'generator' is a generator, and only data crosses; return a list"),
        (lambda: Tool(takes_unknowable), "tool 'takes_unknowable': a parameter has a type that no data fits"),
        (lambda: Tool(misspelt), "tool 'misspelt': an annotation names 'Unknwon', which is not defined there"),
        (lambda: Tool(fetch, timeout_s=0), "tool 'fetch': timeout_s is 0, not a time above 0"),
        (lambda: Tool(fetch, timeout_s=float("nan")), "tool 'fetch': timeout_s is nan"),
        (lambda: ToolTable([fetch, fetch]), "two tools are named 'fetch'; give one of them name="),
    ],
)
def test_what_cannot_be_a_tool_says_why(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()

    assert str(caught.value).startswith(message)


def test_types_local_to_a_function_are_found() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    @tool(name="local")
    def take(item: Local) -> None: ...

    assert take.bind(({"x": 1},), {}) == ((Local(1),), {})
    assert Tool.from_function(take.function).signature == "(item: Local) -> None"


def test_a_tool_is_passed_on_as_it_is_and_a_table_takes_plain_functions() -> None:
    table = ToolTable([get_price, fetch])

    assert Tool.from_function(get_price) is get_price
    assert list(table) == ["get_price", "fetch"]
    assert table["get_price"] is get_price


@pytest.mark.parametrize("alone", [get_price, fetch, 5, "get_price"])
def test_what_is_no_list_of_tools_is_named_with_what_to_write(alone: Any) -> None:
    with pytest.raises(ConfigError, match=r"tools is a list, not '\w+'; write tools=\[\.\.\.\]"):
        ToolTable(alone)


@pytest.mark.guarantee("G20")
def test_a_recursive_type_is_checked_all_the_way_down() -> None:
    made = Tool(take_node)

    assert made.signature == "(node: Node) -> None"
    with pytest.raises(BadArguments, match="node.below.0.below.0.name: Input should be a valid string"):
        made.bind(({"name": "a", "below": [{"name": "b", "below": [{"name": 3, "below": []}]}]},), {})


@dataclasses.dataclass
class Node:
    name: str
    below: list[Node]


def take_node(node: Node) -> None: ...


def test_an_argument_too_many_is_counted() -> None:
    with pytest.raises(BadArguments, match=r"get_price\(\): argument 3: Unexpected positional argument"):
        get_price.bind(("tea", 1, 2), {})


def test_a_method_is_a_tool_together_with_its_object_only() -> None:
    class Shop:
        def price(self, item: str) -> float:
            return float(len(item))

    with pytest.raises(ConfigError, match=r"give the bound one, tool\(obj\.price\)"):
        tool(Shop.price)
    assert tool(Shop().price).signature == "(item: str) -> float"
