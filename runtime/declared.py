"""What a tool's annotation shows of its result: a record of a subclass becomes a dict of the declared fields.

The rule: whoever writes `-> Public` and returns a `User(Public)` shows the fields of `Public`. What is of the declared
types exactly is given back as it is, uncopied. An annotation that says nothing (`Any`, a protocol) hides nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import ReadOnly, TypeAliasType, is_typeddict

from .value_forms import excluded_fields, is_root_model
from .value_types import ITEM_COST, CrossError, ValueTooLarge

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations and results are values of any kind here.

_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, ReadOnly)
_AWAITED = (collections.abc.Awaitable, collections.abc.Coroutine)


@dataclasses.dataclass
class _Walk:
    """How many parts may still be looked at: a result may be a few objects that are a billion when written out."""

    left: int
    allowed: int

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueTooLarge("value_bytes", (self.allowed + 1) * ITEM_COST, self.allowed * ITEM_COST, "result")


_Step = Callable[[typing.Any, _Walk], object]
"""Gives the part of a result as its annotation shows it: the very object, if there is nothing to hide."""


def shown_by(hint: object) -> Callable[[object, int], object] | None:
    """Gives what the annotation shows of a checked result, of which it looks at so many bytes (`ITEM_COST` a part) at
    most. None: the annotation names no record.

    The result raises ValueTooLarge for more, CrossError for a record without a value, or one that holds itself.
    """
    if typing.get_origin(hint) in _AWAITED and typing.get_args(hint):
        hint = typing.get_args(hint)[-1]
    step = _Reader().step(hint)
    if step is None:
        return None

    def show(result: object, size: int) -> object:
        allowed = size // ITEM_COST
        try:
            return step(result, _Walk(allowed, allowed))
        except RecursionError:
            raise CrossError("it is nested too deeply, or holds itself", "result") from None

    return show


class _Reader:
    """Reads annotations. A type that holds itself finds its own step on the way."""

    def __init__(self) -> None:
        self._made: dict[object, _Step | None] = {}

    def step(self, hint: typing.Any) -> _Step | None:
        """The step of an annotation; None where nothing below it is a record."""
        if isinstance(hint, typing.NewType):
            return self.step(hint.__supertype__)
        if isinstance(hint, TypeAliasType):
            return self._once(hint, lambda: self.step(hint.__value__))
        origin, args = _origin(hint), _args(hint)
        if origin in _WRAPPERS:
            return self.step(args[0])
        if origin is typing.Union or origin is types.UnionType:
            return self._union(args)
        if not isinstance(origin, type):
            return None
        if is_typeddict(origin):
            return self._once(hint, lambda: self._keyed(_hints(origin, args)))
        fields = _fields(origin, args)
        if fields is not None:
            return self._once(hint, lambda: self._record(origin, fields))
        if issubclass(origin, tuple):
            return self._tuple(origin, args)
        if issubclass(origin, collections.abc.Mapping):
            return self._values(args[1:])
        return self._items(args[:1]) if issubclass(origin, collections.abc.Iterable) and args else None

    def _once(self, key: object, make: Callable[[], _Step | None]) -> _Step | None:
        if key not in self._made:
            self._made[key] = lambda value, walk: value if (made := self._made[key]) is None else made(value, walk)
            self._made[key] = make()
        return self._made[key]

    def _steps(self, hints: Mapping[str, object]) -> dict[str, _Step]:
        steps = {name: self.step(hint) for name, hint in hints.items()}
        return {name: step for name, step in steps.items() if step is not None}

    def _record(self, kind: type, hints: Mapping[str, object]) -> _Step:
        steps = self._steps(hints)

        def show(value: object, walk: _Walk) -> object:
            if not isinstance(value, kind):
                return value
            walk.take(len(hints))
            exactly = type(value) is kind
            try:
                fields = {name: getattr(value, name) for name in hints}
            except AttributeError as exc:
                if exactly:  # the codec tells it, with the place
                    return value
                raise CrossError(f"{kind.__name__} has a field without a value: {exc.name}", "result") from None
            shown = {name: steps[name](part, walk) if name in steps else part for name, part in fields.items()}
            if exactly and all(shown[name] is fields[name] for name in steps):
                return value
            return shown["root"] if is_root_model(kind) else shown

        return show

    def _keyed(self, hints: Mapping[str, object]) -> _Step | None:
        steps = self._steps(hints)

        def show(value: object, walk: _Walk) -> object:
            if not isinstance(value, dict):
                return value
            walk.take(len(steps))
            shown = {name: step(value[name], walk) for name, step in steps.items() if name in value}
            return value if all(part is value[name] for name, part in shown.items()) else {**value, **shown}

        return show if steps else None

    def _values(self, hints: Sequence[object]) -> _Step | None:
        step = self._union(hints)

        def show(value: object, walk: _Walk) -> object:
            if step is None or not isinstance(value, collections.abc.Mapping):
                return value
            walk.take(len(value))
            shown = {key: step(part, walk) for key, part in value.items()}
            return value if all(part is value[key] for key, part in shown.items()) else shown

        return None if step is None else show

    def _items(self, hints: Sequence[object]) -> _Step | None:
        step = self._union(hints)

        def show(value: object, walk: _Walk) -> object:
            if step is None or not isinstance(value, list | tuple | set | frozenset | collections.deque):
                return value
            walk.take(len(value))
            parts = list(value)
            shown = [step(part, walk) for part in parts]
            if all(new is old for new, old in zip(shown, parts, strict=True)):
                return value
            return tuple(shown) if isinstance(value, tuple) else shown  # a dict has no place in a set

        return None if step is None else show

    def _tuple(self, kind: type, args: Sequence[object]) -> _Step | None:
        hints = list(_hints(kind, args).values()) if hasattr(kind, "_fields") else list(args)
        if len(hints) == 2 and hints[1] is Ellipsis:
            return self._items(hints[:1])
        steps = [self.step(hint) for hint in hints]

        def show(value: object, walk: _Walk) -> object:
            if not isinstance(value, tuple) or len(value) != len(steps):
                return value
            walk.take(len(steps))
            shown = tuple(part if step is None else step(part, walk) for step, part in zip(steps, value, strict=True))
            return value if all(new is old for new, old in zip(shown, value, strict=True)) else shown

        return show if any(steps) else None

    def _union(self, hints: Sequence[object]) -> _Step | None:
        """Of several records the nearest to what is there; of several containers what holds for any of them."""
        hints = _flat(hints)
        if len(hints) <= 1:
            return self.step(hints[0]) if hints else None
        records = {
            origin: self.step(hint) for hint in hints if _fields(origin := _origin(hint), _args(hint)) is not None
        }
        steps = self._containers([hint for hint in hints if _origin(hint) not in records])

        def show(value: object, walk: _Walk) -> object:
            for kind in type(value).__mro__:
                step = records.get(kind)
                if step is not None:
                    return step(value, walk)
            for step in steps:
                value = step(value, walk)
            return value

        return show if steps or records else None

    def _containers(self, hints: Sequence[object]) -> list[_Step]:
        """Of a union without its records: a step for each kind of container, for all that it says of the parts."""
        fields: dict[str, list[object]] = {}
        values: list[object] = []
        items: list[object] = []
        found: list[_Step | None] = []
        for hint in hints:
            origin, args = _origin(hint), _args(hint)
            if is_typeddict(origin):
                for name, kind in _hints(origin, args).items():
                    fields.setdefault(name, []).append(kind)
            elif _is_of(origin, collections.abc.Mapping) and len(args) == 2:
                values.append(args[1])
            elif _is_of(origin, collections.abc.Iterable) and len(args) == 1:
                items.append(args[0])
            else:
                found.append(self.step(hint))
        found.append(self._keyed({name: typing.Union[tuple(kinds)] for name, kinds in fields.items()}))  # noqa: UP007  # at run time
        found += [self._values(values), self._items(items)]
        return [step for step in found if step is not None]


def _origin(hint: typing.Any) -> typing.Any:
    return typing.get_origin(hint) or hint


def _args(hint: object) -> tuple[typing.Any, ...]:
    return typing.get_args(hint)


def _is_of(origin: object, base: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, base)


def _flat(hints: Sequence[object]) -> list[object]:
    """Without wrappers and unions within the union."""
    flat: list[object] = []
    for hint in hints:
        origin = typing.get_origin(hint)
        if origin in _WRAPPERS:
            flat += _flat(typing.get_args(hint)[:1])
        elif origin is typing.Union or origin is types.UnionType:
            flat += _flat(typing.get_args(hint))
        elif isinstance(hint, typing.NewType):
            flat += _flat([hint.__supertype__])
        else:
            flat.append(hint)
    return flat


def _fields(kind: type, args: Sequence[object]) -> dict[str, object] | None:
    """Types of the fields that a record shows. None for what is no record, and for one without fields: whoever declares
    that, or `BaseModel`, means any."""
    models = getattr(kind, "model_fields", None)
    if isinstance(models, dict):
        hints = {name: field.annotation for name, field in models.items()}
    elif dataclasses.is_dataclass(kind):
        known = _hints(kind, args)
        hints = {field.name: known.get(field.name, typing.Any) for field in dataclasses.fields(kind)}
    else:
        return None
    return {name: hint for name, hint in hints.items() if name not in excluded_fields(kind)} if hints else None


def _hints(kind: object, args: Sequence[object] = ()) -> dict[str, object]:
    """The annotations of a class, its type variables replaced by the arguments of the alias."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):  # a name that only a type checker sees
        return {}
    names: tuple[object, ...] = getattr(kind, "__parameters__", ())
    given = dict(zip(names, args, strict=False))
    return {name: _substituted(hint, given) for name, hint in hints.items()} if given else hints


def _substituted(hint: typing.Any, given: Mapping[object, object]) -> object:
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, typing.Any)
    names = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(name, typing.Any) for name in names)] if names and typing.get_args(hint) else hint
