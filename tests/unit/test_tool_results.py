"""Results are checked against what the tool promises, and schemas become types and stubs."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# A lambda without types is one of the things that become tools.
import dataclasses
import datetime as dt
import enum
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from cloche import ConfigError, Tool, tool
from cloche.runtime.result_reader import result_check
from cloche.runtime.schema_types import SchemaReader
from cloche.runtime.stubs import TypeWriter
from cloche.runtime.tool_signature import BadArguments, BadResult, read_docs


@dataclasses.dataclass
class Row:
    item: str
    price: float


class Order(BaseModel):
    rows: list[Row]


class Color(enum.Enum):
    RED = "red"


class Price(TypedDict):
    item: str
    euros: float


@pytest.mark.parametrize(
    ("hint", "given", "got"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (str | None, None, None),
        (None, None, None),
        (list[int], [1], [1]),
        (set[str], ["a"], {"a"}),
        (Price, {"item": "tea", "euros": 1}, {"item": "tea", "euros": 1.0}),
        (Row, Row("tea", 1.0), Row("tea", 1.0)),
        (Order, {"rows": [{"item": "tea", "price": 1.0}]}, Order(rows=[Row("tea", 1.0)])),
        (Literal["a", "b"], "a", "a"),
        (Color, Color.RED, Color.RED),
        (dt.date, "2026-01-31", dt.date(2026, 1, 31)),
        (Annotated[int, Field(ge=0)], 0, 0),
        (Awaitable[int], 3, 3),
    ],
)
def test_a_result_comes_in_the_promised_type(hint: object, given: object, got: object) -> None:
    check = result_check("t", hint)

    assert check is not None
    assert check(given) == got
    assert type(check(given)) is type(got)


@pytest.mark.parametrize(
    ("hint", "given"),
    [
        (int, "3"),
        (int, True),
        (int, None),
        (str, 3),
        (None, 3),
        (list[int], ["1"]),
        (Price, {"item": "tea"}),
        (Order, {"rows": [{"item": "tea"}]}),
        (Literal["a"], "b"),
        (Annotated[int, Field(ge=0)], -1),
    ],
)
def test_a_result_of_another_type_is_refused_without_quoting_it(hint: object, given: object) -> None:
    check = result_check("get_price", hint)
    assert check is not None
    with pytest.raises(BadResult) as caught:
        check(given)
    assert caught.value.told.startswith("get_price() gave a result that its signature does not allow (")


class Shelf(TypedDict, total=False):
    prices: list[Price]
    rest: Price | None


def test_typed_dicts_of_the_standard_library_serve_as_parameters_and_results() -> None:
    def sort_out(shelf: Shelf) -> Annotated[Shelf, "sorted"]:
        return shelf

    sorter = Tool(sort_out)
    given = {"prices": [{"item": "tea", "euros": 1.0}], "rest": None}
    assert sorter.bind((given,), {}) == ((given,), {})
    with pytest.raises(BadArguments, match=r"shelf\.prices\.0\.euros: Field required"):
        sorter.bind(({"prices": [{"item": "tea"}]},), {})
    with pytest.raises(BadResult, match=r"result\.rest\.item: Field required"):
        sorter.checked({"rest": {"euros": 1.0}})
    assert sorter.signature == "(shelf: Shelf) -> Shelf"


@pytest.mark.parametrize("hint", [Any, object, Iterator[int], list[Iterator[int]], Callable, type("Opaque", (), {})])
def test_what_cannot_be_checked_passes(hint: object) -> None:
    assert result_check("t", hint) is None


def test_a_tool_may_leave_its_results_unchecked() -> None:
    def wrong() -> int:
        return "text"  # type: ignore[return-value]

    assert Tool(wrong, check_result=False).checked("text") == "text"
    with pytest.raises(BadResult):
        Tool(wrong).checked("text")


def test_a_schema_of_the_result_stands_in_for_the_annotation() -> None:
    @tool(
        output_schema={
            "title": "Report",
            "type": "object",
            "properties": {"total": {"type": "number"}},
            "required": ["total"],
        }
    )
    def report() -> dict[str, object]:
        """The totals."""
        return {"total": 1}

    assert report.stub == (
        "class Report(TypedDict):  # a dict, written {...}\n    total: float\n\n"
        'def report() -> Report:\n    """The totals."""\n    ...'
    )
    assert report.checked({"total": 1}) == {"total": 1.0}
    with pytest.raises(BadResult):
        report.checked({})


# --- schemas as types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, "str"),
        ({"type": ["integer", "null"]}, "int | None"),
        ({"type": "number", "nullable": True}, "float | None"),
        ({"enum": ["a", 1, None]}, "Literal['a', 1, None]"),
        ({"const": "x"}, "Literal['x']"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}, "str | list[int]"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"type": "object", "properties": {"not a name": {"type": "integer"}}}, "dict[str, Any]"),
        ({}, "Any"),
        ({"type": "any"}, "Any"),
        ({"$ref": "#/$defs/Name", "$defs": {"Name": {"type": "string"}}}, "str"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "int"),
    ],
)
def test_a_schema_is_written_as_a_type(schema: dict[str, object], text: str) -> None:
    assert TypeWriter().write(SchemaReader("t").read(schema, "result")) == text


def test_records_in_a_schema_are_declared_by_their_own_names() -> None:
    writer = TypeWriter()
    node = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/Node"}},
        "required": ["value"],
    }
    schema = {"type": "object", "properties": {"head": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}

    assert writer.write(SchemaReader("t").read(schema, "result")) == "Result"
    assert writer.declarations == [
        "class ResultHead(TypedDict):  # a dict, written {...}\n    value: int\n    next: NotRequired[Any]",
        "class Result(TypedDict):  # a dict, written {...}\n    head: NotRequired[ResultHead]",
    ]


def nested(depth: int) -> dict[str, object]:
    return {"type": "array", "items": nested(depth - 1)} if depth else {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strange"},
        {"type": 3},
        {"enum": []},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "https://example.org/schema"},
        {"type": "array", "items": 3},
        nested(50),
        {"anyOf": [{"type": "string"}] * 3000},
    ],
)
def test_a_schema_that_cannot_be_read_is_a_config_error(schema: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="tool 't': the schema of"):
        SchemaReader("t").read(schema, "result")


# --- docstrings -------------------------------------------------------------------------------------------------------

GOOGLE = """Sum.

