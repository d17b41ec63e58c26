"""What a tool's annotation shows of its result: a record of a subclass becomes a dict of the declared fields.

The rule: whoever writes `-> Public` and returns a `User(Public)` shows the fields of `Public`. What is of the declared
types exactly is given back as it is, uncopied. An annotation that says nothing (`Any`, a protocol) hides nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import is_typeddict

from .declared_hints import (
    ALIASES,
    UNIONS,
    WRAPPERS,
    aliased,
    args_of,
    awaited,
    flat,
    hints_of,
    is_of,
    origin_of,
    record_fields,
)
from .value_forms import excluded_fields, is_record, is_root_model
from .value_types import ITEM_COST, CrossError, ValueTooLarge

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations and results are values of any kind here.


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
    try:
        step = _Reader().step(awaited(hint))
    except RecursionError:  # a generic that grows with each look at itself: it says nothing that could be read
        return None
    if step is None:
        return None

    def show(result: object, size: int) -> object:
        allowed = size // ITEM_COST
        try:
            return step(result, _Walk(allowed, allowed))
        except RecursionError:
            raise CrossError("it is nested too deeply, or holds itself", "result") from None

    return show


@dataclasses.dataclass
class _Parts:
    """What the containers of a union say of their parts."""

    keyed: dict[str, list[object]] = dataclasses.field(default_factory=dict[str, list[object]])
    """Of TypedDicts."""
    keys: list[object] = dataclasses.field(default_factory=list[object])
    values: list[object] = dataclasses.field(default_factory=list[object])
    items: list[object] = dataclasses.field(default_factory=list[object])
    tuples: list[list[object]] = dataclasses.field(default_factory=list[list[object]])
    """Of tuples with a length, and named tuples."""

    def add(self, hint: object) -> None:
        origin, args = origin_of(hint), args_of(hint)
        if is_typeddict(origin):
            for name, declared in hints_of(origin, args).items():
                self.keyed.setdefault(name, []).append(declared)
        elif is_of(origin, tuple) and args[1:] != (Ellipsis,):
            self.tuples.append(_places(origin, args))
        elif is_of(origin, collections.abc.Mapping):
            self.keys += args[:1]
            self.values += args[1:]
        elif is_of(origin, collections.abc.Iterable):
            self.items += args[:1]


class _Reader:
    """Reads annotations. A type that holds itself finds its own step on the way."""

    def __init__(self) -> None:
        self._made: dict[object, _Step | None] = {}

    def step(self, hint: typing.Any) -> _Step | None:
        """The step of an annotation; None where nothing below it is a record."""
        if isinstance(hint, typing.NewType):
            return self.step(hint.__supertype__)
        if isinstance(hint, typing.TypeVar):
            return self.step(hint.__bound__) if hint.__bound__ else self._any_of(hint.__constraints__)
        origin, args = origin_of(hint), args_of(hint)
        if isinstance(origin, ALIASES):
            return self._once(hint, lambda: self.step(aliased(hint)))
        if origin in WRAPPERS:
            return self.step(args[0]) if args else None
        if origin in UNIONS:
            return self._any_of(args)
        if not isinstance(origin, type):
            return None
        if record_fields(origin, args) is not None:
            return self._once(hint, lambda: self._record(origin, [hint]))
        return self._once(hint, lambda: self._container([hint]))

    def _once(self, key: object, make: Callable[[], _Step | None]) -> _Step | None:
        try:
            known = key in self._made
        except TypeError:  # an argument without a hash: such a type does not hold itself
            return make()
        if not known:
            self._made[key] = lambda value, walk: value if (made := self._made[key]) is None else made(value, walk)
            self._made[key] = make()
        return self._made[key]

    def _any_of(self, hints: Sequence[object]) -> _Step | None:
        if len(hints) <= 1:
            return self.step(hints[0]) if hints else None
        found = flat(hints)
        return self._once(("union", *found), lambda: self._union(found))

    def _union(self, hints: Sequence[object]) -> _Step | None:
        """Of several records the nearest to what is there; of several containers what holds for any of them."""
        same: dict[type, list[object]] = {}
        for hint in hints:
            if record_fields(origin_of(hint), args_of(hint)) is not None:
                same.setdefault(origin_of(hint), []).append(hint)
        records = {kind: self._record(kind, members) for kind, members in same.items()}
        other = self._container([hint for hint in hints if origin_of(hint) not in records])

        def show(value: object, walk: _Walk) -> object:
            for kind in type(value).__mro__:
                if kind in records:
                    return records[kind](value, walk)
            for kind, step in records.items():
                if isinstance(value, kind):  # registered with an abstract class
                    return step(value, walk)
            return value if other is None else other(value, walk)

        return show if records or other is not None else None

    # --- records ------------------------------------------------------------------------------------------------------

    def _record(self, kind: type, hints: Sequence[object]) -> _Step:
        """Of one record type, or of several aliases of one generic."""
        types_of: dict[str, list[object]] = {}
        for hint in hints:
            for name, declared in (record_fields(kind, args_of(hint)) or {}).items():
                types_of.setdefault(name, []).append(declared)
        steps = self._steps(types_of)
        all_names = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else None
        whole = all_names is None or all_names - excluded_fields(kind) == types_of.keys()

        def show(value: object, walk: _Walk) -> object:
            if not isinstance(value, kind):
                return value
            walk.take(len(types_of))
            try:
                fields = {name: getattr(value, name) for name in types_of}
            except AttributeError as exc:
                raise CrossError(f"{type(value).__name__} has a field without a value: {exc.name}", "result") from None
            shown = {name: steps[name](part, walk) if name in steps else part for name, part in fields.items()}
            if whole and type(value) is kind and all(shown[name] is fields[name] for name in steps):
                return value
            return shown["root"] if is_root_model(kind) else shown

        return show

    def _steps(self, types_of: Mapping[str, Sequence[object]]) -> dict[str, _Step]:
        steps = {name: self._any_of(hints) for name, hints in types_of.items()}
        return {name: step for name, step in steps.items() if step is not None}

    # --- containers ---------------------------------------------------------------------------------------------------

    def _container(self, hints: Sequence[object]) -> _Step | None:
        """For all that a union, or one annotation, says of the parts of dicts, of tuples and of other collections."""
        parts = _Parts()
        for hint in hints:
            parts.add(hint)
        found = [self._dict(parts), *self._tuples(parts.tuples, parts.items), self._items(parts)]
        steps = [step for step in found if step is not None]

        def show(value: object, walk: _Walk) -> object:
            for step in steps:
                shown = step(value, walk)
                if shown is not value:
                    return shown
            return value

        return show if steps else None

    def _dict(self, parts: _Parts) -> _Step | None:
        steps = self._steps({name: [*hints, *parts.values] for name, hints in parts.keyed.items()})
        key_step, rest = self._any_of(parts.keys), self._any_of(parts.values)

        def show(value: object, walk: _Walk) -> object:
            if not isinstance(value, collections.abc.Mapping):
                return value
            walk.take(len(value))
            if key_step is not None and any(key_step(key, walk) is not key for key in value):
                raise CrossError("a record cannot be a dict key", "result")
            shown: dict[object, object] = {}
            for key, part in value.items():
                step = steps.get(key, rest)
                shown[key] = part if step is None else step(part, walk)
            return value if all(part is value[key] for key, part in shown.items()) else shown

        return show if steps or rest is not None or key_step is not None else None

    def _tuples(self, tuples: Sequence[Sequence[object]], items: Sequence[object]) -> list[_Step]:
        """A step for each length of tuples."""
        made: list[_Step] = []
        for length in {len(places) for places in tuples}:
            several = zip(*(places for places in tuples if len(places) == length), strict=True)
            steps = [self._any_of([*hints, *items]) for hints in several]
            if any(steps):
                made.append(_of_length(steps))
        return made

    def _items(self, of: _Parts) -> _Step | None:
        step = self._any_of(of.items)
        lengths = {len(places) for places in of.tuples}

        def show(value: object, walk: _Walk) -> object:
            if step is None or isinstance(value, str | bytes | collections.abc.Mapping):
                return value
            if not isinstance(value, collections.abc.Collection):
                if isinstance(value, collections.abc.Iterable) and not is_record(type(value)):
                    raise CrossError(f"{type(value).__name__} can be read only once; return a list", "result")
                return value
            if isinstance(value, tuple) and len(value) in lengths:
                return value  # it was looked at place by place
            walk.take(len(value))
            parts = list(value)
            shown = [step(part, walk) for part in parts]
            unordered = isinstance(value, set | frozenset) and any(is_record(type(part)) for part in parts)
            if not unordered and all(new is old for new, old in zip(shown, parts, strict=True)):
                return value
            return tuple(shown) if isinstance(value, tuple) else shown  # a dict has no place in a set

        return None if step is None else show


def _places(kind: typing.Any, args: Sequence[object]) -> list[object]:
    """What a tuple type says of each place."""
    if not hasattr(kind, "_fields"):
        return list(args)
    known = hints_of(kind, args)
    return [known.get(name, typing.Any) for name in kind._fields]


def _of_length(steps: Sequence[_Step | None]) -> _Step:
    def show(value: object, walk: _Walk) -> object:
        if not isinstance(value, tuple) or len(value) != len(steps):
            return value
        walk.take(len(steps))
        shown = tuple(part if step is None else step(part, walk) for step, part in zip(steps, value, strict=True))
        return value if all(new is old for new, old in zip(shown, value, strict=True)) else shown

    return show
