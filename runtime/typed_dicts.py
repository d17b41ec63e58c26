"""`typing.TypedDict` as pydantic can read it: before Python 3.12 it takes those of typing_extensions only.

The rule: names, keys and what is required stay as they are; everything else in an annotation is passed through.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing

import typing_extensions

# pyright: reportGeneralTypeIssues=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations are values of any kind here.


def readable(hint: typing.Any) -> typing.Any:
    """The annotation with every TypedDict in it in a form that pydantic reads."""
    return hint if sys.version_info >= (3, 12) else _readable(hint, {})


def _readable(hint: typing.Any, made: dict[type, typing.Any]) -> typing.Any:
    if typing.is_typeddict(hint):
        return _twin(hint, made)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if not args or origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(_readable(args[0], made), *hint.__metadata__)]
    changed = tuple(_readable(arg, made) for arg in args)
    if all(new is old for new, old in zip(changed, args, strict=True)):
        return hint
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, changed)
    return origin[changed] if len(changed) > 1 else origin[changed[0]]


def _twin(kind: type, made: dict[type, typing.Any]) -> typing.Any:
    if kind in made:
        return made[kind]
    made[kind] = typing.Any  # a type that holds itself is checked one level deep
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:  # pydantic says what is wrong
        made[kind] = kind
        return kind
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset(hints))
    fields = {
        name: _field(_readable(_bare(hint), made), is_required(hint, name in required)) for name, hint in hints.items()
    }
    made[kind] = typing_extensions.TypedDict(kind.__name__, fields)  # type: ignore[operator]
    return made[kind]


def is_required(hint: typing.Any, otherwise: bool) -> bool:
    """What the annotation itself says: where annotations are text, `__required_keys__` does not know it."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return is_required(typing.get_args(hint)[0], otherwise)
    return origin is typing.Required or (otherwise and origin is not typing.NotRequired)


def _bare(hint: typing.Any) -> typing.Any:
    wrappers = (typing.Required, typing.NotRequired)
    return typing.get_args(hint)[0] if typing.get_origin(hint) in wrappers else hint


def _field(hint: typing.Any, required: bool) -> typing.Any:
    return hint if required else typing_extensions.NotRequired[hint]
