"""How a tool's arguments are read: one pydantic-core validator per tool, built once from the signature.

The rule: a scalar parameter (`int`, `float`, `str`, `bytes`, `bool`) takes its own type only, and `float` an int too:
no text becomes a number, no number a bool. Everything else takes what plain data can give: a list for a tuple or set,
a dict for a dataclass, model or TypedDict, text for a date, UUID, path or enum. Inside a pydantic model its own config
decides. `Field(strict=False)` on a parameter wins over this.

Imported with the first tool: pydantic costs 100 ms that a sandbox without tools does not pay.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ArgsKwargs, PydanticCustomError, SchemaError, SchemaValidator, ValidationError

from .errors import ConfigError
from .tool_signature import Arguments, BadArguments, first_line
from .typed_dicts import readable

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# A core schema is nested dicts of anything; `isinstance(part, dict)` narrows to dict[Unknown, Unknown].

MAX_ERRORS = 5
"""Problems named in one message; a model repairs them one by one anyway."""
MOST_ERRORS = 300
"""Problems that are looked at at all. pydantic makes an object of each, in one call that nothing interrupts."""
MOST_OPEN = 5000
"""Arguments that `*args`, `**kwargs` and the typed extra keys of a model may take: these have no way to stop at the
first wrong one."""
_OPEN_ENDED = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
_FAIL_FAST = frozenset({"list", "tuple", "set", "frozenset", "dict"})
_CALLS = frozenset({"arguments", "arguments-v3", "named-tuple"})
_RECORDS = _CALLS | {"dataclass-args", "model-fields", "typed-dict"}
_COUNTED = (dict, list, tuple)
_EXTRAS = ("extras_schema", "extras_keys_schema", "var_args_schema", "var_kwargs_schema")
"""What validates keys and arguments that have no name of their own: an error of each."""
_SCALARS = frozenset({"bool", "bytes", "float", "int", "str"})
_INNER_SCHEMAS = frozenset(
    {
        "arguments_schema",
        "choices",
        "definitions",
        "extras_schema",
        "fields",
        "items_schema",
        "keys_schema",
        "lax_schema",
        "python_schema",
        "schema",
        "steps",
        "values_schema",
        "var_args_schema",
        "var_kwargs_schema",
    }
)
"""Keys of a core schema under which further schemas stand. Any other key may hold the user's own data (a default)."""


class _Quiet(GenerateJsonSchema):
    """Without a warning for each default that JSON does not have: it is the tool's own business, and left out."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # as pydantic has it


class ArgumentReader:
    """Binds and validates the arguments of one tool."""

    def __init__(self, name: str, parameters: Sequence[inspect.Parameter]) -> None:
        """`parameters` carry resolved annotations."""
        self._name = name
        self._parameters = parameters
        schema = _own_defaults(strict_scalars(self._adapter(parameters).core_schema), parameters)
        kinds = {parameter.kind for parameter in parameters}
        self._most = len(parameters) + (MOST_OPEN if kinds & _OPEN_ENDED else MOST_ERRORS)
        self._validate = validator_of(schema, counted=True)

    def read(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """What to call the function with, defaults filled in.

        Raises:
            BadArguments: they do not fit.
        """
        count = len(args) + len(kwargs)
        if count > self._most:  # pydantic would name each of them
            raise BadArguments(f"{self._name}(): {count} arguments are far too many; pass a list")
        try:
            bound = typing.cast("Arguments", self._validate(ArgsKwargs(args, kwargs)))
        except ValidationError as exc:
            raise BadArguments(f"{self._name}(): {explain(exc, self._parameters)}") from None
        return bound

    def json_schema(self, descriptions: Mapping[str, str]) -> dict[str, object]:
        """JSON Schema (draft 2020-12) of the arguments as one object; `*args` is an array under its own name."""
        parameters = [_named_only(parameter) for parameter in self._parameters]
        schema: dict[str, object] = self._adapter(parameters).json_schema(schema_generator=_Quiet)
        properties = schema.setdefault("properties", {})
        if isinstance(properties, dict):
            for name, description in descriptions.items():
                if isinstance(properties.get(name), dict):
                    properties[name].setdefault("description", description)
        return schema

    def _adapter(self, parameters: Sequence[inspect.Parameter]) -> TypeAdapter[object]:
        """pydantic's reading of a function with these parameters, whose call gives the arguments back."""

        def collect(*args: object, **kwargs: object) -> Arguments:
            return args, kwargs

        parameters = [parameter.replace(annotation=readable(parameter.annotation)) for parameter in parameters]
        signature = inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))
        collect.__signature__ = signature  # type: ignore[attr-defined]  # what inspect.signature gives
        collect.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        collect.__name__ = collect.__qualname__ = self._name
        try:
            return TypeAdapter(typing.cast("typing.Any", collect))
        except (PydanticSchemaGenerationError, PydanticUserError, SchemaError) as exc:
            raise ConfigError(
                f"tool {self._name!r}: a parameter has a type that no data fits: {first_line(exc)}"
            ) from exc


