"""What annotations say of fields: aliases, type variables and text resolved as far as they can be.

The rule: what cannot be resolved says nothing, for its own field only.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import sys
import types
import typing
from collections.abc import Mapping, Sequence

import typing_extensions
from typing_extensions import ReadOnly

from .value_forms import excluded_fields

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations are values of any kind here.

WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, ReadOnly)
ALIASES = (typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType))
"""Of typing_extensions, and of Python 3.12's `type` statement."""
_AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)
UNIONS = (typing.Union, types.UnionType)


def origin_of(hint: typing.Any) -> typing.Any:
    """`list` of `list[int]`; anything else itself."""
    return typing.get_origin(hint) or hint


def args_of(hint: object) -> tuple[typing.Any, ...]:
    """`(int,)` of `list[int]`."""
    return typing.get_args(hint)


def is_of(origin: object, base: type) -> bool:
    """Whether it is a class below that one."""
    return isinstance(origin, type) and issubclass(origin, base)


def flat(hints: Sequence[object]) -> list[object]:
    """The members of a union, without wrappers, aliases and unions within; RecursionError if there is no end."""
    found: list[object] = []
    for hint in hints:
        origin = origin_of(hint)
        if origin in WRAPPERS:
            found += flat(args_of(hint)[:1])
        elif origin in UNIONS:
            found += flat(args_of(hint))
        elif isinstance(origin, ALIASES):
            found += flat([aliased(hint)])
        elif isinstance(hint, typing.NewType):
            found += flat([hint.__supertype__])
        elif isinstance(hint, typing.TypeVar):
            found += flat([hint.__bound__] if hint.__bound__ else hint.__constraints__)
        else:
            found.append(hint)
    return found


def awaited(hint: typing.Any) -> typing.Any:
    """What an awaitable of this type gives; any other type itself."""
    args = args_of(hint)
    return args[-1] if args and origin_of(hint) in _AWAITABLES else hint


def aliased(hint: typing.Any) -> object:
    """What a `type` alias stands for."""
    alias = origin_of(hint)
    value = alias.__value__
    with contextlib.suppress(NameError, TypeError):
        value = _resolved(value, alias.__module__, {alias.__name__: alias})
    return _substituted(value, dict(zip(alias.__type_params__, args_of(hint), strict=False)))


def record_fields(kind: typing.Any, args: Sequence[object]) -> dict[str, object] | None:
    """Types of the fields that a record shows. None for what is no record, and for one without fields: whoever declares
    that, or `BaseModel`, means any."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        known = hints_of(kind, args)
        hints = {field.name: known.get(field.name, typing.Any) for field in dataclasses.fields(kind)}
    elif isinstance(models := getattr(kind, "model_fields", None), dict):
        hints = {name: field.annotation for name, field in models.items()}
    else:
        return None
    hidden = excluded_fields(kind) | {name for name, hint in hints.items() if _is_excluded(hint)}
    return {name: hint for name, hint in hints.items() if name not in hidden} if hints else None


def hints_of(kind: typing.Any, args: Sequence[object] = ()) -> dict[str, object]:
    """The annotations of a class, its type variables replaced by the arguments of the alias."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):  # a name that only a type checker sees
        hints = _each_for_itself(kind)
    for name, field in getattr(kind, "__pydantic_fields__", {}).items():  # of a dataclass: pydantic knows local names
        if name in hints and not isinstance(field.annotation, str | typing.ForwardRef):
            hints[name] = field.annotation
    given = _variables(kind, args)
    return {name: _substituted(hint, given) for name, hint in hints.items()} if given else hints


def _each_for_itself(kind: type) -> dict[str, object]:
    hints: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        for name, hint in vars(base).get("__annotations__", {}).items():
            with contextlib.suppress(NameError, TypeError, SyntaxError):
                hints[name] = _resolved(hint, base.__module__, {})
    return hints


def _resolved(hint: object, module: str, local: dict[str, object]) -> object:
    """The annotation with its text read, as its module sees it. Raises NameError for a name that is not there."""
    names = dict(vars(sys.modules[module])) if module in sys.modules else {}
    holder = type("_", (), {"__annotations__": {"hint": hint}, "__module__": module})
    return typing.get_type_hints(holder, names, local, include_extras=True)["hint"]


def _is_excluded(hint: object) -> bool:
    """`Annotated[..., Field(exclude=True)]`."""
    return any(getattr(part, "exclude", None) is True for part in getattr(hint, "__metadata__", ()))


def _variables(kind: typing.Any, args: Sequence[object]) -> dict[object, object]:
    """What the type variables of a class and of its bases stand for."""
    names: tuple[object, ...] = getattr(kind, "__parameters__", ())
    own = dict(zip(names, args, strict=False))
    given: dict[object, object] = {}
    for base in getattr(kind, "__orig_bases__", ()):
        origin = origin_of(base)
        if origin is not base and origin not in (typing.Generic, typing.Protocol):
            given |= _variables(origin, [_substituted(arg, own) for arg in args_of(base)])
    return given | own


def _substituted(hint: typing.Any, given: Mapping[object, object]) -> object:
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    names = getattr(hint, "__parameters__", ())
    if not names or not args_of(hint) or not given:
        return hint
    return hint[tuple(given.get(name, name) for name in names)]
