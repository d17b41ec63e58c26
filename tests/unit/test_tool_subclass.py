"""Subclasses of `Tool`: what they say about themselves, what they lack, when `setup` runs."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloche import ConfigError, Tool
from cloche.runtime.tool_signature import BadArguments, BadResult
from cloche.runtime.tools import ToolTable

PATIENCE_S = 10.0


class Query(Tool):
    name = "query"
    description = "Runs a query that only reads."
    inputs = {
        "text": {"type": "string", "description": "the query"},
        "limit": {"type": "integer", "description": "rows at most", "nullable": True},
        "order": {"type": "string", "enum": ["up", "down"], "description": "of the rows"},
    }
    output_type = "array"
    output_schema = {
        "type": "array",
        "items": {"title": "Row", "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
    }
    read_only = True
    retries = 1

    def __init__(self, engine: object) -> None:  # does not call super().__init__, as many do not
        self.engine = engine

    def forward(self, text: str, limit: int = 10, order: str = "up") -> list[dict[str, int]]:
        return [{"id": 1}][:limit]


def test_a_subclass_has_a_signature_a_stub_and_a_schema() -> None:
    query = Query("engine")

    assert query.signature == ("(text: str, limit: int | None = 10, order: Literal['up', 'down'] = 'up') -> list[Row]")
    assert query.stub.startswith("class Row(TypedDict):  # a dict, written {...}\n    id: int\n\ndef query(")
    assert query.doc == (
        "Runs a query that only reads.\n\nArgs:\n    text: the query\n    limit: rows at most\n    order: of the rows"
    )
    schema = query.schema()
    assert schema["type"] == "function"
    function: Any = schema["function"]
    assert (function["name"], function["description"]) == ("query", "Runs a query that only reads.")
    assert function["parameters"]["properties"]["order"]["enum"] == ["up", "down"]
    assert function["parameters"]["properties"]["text"]["description"] == "the query"
    assert function["parameters"]["required"] == ["text"]


def test_a_subclass_is_validated_and_called_like_any_tool() -> None:
    query = Query("engine")

    assert query.bind(("x",), {"order": "down"}) == (("x",), {"limit": 10, "order": "down"})
    with pytest.raises(BadArguments, match="order: Input should be 'up' or 'down'"):
        query.bind(("x",), {"order": "sideways"})
    assert query("x") == [{"id": 1}]
    assert query.checked([{"id": 1}]) == [{"id": 1}]
    with pytest.raises(BadResult, match=r"result\.0\.id: Input should be a valid integer"):
        query.checked([{"id": "1"}])
    assert list(ToolTable([query])) == ["query"]


def test_attributes_may_be_set_per_object_before_or_after_the_base_constructor() -> None:
    class Named(Tool):
        description = "d"
        output_type = "string"

        def __init__(self, name: str, *, first: bool) -> None:
            if first:
                super().__init__()
            self.name = name
            if not first:
                super().__init__(timeout_s=3)

        def forward(self) -> str:
            return self.name

    assert [Named("a", first=True)(), Named("b", first=False)()] == ["a", "b"]
    assert Named("b", first=False).timeout_s == 3


def test_setup_runs_once_before_the_first_call_however_many_threads_come() -> None:
    ran: list[str] = []
    gate = threading.Barrier(8, timeout=PATIENCE_S)

    class Heavy(Tool):
        name, description, output_type = "heavy", "d", "integer"

        def setup(self) -> None:
            ran.append(threading.current_thread().name)

        def forward(self) -> int:
            return len(ran)

    heavy = Heavy()
    assert not heavy.is_initialized

    def call() -> object:
        gate.wait()
        return heavy()

    with ThreadPoolExecutor(8) as pool:
        assert [future.result(PATIENCE_S) for future in [pool.submit(call) for _ in range(8)]] == [1] * 8
    assert len(ran) == 1
    assert heavy.is_initialized


def test_a_setup_that_failed_is_tried_again() -> None:
    class Picky(Tool):
        name, description, output_type = "picky", "d", "string"
        tries = 0

        def setup(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise ConnectionError("not yet")

        def forward(self) -> str:
            return "ready"

    picky = Picky()
    with pytest.raises(ConnectionError):
        picky()
    assert picky() == "ready"


def test_forward_may_be_async() -> None:
    class Later(Tool):
        name, description, output_type = "later", "d", "string"

        async def forward(self) -> str:
            return "done"

    later = Later()
    assert later.is_async
    assert asyncio.run(later()) == "done"


def test_a_copy_of_a_tool_may_have_another_function() -> None:
    query = Query("engine")
    twin = copy.copy(query)
    twin.function = lambda *args: "twin"

    assert (twin(), query("x")) == ("twin", [{"id": 1}])


def forward_of(body: dict[str, object]) -> type[Tool]:
    complete: dict[str, object] = {
        "name": "t",
        "description": "d",
        "inputs": {"x": {"type": "string", "description": "x"}},
        "output_type": "string",
        "forward": lambda self, x: x,
    }
    complete.update(body)
    return type("Broken", (Tool,), {key: value for key, value in complete.items() if value is not None})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": None}, "class Broken: set the attribute name, such as name = "),
        ({"description": None}, "class Broken: set the attribute description"),
        ({"description": 3}, "class Broken: set the attribute description"),
        ({"forward": None}, "class Broken: define forward, which does the work"),
        ({"output_type": "text"}, "class Broken: output_type is one of string, boolean, integer"),
        ({"inputs": ["x"]}, "class Broken: inputs is a dict"),
        ({"inputs": {"x": {"type": "string"}}}, "class Broken: inputs['x'] is a dict with 'type' and 'description'"),
        ({"inputs": {"x": {"type": "str", "description": "x"}}}, "class Broken: inputs['x']['type'] is one of"),
        ({"inputs": {"x": {"description": "x"}}}, "class Broken: inputs['x']['type'] is one of"),
        ({"inputs": {3: {"type": "string", "description": "x"}}}, "class Broken: inputs has a key that is no text"),
        (
            {"inputs": {"y": {"type": "string", "description": "y"}}},
            "class Broken: inputs names 'y', forward does not; forward takes 'x', inputs does not describe it",
        ),
        ({"forward": lambda self, *x: x}, "class Broken: forward takes *x; name each parameter, as inputs does"),
        ({"name": "class"}, "a tool cannot be named 'class'"),
        ({"retries": 3}, "tool 't': retries calls it again after a failure; mark it read_only=True"),
        ({"output_schema": {"type": "strange"}}, "tool 't': the schema of t_result has the unknown type 'strange'"),
    ],
)
def test_a_class_that_lacks_something_says_what(body: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        forward_of(body)()
    assert str(caught.value).startswith(message)


def test_the_base_class_alone_is_no_tool() -> None:
    with pytest.raises(ConfigError, match="a tool is a function, not None"):
        Tool()
