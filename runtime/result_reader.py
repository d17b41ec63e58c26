"""How a tool's result is checked against what the tool promises: one pydantic-core validator, built at the first call.

The rule: as strict as for arguments. The guest gets the value in the promised type (an `int` for `float` becomes a
float), so the stub that a model has read is true. A type that no check can be made of is not checked. numpy's numbers
and arrays are held to it as the numbers and lists that they will be.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import SchemaError, ValidationError

from .argument_reader import explain, strict_scalars, validator_of
from .declared_hints import awaited
from .limits import Limits
from .tool_signature import BadResult
from .typed_dicts import readable
from .value_forms import without_numpy
from .value_types import ITEM_COST, CrossError

_MOST_PARTS = Limits().value_bytes // ITEM_COST
_LAZY: set[object] = {
    typing.get_origin(Callable[..., object]),
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
}
"""pydantic checks these while they are read, and gives an iterator, which cannot cross."""


def result_check(tool: str, hint: object) -> Callable[[object], object] | None:
    """Gives a result back in the type of the hint, or raises BadResult. None: there is nothing to check."""
    hint = awaited(hint)
    if hint is typing.Any or hint is object or _is_lazy(hint):
        return None
    try:
        validate = validator_of(strict_scalars(TypeAdapter(readable(hint)).core_schema))
    except (PydanticSchemaGenerationError, PydanticUserError, SchemaError, NameError):
        return None

    def check(result: object) -> object:
        try:
            return validate(result)
        except ValidationError as exc:
            try:
                return validate(without_numpy(result, _MOST_PARTS))
            except (ValidationError, CrossError, RecursionError):
                pass  # what was wrong with it at first is what its author knows
            raise BadResult(tool, explain(exc, root="result")) from None

    return check


def _is_lazy(hint: object) -> bool:
    origin = typing.get_origin(hint) or hint
    return (isinstance(origin, type) and origin in _LAZY) or any(map(_is_lazy, typing.get_args(hint)))
