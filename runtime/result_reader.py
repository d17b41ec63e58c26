"""How a tool's result is held to what the tool promises: one pydantic-core validator, built at the first call.

The rule: as strict as for arguments. The guest gets the value in the promised type (an `int` for `float` becomes a
float), so the stub that a model has read is true; of a record it gets the fields of the promised type, no more: those
that a subclass adds or that the model excludes stay on the host. A type that no check can be made of is not checked.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import SchemaError, SchemaSerializer, ValidationError

from .argument_reader import explain, strict_scalars, validator_of
from .tool_signature import BadResult
from .typed_dicts import readable

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# A core schema is nested dicts of anything.

_LAZY: set[object] = {
    typing.get_origin(Callable[..., object]),
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
}
"""pydantic checks these while they are read, and gives an iterator, which cannot cross."""
_SCALARS = (None, type(None), bool, int, float, str, bytes)
_RECORDS = {"model", "dataclass"}
_AWAITED = {collections.abc.Awaitable, collections.abc.Coroutine}


def result_check(tool: str, hint: object) -> Callable[[object], object] | None:
    """Gives a result back in the type of the hint, or raises BadResult. None: there is nothing to check."""
    schema = _schema_of(hint)
    if schema is None:
        return None
    try:
        validate = validator_of(strict_scalars(schema))
    except SchemaError:
        return None

    def check(result: object) -> object:
        try:
            return validate(result)
        except ValidationError as exc:
            raise BadResult(tool, explain(exc, root="result")) from None

    return check


def result_as_data(tool: str, hint: object) -> Callable[[object], object] | None:
    """Gives a checked result as data: for each record a dict of the fields that the hint declares, as pydantic writes
    them (`exclude`, serializers of the author's). None: the hint has no record in it.
    """
    schema = None if hint in _SCALARS else _schema_of(hint)
    if schema is None or not _has_record(schema):
        return None
    try:
        write = SchemaSerializer(typing.cast("typing.Any", _with_all_fields(schema))).to_python
    except SchemaError:
        return None

    def as_data(result: object) -> object:
        try:
            return write(result, mode="python", by_alias=False, warnings=False)
        except (ValueError, RecursionError) as exc:  # PydanticSerializationError is a ValueError
            raise BadResult(tool, "result: it cannot be written as data, or it holds itself") from exc

    return as_data


def _schema_of(hint: object) -> object:
    """pydantic's core schema of what the tool gives; None where it has none, or nothing could be wrong."""
    if typing.get_origin(hint) in _AWAITED and typing.get_args(hint):
        hint = typing.get_args(hint)[-1]
    if hint is typing.Any or hint is object or _is_lazy(hint):
        return None
    try:
        return TypeAdapter(readable(hint)).core_schema
    except (PydanticSchemaGenerationError, PydanticUserError, SchemaError, NameError):
        return None


def _has_record(schema: object) -> bool:
    if isinstance(schema, list | tuple):
        return any(map(_has_record, schema))
    if not isinstance(schema, dict):
        return False
    return schema.get("type") in _RECORDS or "serialization" in schema or any(map(_has_record, schema.values()))


def _with_all_fields(schema: object) -> object:
    """A copy in which a dataclass has the fields, too, that only its `__post_init__` sets; pydantic leaves them out."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_with_all_fields, schema))
    if not isinstance(schema, dict):
        return schema
    copy: dict[object, typing.Any] = {key: _with_all_fields(part) for key, part in schema.items()}
    if copy.get("type") == "dataclass":
        arguments = copy["schema"]
        while arguments.get("type") != "dataclass-args" and "schema" in arguments:
            arguments = arguments["schema"]
        known = {field["name"] for field in arguments.get("fields", [])}
        missing = [name for name in copy.get("fields", []) if name not in known]
        fields = [{"type": "dataclass-field", "name": name, "schema": {"type": "any"}} for name in missing]
        arguments["fields"] = [*arguments.get("fields", []), *fields]
    return copy


def _is_lazy(hint: object) -> bool:
    origin = typing.get_origin(hint) or hint
    return (isinstance(origin, type) and origin in _LAZY) or any(map(_is_lazy, typing.get_args(hint)))
