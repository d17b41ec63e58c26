"""What leaves a tool is what its signature declares: no field more, as data that a sandbox can take."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# Types of any kind are what these tests feed in.
import dataclasses
import enum
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import pydantic.dataclasses
import pytest
from pydantic import BaseModel, Field, RootModel
from tests.support.cell_calls import call
from tests.support.tool_ways import Ways
from typing_extensions import TypeAliasType

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


class A1(BaseModel):
    a: int = 1


class B1(A1):
    b: int = 2


class NodeA(NamedTuple):
    who: A1
    next: NodeA | None = None


class NodeB(NamedTuple):
    who: B1
    next: NodeB | None = None


class Held(TypedDict):
    b: B1


class Inherits(Box[Public]):
    pass


@dataclasses.dataclass
class Partly:
    name: Annotated[str, Field(exclude=True)]
    who: Public
    note: Nowhere = 1  # type: ignore[name-defined]  # noqa: F821  # what is tested


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


@dataclasses.dataclass(frozen=True)
class Place(Point):
    inner: str


if TYPE_CHECKING:  # a type checker comes to no end with it either
    Grows: Any
else:

    class Grows(TypedDict, Generic[T]):
        held: T
        next: NotRequired[Grows[list[T]]]


B = TypeVar("B", bound=Public)
Named = TypeAliasType("Named", Public)
Several = TypeAliasType("Several", list[T], type_params=(T,))
Json = TypeAliasType("Json", "Public | list[Json] | dict[str, Json]")
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
        (NodeA, NodeA(B1(), NodeA(B1())), ({"a": 1}, ({"a": 1}, None))),
        (NodeA | NodeB, NodeB(B1()), ({"a": 1, "b": 2}, None)),
        (Chain | None, {"who": USER, "next": {"who": USER}}, {"who": {"name": "a"}, "next": {"who": {"name": "a"}}}),
        (tuple[A1, ...] | tuple[B1, ...], (B1(),), ({"a": 1, "b": 2},)),
        (tuple[A1, int] | tuple[B1, int], (B1(), 1), ({"a": 1, "b": 2}, 1)),
        (tuple[A1, ...] | list[B1], [B1()], [{"a": 1, "b": 2}]),
        (list[A1] | tuple[B1, int], (B1(), 1), ({"a": 1, "b": 2}, 1)),
        (Held | dict[str, A1], {"b": B1(), "c": B1()}, {"b": {"a": 1, "b": 2}, "c": {"a": 1}}),
        (Box[Public] | Box[int], Box(USER), {"held": {"name": "a"}}),
        (Box[B1] | Box[A1], Box(B1()), {"held": {"a": 1, "b": 2}}),
        (Inherits, Inherits(USER), {"held": {"name": "a"}}),
        (Partly, Partly("n", USER), {"who": {"name": "a"}, "note": 1}),
        (Partly, Partly("n", Public(name="a")), {"who": {"name": "a"}, "note": 1}),
        (Named, USER, {"name": "a"}),
        (Named | A1, USER, {"name": "a"}),
        (Several[Public], [USER], [{"name": "a"}]),
        (Json, {"k": [USER]}, {"k": [{"name": "a"}]}),
        (B, USER, {"name": "a"}),
        (Box[Annotated[Public, ["no hash"]]], Box(USER), {"held": {"name": "a"}}),
        (set[Point], {Place(1, "s")}, [{"x": 1}]),
        (set[Point], {Point(1)}, [{"x": 1}]),
        (Collection[Public], {"k": USER}.values(), [{"name": "a"}]),
    ],
)
def test_a_record_crosses_with_the_fields_of_the_declared_type(hint: object, given: object, data: object) -> None:
    assert crossed(hint, given) == data


@pytest.mark.parametrize(
    "hint", [int, None, Any, list[int], dict[str, set[str]], State, Loop, BaseModel, list[Marker], type("O", (), {}), T]
)
def test_an_annotation_that_declares_no_field_hides_none(hint: object) -> None:
    shown = shown_by(hint)
    assert shown is None or shown({"next": {}}, 1000) == {"next": {}}


def test_an_annotation_without_end_hides_nothing() -> None:
    assert shown_by(Grows[int]) is None


@pytest.mark.parametrize(
    ("hint", "given", "message"),
    [
        (dict[Point, int], {Place(1, "s"): 1}, "a record cannot be a dict key"),
        (Iterable[Public], iter([USER]), "list_iterator can be read only once; return a list"),
        (Public, User.model_construct(hashed="h"), "User has a field without a value: name"),
    ],
)
def test_a_result_that_cannot_be_shown_is_refused(hint: object, given: object, message: str) -> None:
    with pytest.raises(CrossError, match=message):
        crossed(hint, given)


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
