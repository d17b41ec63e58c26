"""Records: plain classes that compare and show themselves by value."""

from __future__ import annotations

import pytest

from cloche.runtime.plain import record


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
