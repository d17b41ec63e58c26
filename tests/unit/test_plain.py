"""Records and dataclasses without `dataclasses`: what of them is the same, and when they are compiled."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle  # noqa: TID251  # of our own bytes
import types

import pytest
from pydantic import TypeAdapter

from cloche.runtime.plain import compile_records, dataclass, field, record, replace


@record
class Point:
    """A place."""

    x: int
    y: int = 2


@record(kw_only=True)
class Named(Point):
    name: str = "here"


def test_records_of_one_class_with_equal_values_are_equal() -> None:
    assert Point(1) == Point(1, 2)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert Point(1) != Point(2)


def test_a_record_of_a_subclass_is_another_thing() -> None:
    assert Named(1, name="here") != Point(1)
    assert Named(1, name="a") != Named(1, name="b")


def test_a_record_shows_its_values_with_those_it_inherited() -> None:
    assert repr(Named(1, name="tea")) == "Named(x=1, y=2, name='tea')"


def test_a_record_takes_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_method_of_the_class_itself_stays() -> None:
    @record
    class Loud:
        text: str

        def __repr__(self) -> str:
            return self.text.upper()

    assert repr(Loud("tea")) == "TEA"


# --- `dataclass`, as users hold it in their hands ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tea:
    """A kind of tea."""

    name: str = "green"
    grams: float = field(default=2.5, repr=False)
    notes: dict[str, str] = field(default_factory=dict[str, str], compare=False)

    def __post_init__(self) -> None:
        if self.grams <= 0:
            raise ValueError("no tea")


def test_a_class_without_slots_is_refused() -> None:
    with pytest.raises(TypeError, match="slots=True"):
        dataclass(slots=False)


def test_a_frozen_one_refuses_to_be_changed_like_any_dataclass() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        Tea().name = "black"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # frozen
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del Tea().name  # pyright: ignore[reportAttributeAccessIssue]  # frozen


def test_options_of_fields_hold() -> None:
    assert repr(Tea()) == "Tea(name='green', notes={})"
    assert Tea(notes={"a": "b"}) == Tea()
    assert hash(Tea(notes={"a": "b"})) == hash(Tea())
    assert Tea().notes is not Tea().notes
    with pytest.raises(ValueError, match="no tea"):
        Tea(grams=0)


def test_the_standard_library_takes_it_for_a_dataclass() -> None:
    assert dataclasses.is_dataclass(Tea)
    assert [one.name for one in dataclasses.fields(Tea)] == ["name", "grams", "notes"]
    assert dataclasses.asdict(Tea()) == {"name": "green", "grams": 2.5, "notes": {}}
    assert dataclasses.replace(Tea(), name="black") == Tea(name="black")
    assert replace(Tea(), name="black") == Tea(name="black")


def test_a_dataclass_of_the_standard_library_may_inherit_from_it() -> None:
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Bag(Tea):
        string: bool = True

    bag = Bag(name="black", string=False)
    assert (bag.name, bag.grams, bag.string) == ("black", 2.5, False)


def test_a_subclass_may_have_attributes_of_its_own() -> None:
    class Mine(Tea):
        def __init__(self) -> None:
            super().__init__(name="mine")
            self.origin = "here"  # pyright: ignore[reportAttributeAccessIssue]

    assert Mine().origin == "here"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Mine().name = "black"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # frozen


def test_it_can_be_copied_and_pickled() -> None:
    assert copy.deepcopy(Tea(name="black")) == Tea(name="black")
    assert pickle.loads(pickle.dumps(Tea(name="black"))) == Tea(name="black")  # noqa: S301  # our own bytes


def test_its_signature_can_be_read_before_the_first_object_is_made() -> None:
    @dataclass(slots=True)
    class Fresh:
        x: int
        y: int = 2

    assert str(inspect.signature(Fresh)) == "(x: 'int', y: 'int' = 2) -> None"


def test_pydantic_reads_it() -> None:
    assert TypeAdapter(Tea).validate_python({"name": "black", "grams": 1.5}) == Tea(name="black", grams=1.5)


def test_what_waits_is_compiled_before_a_fork() -> None:
    @record
    class Waits:
        x: int

    assert not isinstance(Waits.__dict__["__init__"], types.FunctionType)
    compile_records()
    assert isinstance(Waits.__dict__["__init__"], types.FunctionType)
    assert Waits(1).x == 1
