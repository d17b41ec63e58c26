"""What leaves a tool is what its signature declares: no field more, as data that a sandbox can take."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# Types of any kind are what these tests feed in.
import dataclasses
import enum
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PlainSerializer, computed_field
from tests.support.cell_calls import call

from cloche.runtime.dispatch import CellCalls
from cloche.runtime.result_reader import result_as_data
from cloche.runtime.tool_signature import BadResult
from cloche.runtime.values import ValueLimits, decode, encode


class Public(BaseModel):
    name: str


class User(Public):
    hashed: str


class Hidden(BaseModel):
    name: str
    inner: str = Field(exclude=True)


class Priced(BaseModel):
    net: int

    @computed_field
    def gross(self) -> int:
        return self.net * 2


@dataclasses.dataclass
class Base:
    name: str
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.name)


@dataclasses.dataclass
class Derived(Base):
    more: str = "t"


class State(enum.Enum):
    OPEN = "open"


class Order(BaseModel):
    id: uuid.UUID
    state: State = State.OPEN


class Tree(BaseModel):
    name: str
    kids: list[Tree] = Field(default_factory=list["Tree"])


ID = uuid.UUID(int=7)
USER = User(name="a", hashed="HASH")


@pytest.mark.parametrize(
    ("hint", "given", "data"),
    [
        (Public, USER, {"name": "a"}),
        (list[Public | None], [USER, None], [{"name": "a"}, None]),
        (dict[str, Public], {"k": USER}, {"k": {"name": "a"}}),
        (Hidden, Hidden(name="a", inner="s"), {"name": "a"}),
        (Priced, Priced(net=2), {"net": 2, "gross": 4}),
        (Base, Derived("abc", more="x"), {"name": "abc", "size": 3}),
        (Order, Order(id=ID), {"id": str(ID), "state": "open"}),
        (Tree, Tree(name="a", kids=[Tree(name="b")]), {"name": "a", "kids": [{"name": "b", "kids": []}]}),
        (Annotated[int, PlainSerializer(lambda n: n + 1)], 1, 2),
    ],
)
def test_a_record_crosses_with_the_fields_of_the_declared_type(hint: object, given: object, data: object) -> None:
    as_data = result_as_data("t", hint)
    assert as_data is not None
    assert decode(encode(as_data(given), ValueLimits()), ValueLimits()) == data


@pytest.mark.parametrize("hint", [int, None, Any, list[int], dict[str, set[str]], State, type("Opaque", (), {})])
def test_what_holds_no_record_is_left_as_it_is(hint: object) -> None:
    assert result_as_data("t", hint) is None


def test_a_record_that_holds_itself_is_a_fault_of_the_tool() -> None:
    tree = Tree(name="a")
    tree.kids.append(tree)
    as_data = result_as_data("t", Tree)
    assert as_data is not None
    with pytest.raises(BadResult, match="holds itself"):
        as_data(tree)


@pytest.mark.guarantee("G06")
def test_the_guest_sees_no_field_that_the_tool_did_not_declare(calls_of: Callable[..., CellCalls]) -> None:
    def me() -> Public:
        return USER

    def order() -> Order:
        return Order(id=ID)

    calls = calls_of(me, order)
    assert call(calls, "me") == (True, {"name": "a"})
    assert call(calls, "order") == (True, {"id": str(ID), "state": "open"})


def test_the_author_of_a_tool_reads_in_the_log_what_could_not_cross(
    calls_of: Callable[..., CellCalls], caplog: pytest.LogCaptureFixture
) -> None:
    def give() -> Any:
        return 1j

    assert call(calls_of(give), "give") == (False, ["CannotCross", "result of give: complex cannot cross"])
    assert [record.getMessage() for record in caplog.records] == ["tool give gave what no sandbox can take"]