def explain(exc: ValidationError, parameters: Sequence[inspect.Parameter] = (), root: str = "") -> str:
    """What is wrong, by place, without the values. `root` names the whole, where it is not a list of arguments."""
    if exc.error_count() > MOST_ERRORS:
        return f"{exc.error_count()} things are wrong"
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in positional]
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    parts = [
        f"{_place((root, *error['loc']) if root else error['loc'], names)}{error['msg']}"
        for error in errors[:MAX_ERRORS]
    ]
    if len(errors) > MAX_ERRORS:
        parts.append(f"and {len(errors) - MAX_ERRORS} more")
    return "; ".join(parts)


def _own_defaults(schema: object, parameters: Sequence[inspect.Parameter]) -> object:
    """The schema of a call (a copy that may be changed) with each parameter's default as it is, as Python fills it in.
    pydantic copies a default that has no hash, at every call: what a tool keeps in it would be lost, and a lock in it
    fails."""
    call = _call_in(schema)
    defaults = {parameter.name: parameter.default for parameter in parameters}
    for argument in call["arguments_schema"]["arguments_schema"]:
        inner = argument["schema"]
        if inner["type"] == "default" and "default" in inner and inner["default"] is defaults.get(argument["name"]):
            inner["default_factory"] = partial(_itself, inner.pop("default"))
    return schema


def _call_in(schema: object) -> typing.Any:
    """The schema of the call itself, which may stand within definitions."""
    whole = typing.cast("typing.Any", schema)
    return whole["schema"] if whole["type"] == "definitions" else whole


def _itself(value: object) -> object:
    return value


