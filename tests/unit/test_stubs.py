"""What a model reads of a tool: true of what the tool takes, and silent about what is not its business."""

from __future__ import annotations

import dataclasses
import threading
from typing import Annotated, Generic, NamedTuple, NotRequired, Required, TypedDict, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from cloche import Tool
from cloche.runtime.stubs import TypeWriter, stubs_of
from cloche.runtime.tool_signature import BadArguments

T = TypeVar("T")


class Renamed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order_id: int = Field(alias="orderId", description="as the shop\n counts")
    note: str = ""


class Numbers(RootModel[list[int]]):
    pass


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Loose(TypedDict, total=False):
    a: Required[int]
    b: str


class Strict(TypedDict):
    a: int
    b: NotRequired[str]
    c: Annotated[NotRequired[str], Field(description="see b")]


@dataclasses.dataclass
class Range:
    low: int
    high: int = 9


def declared(hint: object) -> list[str]:
    writer = TypeWriter()
    writer.write(hint)
    return [line.strip() for text in writer.declarations for line in text.splitlines()]


@pytest.mark.parametrize(
    ("hint", "lines"),
    [
        (Renamed, ["order_id: int  # as the shop counts", "note: NotRequired[str]"]),
        (Loose, ["a: int", "b: NotRequired[str]"]),
        (Strict, ["a: int", "b: NotRequired[str]", "c: NotRequired[str]  # see b"]),
        (Range, ["low: int", "high: NotRequired[int]"]),
    ],
)
def test_a_class_says_what_may_be_left_out_and_what_its_author_says_of_a_field(hint: type, lines: list[str]) -> None:
    assert declared(hint) == [f"class {hint.__name__}(TypedDict):  # a dict, written {{...}}", *lines]


def test_a_root_model_is_written_as_what_it_holds() -> None:
    assert TypeWriter().write(Numbers) == "list[int]"
    assert declared(Numbers) == []


class Nest(RootModel[list["Nest"]]):
    pass


def test_a_root_model_that_holds_itself_comes_to_an_end() -> None:
    assert TypeWriter().write(Nest) == "list[Any]"


def test_a_parameter_with_an_alias_is_taken_by_either_name() -> None:
    def ask(text: Annotated[str, Field(alias="q")]) -> None: ...

    made = Tool(ask)
    assert made.bind((), {"q": "a"}) == made.bind((), {"text": "a"})


class Pt(NamedTuple):
    x: int
    y: int


class Defaults(BaseModel):
    at: Pt = Pt(1, 2)
    kind: dict[str, str] = Field(default={"type": "dataclass", "alias": "x"})


def test_defaults_of_a_model_are_its_own_business() -> None:
    def take(what: Defaults) -> Defaults:
        return what

    made = Tool(take)
    (given,), _ = made.bind(({},), {})
    assert given == Defaults()
    assert made.checked(given) == Defaults()
    assert made.shown is not None
    assert made.shown(given, 10_000) is given


def test_a_generic_has_a_name_that_python_can_read() -> None:
    assert TypeWriter().write(Page[Renamed]) == "Page_Renamed"
    assert "class Page_Renamed(TypedDict):  # a dict, written {...}" in declared(Page[Renamed])


@pytest.mark.parametrize("given", [{"order_id": 1}, {"orderId": 1}])
def test_a_field_with_an_alias_is_taken_by_either_name(given: dict[str, object]) -> None:
    def order(what: Renamed) -> int:
        return what.order_id

    made = Tool(order)
    args, _ = made.bind((given,), {})
    assert order(*args) == 1  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="Extra inputs are not permitted"):
        made.bind(({**given, "other": 1},), {})


def test_annotations_that_are_text_say_what_a_dict_needs() -> None:
    def take(loose: Loose, strict: Strict) -> None: ...

    made = Tool(take)
    assert made.bind(({"a": 1}, {"a": 1}), {}) == (({"a": 1}, {"a": 1}), {})
    with pytest.raises(BadArguments, match=r"loose\.a: Field required"):
        made.bind(({"b": "x"}, {"a": 1}), {})
    with pytest.raises(BadArguments, match=r"strict\.a: Field required"):
        made.bind(({"a": 1}, {}), {})


class Client:
    """As a dataclass is: without a hash, with what cannot be copied, and a repr that shows all."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: str) -> None:
        self.key = key
        self.gate = threading.Lock()

    def __repr__(self) -> str:
        return f"Client({self.key})"


CLIENT = Client("KEY")
SEEN: list[str] = []
OPTIONS: dict[str, object] = {"c": CLIENT}


@pytest.mark.guarantee("G06")
def test_a_default_shows_nothing_but_plain_data() -> None:
    def ask(text: str, opts: object = OPTIONS, client: object = CLIENT, n: object = SEEN) -> None: ...

    assert Tool(ask).signature == "(text: str, opts: Any = ..., client: Any = ..., n: Any = []) -> None"


def test_a_default_is_the_one_object_that_python_fills_in() -> None:
    def ask(text: str, client: object = CLIENT, seen: list[str] = SEEN) -> None:
        """What such a tool keeps is there at the next call."""

    args, kwargs = Tool(ask).bind(("a",), {})
    assert args == ("a",)
    assert kwargs["client"] is CLIENT
    assert kwargs["seen"] is SEEN


def test_tools_of_one_agent_declare_a_class_once() -> None:
    def first(what: Range) -> None: ...

    def second(what: Range) -> Numbers:
        raise NotImplementedError

    stubs = stubs_of([Tool(first), Tool(second)])
    assert ["class Range" in stub for stub in stubs] == [True, False]
    assert stubs[1].startswith("def second(what: Range) -> list[int]:")