Args:
    a (int): the first
        of both
    *rest: others

Returns:
    x: not a parameter
"""
NUMPY = """Sum.

Parameters
----------
a, b : int
    the first
    of both
*rest
    others

Returns
-------
c : int
    not a parameter
"""
SPHINX = """Sum.

:param int a: the first
    of both
:param rest: others
:type rest: list
:returns: not a parameter
"""


@pytest.mark.parametrize(
    ("doc", "names"),
    [(GOOGLE, ("a", "rest")), (NUMPY, ("a", "b", "rest")), (SPHINX, ("a", "rest"))],
    ids=["google", "numpy", "sphinx"],
)
def test_parameters_are_described_in_three_styles(doc: str, names: tuple[str, ...]) -> None:
    docs = read_docs(doc)

    assert docs.summary == "Sum."
    assert docs.parameters == {name: "others" if name == "rest" else "the first of both" for name in names}


AREA = """
def area(a: float, b: float = 1.0) -> float:
    '''Area.

    Args:
        a: one side.
    '''
    return a * b
"""


def test_a_function_without_source_becomes_a_tool_with_all_it_says() -> None:
    typed_in: dict[str, Any] = {}
    exec(  # as a REPL defines it: inspect.getsource finds nothing
        compile(AREA, "<stdin>", "exec"), typed_in
    )
    area = Tool(typed_in["area"])

    assert (area.signature, area.description) == ("(a: float, b: float = 1.0) -> float", "Area.")
    assert area.descriptions == {"a": "one side."}
    assert area.checked(area(2.0)) == 2.0
    assert Tool(lambda *text: "", name="nothing").signature == "(*text)"
