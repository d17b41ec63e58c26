"""What leaves a tool is what its signature declares: no field more, as data that a sandbox can take."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# Types of any kind are what these tests feed in.
import dataclasses
import enum
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, Generic, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import pydantic.dataclasses
import pytest
from pydantic import BaseModel, Field, RootModel
from tests.support.cell_calls import call
from tests.support.tool_ways import Ways

from cloche import Tool
from cloche.runtime.declared import shown_by
from cloche.runtime.dispatch import CellCalls
from cloche.runtime.values import CrossError, ValueLimits, ValueTooLarge, decode, encode

T = TypeVar("T")


class Public(BaseModel):
    name: str


class User(Public):
    hashed: str


class Hidden(BaseModel):
    name: str
    inner: str = Field(exclude=True)


@dataclasses.dataclass(unsafe_hash=True)
class Base:
    name: str
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.name)


@dataclasses.dataclass(unsafe_hash=True)
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


class Leaf(Tree):
    mark: int


class Admin(User):
    level: int


class Marker(BaseModel):
    pass


@pydantic.dataclasses.dataclass
class Closed:
    name: str
    inner: str = Field(exclude=True)


class Chain(TypedDict):
    who: Public
    next: NotRequired[Chain]


class Loop(TypedDict):
    next: NotRequired[Loop]


class Pair(NamedTuple):
    number: int
    who: Public


@dataclasses.dataclass
class Box(Generic[T]):
    held: T


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Users(RootModel[list[Public]]):
    pass


LIMITS = ValueLimits()
ID = uuid.UUID(int=7)
USER = User(name="a", hashed="HASH")


def crossed(hint: object, given: object) -> object:
    shown = shown_by(hint)
    assert shown is not None
    return decode(encode(shown(given, LIMITS.size), LIMITS), LIMITS)


@pytest.mark.parametrize(
    ("hint", "given", "data"),
    [
        (Public, USER, {"name": "a"}),
        (Public, Public(name="a"), {"name": "a"}),
        (list[Public | None], [USER, None], [{"name": "a"}, None]),
        (Annotated[list[Public] | None, "all"], [USER], [{"name": "a"}]),
        (dict[str, Public], {"k": USER}, {"k": {"name": "a"}}),
        (tuple[Public, ...], (USER,), ({"name": "a"},)),
        (tuple[int, Public], (1, USER), (1, {"name": "a"})),
        (set[Base], {Derived("abc", more="x")}, [{"name": "abc", "size": 3}]),
        (Iterable[Public], [USER], [{"name": "a"}]),
        (Sequence[Public], [USER], [{"name": "a"}]),
        (defaultdict[str, Public], {"k": USER}, {"k": {"name": "a"}}),
        (Awaitable[Public], USER, {"name": "a"}),
        (NewType("Shown", Public), USER, {"name": "a"}),
        (Hidden, Hidden(name="a", inner="s"), {"name": "a"}),
        (Closed, Closed("a", "s"), {"name": "a"}),
        (Any | Closed, Closed("a", "s"), {"name": "a"}),
        (Base, Derived("abc", more="x"), {"name": "abc", "size": 3}),
        (Order, Order(id=ID), {"id": str(ID), "state": "open"}),
        (Tree, Tree(name="a", kids=[Leaf(name="b", mark=1)]), {"name": "a", "kids": [{"name": "b", "kids": []}]}),
        (Chain, {"who": USER, "next": {"who": USER}}, {"who": {"name": "a"}, "next": {"who": {"name": "a"}}}),
        (Pair, Pair(1, USER), (1, {"name": "a"})),
        (Box[Public], Box(USER), {"held": {"name": "a"}}),
        (Page[Public], Page[Public](rows=[USER]), {"rows": [{"name": "a"}]}),
        (Users, Users([USER]), [{"name": "a"}]),
        (dict[str, Public] | str, {"k": USER}, {"k": {"name": "a"}}),
        (Chain | Pair | str, {"who": USER}, {"who": {"name": "a"}}),
        (list[Public] | list[Base], [USER, Derived("a")], [{"name": "a"}, {"name": "a", "size": 1}]),
        (Public | User, Admin(name="a", hashed="h", level=1), {"name": "a", "hashed": "h"}),
        (User | Public, Admin(name="a", hashed="h", level=1), {"name": "a", "hashed": "h"}),
    ],
)
def test_a_record_crosses_with_the_fields_of_the_declared_type(hint: object, given: object, data: object) -> None:
    assert crossed(hint, given) == data


@pytest.mark.parametrize(
    "hint", [int, None, Any, list[int], dict[str, set[str]], State, Loop, BaseModel, list[Marker], type("O", (), {})]
)
def test_an_annotation_that_declares_no_field_hides_none(hint: object) -> None:
    shown = shown_by(hint)
    assert shown is None or shown({"next": {}}, 1000) == {"next": {}}


def test_what_is_of_the_declared_types_is_given_back_uncopied() -> None:
    rows = [Public(name="a")]
    shown = shown_by(list[Public])
    assert shown is not None
    assert shown(rows, LIMITS.size) is rows


def test_a_record_that_holds_itself_or_too_much_is_refused() -> None:
    tree = Tree(name="a")
    tree.kids.append(tree)
    with pytest.raises(CrossError, match="holds itself"):
        crossed(Tree, tree)
    wide = Tree(name="a")
    for _ in range(40):  # a million million when it is written out
        wide = Tree.model_construct(name="a", kids=[wide, wide])
    with pytest.raises(ValueTooLarge, match="value_bytes"):
        crossed(Tree, wide)


@pytest.mark.guarantee("G06")
def test_who_calls_a_tool_sees_no_field_that_it_did_not_declare(way: Ways) -> None:
    def me() -> list[Public]:
        return [USER]

    async def later() -> Public:
        return USER

    calls = way(Tool(me), Tool(later))
    assert calls.call("me") == (True, [{"name": "a"}])
    assert calls.call("later") == (True, {"name": "a"})


def test_the_author_of_a_tool_reads_in_the_log_what_could_not_cross(
    calls_of: Callable[..., CellCalls], caplog: pytest.LogCaptureFixture
) -> None:
    def give() -> Any:
        return 1j

    assert call(calls_of(give), "give") == (False, ["CannotCross", "result of give: complex cannot cross"])
    assert [record.getMessage() for record in caplog.records] == ["tool give gave what no sandbox can take"]