def _named_only(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter as JSON can give it: by name. `*args` becomes a list under its own name."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        hint = types.GenericAlias(list, (parameter.annotation,))
        return parameter.replace(kind=parameter.KEYWORD_ONLY, default=[], annotation=hint)
    return parameter if parameter.kind is parameter.VAR_KEYWORD else parameter.replace(kind=parameter.KEYWORD_ONLY)


def _place(loc: tuple[int | str, ...], names: list[str]) -> str:
    """`item: `, or `rows.3.name: `. A position becomes the parameter's name."""
    if not loc:
        return ""
    first, *rest = loc
    head = first if isinstance(first, str) else names[first] if first < len(names) else f"argument {first + 1}"
    return ".".join(str(part)[:60] for part in [head, *rest[:5]]) + ": "


def strict_scalars(schema: object) -> object:
    """A copy of a core schema in which scalars take their own type only; pydantic models stay as they are."""
    if isinstance(schema, list | tuple):
        return type(schema)(strict_scalars(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "model" or (kind == "dataclass" and hasattr(schema.get("cls"), "__pydantic_validator__")):
        return schema
    copy = {key: _inner(key, part) for key, part in schema.items()}
    if isinstance(kind, str) and kind in _SCALARS:
        copy.setdefault("strict", True)
    return copy


def validator_of(schema: object, *, counted: bool = False) -> Callable[[object], object]:
    """Validates by this core schema, with a bounded number of mistakes.

    Args:
        schema: as a `TypeAdapter` has it.
        counted: it is the schema of a function, and whoever calls has counted the arguments: a microsecond less.

    Raises:
        SchemaError: it is no core schema.
    """
    bounded = typing.cast("typing.Any", _bounded(schema))
    if counted:
        call = _call_in(bounded)
        call["arguments_schema"] = call["arguments_schema"]["schema"]  # what stands behind the count
    try:  # a model's own validator, ready-made, would be taken for the bounded copy of its schema
        validate = SchemaValidator(bounded, _use_prebuilt=False).validate_python
    except TypeError:  # a release without this option; the tests say whether it has ready-made validators
        validate = SchemaValidator(bounded).validate_python
    # Stubs show a field by its name, a JSON schema by its alias: both are true.
    return partial(validate, by_alias=True, by_name=True) if _has_alias(bounded) else validate


def _has_alias(schema: object) -> bool:
    if isinstance(schema, list | tuple):
        return any(map(_has_alias, schema))
    if not isinstance(schema, dict):
        return False
    if "validation_alias" in schema or "alias" in schema:
        return True
    for key in _INNER_SCHEMAS & schema.keys():
        part = schema[key]
        named = key in ("fields", "choices") and isinstance(part, dict)  # by name or by tag, not itself a schema
        if _has_alias(list(part.values()) if named else part):
            return True
    return False


def _bounded(schema: object, extra: object = None) -> object:
    """A copy of a core schema whose containers stop at their first wrong item, also inside models, and whose records
    refuse a flood of keys as one mistake. Otherwise a guest has a million errors made in one call that holds the
    interpreter's lock: no deadline of the host runs meanwhile. `extra`: what the model around does with unknown keys.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(_bounded(part, extra) for part in schema)
    if not isinstance(schema, dict):
        return schema
    if "config" in schema:
        extra = schema["config"].get("extra_fields_behavior")
    copy: dict[object, object] = {}
    for key, part in schema.items():
        if key in ("fields", "choices") and isinstance(part, dict):  # by name or by tag, not itself a schema
            copy[key] = {name: _bounded(below, extra) for name, below in part.items()}
        else:
            copy[key] = _bounded(part, extra) if key in _INNER_SCHEMAS else part
    if copy.get("type") in _FAIL_FAST:
        copy["fail_fast"] = True
    most = _most_keys(copy, extra)
    return copy if most is None else _counted(copy, most)


def _most_keys(schema: Mapping[object, object], extra: object) -> int | None:
    """How many keys or items the record may be given, where each unknown one would be an error. None: any number."""
    kind = schema.get("type")
    if kind not in _RECORDS:
        return None
    known = schema.get("fields", schema.get("arguments_schema"))
    count = len(known) if isinstance(known, Sized) else 0
    if any(schema.get(key) is not None for key in _EXTRAS):
        return count + MOST_OPEN
    forbids = kind in _CALLS or schema.get("extra_behavior", extra) == "forbid"
    return count + MOST_ERRORS if forbids else None


def _counted(schema: dict[object, object], most: int) -> dict[object, object]:
    """The schema behind a count of what it is given."""

    def count(value: object) -> object:
        if isinstance(value, _COUNTED) and len(value) > most:
            raise PydanticCustomError("too_many_keys", "{count} keys are far too many", {"count": len(value)})
        return value

    outer: dict[object, object] = {"type": "function-before", "function": {"type": "no-info", "function": count}}
    if "ref" in schema:  # other places refer to the whole
        outer["ref"] = schema.pop("ref")
    return {**outer, "schema": schema}


def _inner(key: str, part: object) -> object:
    if key not in _INNER_SCHEMAS:
        return part
    if key in ("fields", "choices") and isinstance(part, dict):  # by name or by tag, not itself a schema
        return {name: strict_scalars(below) for name, below in part.items()}
    return strict_scalars(part)
