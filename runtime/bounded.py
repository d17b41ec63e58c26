"""Frozen settings whose numbers have bounds, checked once at construction: what `Limits` and `RuntimeConfig` are.

The rule: a wrong setting is a `ConfigError` that names the field, what it got and what it takes. (pydantic would do the
same and cost each process start 150 ms.)
"""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast, overload

from .errors import ConfigError
from .plain import dataclass, field, fields

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Bounds:
    """From `least` (or above it, if `open_below`) to `most`, both in the field's own unit."""

    least: float
    most: float
    open_below: bool = False

    def __str__(self) -> str:
        return f"{'above' if self.open_below else 'from'} {self.least:g} to {self.most:g}"

    def hold(self, value: float) -> bool:
        return (self.least < value if self.open_below else self.least <= value) and value <= self.most


@overload
def bounded(default: None, *, ge: float | None = None, gt: float | None = None, le: float) -> None: ...
@overload
def bounded(default: N, *, ge: float | None = None, gt: float | None = None, le: float) -> N: ...
def bounded(default: Any, *, ge: float | None = None, gt: float | None = None, le: float) -> Any:
    """A field with this default and these bounds. int defaults make int fields, float ones take int as
    well, None makes an optional int."""
    bounds = Bounds(cast("float", gt if ge is None else ge), le, open_below=ge is None)
    return field(default=default, metadata={"bounds": bounds})


class Bounded:
    """Base of settings. Subclasses are frozen, keyword-only dataclasses and call `check` from `__post_init__`."""

    __slots__ = ()

    def check(self) -> None:
        """Raises ConfigError for the first field that is of the wrong kind or out of bounds."""
        for one in fields(self):
            bounds: Bounds | None = one.metadata.get("bounds")
            value = getattr(self, one.name)
            if bounds is None or value is one.default:  # most settings are left alone, and every sandbox has some
                continue
            whole = type(one.default) is not float
            if type(value) is not int and (whole or type(value) is not float):
                kind = "a whole number" if whole else "a number"
                raise ConfigError(f"{type(self).__name__}.{one.name} is {kind}, not {value!r:.60}")
            if not math.isfinite(value) or not bounds.hold(value):
                raise ConfigError(f"{type(self).__name__}.{one.name} is {bounds}, not {value!r:.60}")
