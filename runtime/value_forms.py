"""What is outside the codec's set and still crosses, as the plain data that stands for it.

The rule: a subclass of a plain type crosses as that type, an enum's member as its value, what is written as text (an
identifier, a path, an address) as its text, a record (dataclass, pydantic model) as the dict of its fields. All else is
refused by the name of its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from .value_types import CrossError

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false
# Values of any kind, and `issubclass` narrows their types to generics of Unknown.

_WHOLE = slice(None)
_PLAIN: tuple[tuple[type, Callable[..., object]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
    (bytes, lambda value: bytes.__getitem__(value, _WHOLE)),
    (dict, dict.copy),
    (list, lambda value: list.__getitem__(value, _WHOLE)),
    (tuple, lambda value: tuple.__getitem__(value, _WHOLE)),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
)
"""What a subclass holds, as its plain type, whatever the subclass has made of the methods."""
_TEXTS = frozenset(
    {
        ("uuid", "UUID"),
        ("pathlib", "PurePath"),
        ("pathlib._local", "PurePath"),  # Python 3.13
        ("ipaddress", "_IPAddressBase"),
        ("pydantic.networks", "_BaseUrl"),
        ("pydantic.networks", "_BaseMultiHostUrl"),
        ("pydantic_core._pydantic_core", "Url"),
        ("pydantic_core._pydantic_core", "MultiHostUrl"),
    }
)
"""By name: whoever has such a value has imported its module, and nobody else should pay for that."""


def is_record(kind: type) -> bool:
    """Whether values of the type are records: dataclasses or pydantic models."""
    if issubclass(kind, Enum) or is_root_model(kind):
        return False
    # The first is `is_dataclass`, for whose import a process start pays 10 ms.
    return hasattr(kind, "__dataclass_fields__") or isinstance(getattr(kind, "model_fields", None), dict)


def fields_of(record: object, path: str) -> dict[str, object]:
    """The fields of a record by name, without those that a pydantic model excludes.

    Raises:
        CrossError: a field has no value.
    """
    names: Iterable[str]
    if hasattr(type(record), "__dataclass_fields__"):
        import dataclasses

        names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # looked at above
    else:
        names = getattr(type(record), "model_fields", ())
    hidden = excluded_fields(type(record))
    try:
        return {name: getattr(record, name) for name in names if name not in hidden}
    except AttributeError as exc:
        raise CrossError(f"{type(record).__name__} has a field without a value: {exc.name}", path) from None


def plain_form(value: object, path: str) -> object:
    """What stands for a value that is neither plain nor a record; its parts may be anything.

    Raises:
        CrossError: nothing does.
    """
    kind = type(value)
    if issubclass(kind, Enum):
        return value.value  # type: ignore[attr-defined]  # looked at above
    if is_root_model(kind):
        return value.root  # type: ignore[attr-defined]  # as pydantic has it
    for plain, unwrap in _PLAIN:
        if issubclass(kind, plain):
            return unwrap(value)
    if any((base.__module__, base.__qualname__) in _TEXTS for base in kind.__mro__):
        return str(value)
    raise CrossError(f"{kind.__name__} cannot cross", path)


def excluded_fields(kind: type) -> set[str]:
    """Names of the fields that a pydantic model or dataclass keeps to itself, `Field(exclude=True)`."""
    fields: dict[str, object] = getattr(kind, "__pydantic_fields__", {})
    return {name for name, field in fields.items() if getattr(field, "exclude", None) is True}


def is_root_model(kind: type) -> bool:
    """Whether it is a pydantic `RootModel`, which is written as what it holds."""
    return getattr(kind, "__pydantic_root_model__", False) is True
