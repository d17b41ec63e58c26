"""JSON Schema as Python types: for stubs that a model can read, and for checks of what crosses.

The rule: types are built from data, nothing is executed. What a schema says beyond types and plain bounds is left out;
what it says in a form that cannot be read is a `ConfigError`.
"""

from __future__ import annotations

import keyword
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Union, cast

from typing_extensions import TypedDict

from .errors import ConfigError

MAX_DEPTH = 20
MAX_NODES = 2000
"""Schemas come from tool authors and from servers: a hostile one may not build without end."""
_PLAIN: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": float,
    "null": None,
    "any": Any,
    "image": Any,
    "audio": Any,
}
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}


class SchemaReader:
    """Reads the schemas of one tool."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._root: Mapping[str, object] = {}
        self._names: set[str] = set()
        self._nodes = 0
        self._resolving: set[str] = set()

    def read(self, schema: Mapping[str, object], place: str) -> Any:
        """The type of what the schema describes. `place` names it in errors and, in CamelCase, a record type.

        Raises:
            ConfigError: it is no schema, or one without end.
        """
        self._root = schema
        return self._type(schema, place, 0)

    def _type(self, schema: object, place: str, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise ConfigError(f"tool {self._tool!r}: the schema of {place} is too deep, too large, or refers to itself")
        if schema is True or schema == {}:
            return Any
        if not isinstance(schema, Mapping):
            raise ConfigError(f"tool {self._tool!r}: the schema of {place} is no object: {schema!r:.100}")
        fields = cast("Mapping[str, object]", schema)
        found = self._bounded(self._unbounded(fields, place, depth), fields)
        return Union[found, None] if fields.get("nullable") is True else found  # noqa: UP007  # built at run time

    def _unbounded(self, schema: Mapping[str, object], place: str, depth: int) -> Any:
        if "$ref" in schema:
            return self._referred(str(schema["$ref"]), place, depth)
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if values is not None:
            return self._literal(values, place)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._union([self._type(part, place, depth + 1) for part in _items(schema[key])])
        word = schema.get("type", "object" if "properties" in schema else "any")
        if isinstance(word, list):
            parts = [self._type({**schema, "type": one}, place, depth + 1) for one in cast("list[object]", word)]
            return self._union(parts)
        if word == "array":
            return self._array(schema, place, depth)
        if word == "object":
            return self._object(schema, place, depth)
        if not isinstance(word, str) or word not in _PLAIN:
            raise ConfigError(f"tool {self._tool!r}: the schema of {place} has the unknown type {word!r:.100}")
        return _PLAIN[word]

    def _referred(self, reference: str, place: str, depth: int) -> Any:
        if reference in self._resolving:
            return Any  # a type that holds itself
        self._resolving.add(reference)
        try:
            return self._type(self._resolve(reference, place), place, depth + 1)
        finally:
            self._resolving.discard(reference)

    def _array(self, schema: Mapping[str, object], place: str, depth: int) -> Any:
        items = schema.get("items")
        if items is None or isinstance(items, list):
            return list[Any]
        return list[self._type(items, f"{place}_item", depth + 1)]  # type: ignore[misc]  # built at run time

    def _object(self, schema: Mapping[str, object], place: str, depth: int) -> Any:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            rest = schema.get("additionalProperties")
            inner = Any if rest is None or isinstance(rest, bool) else self._type(rest, f"{place}_value", depth + 1)
            return dict[str, inner]  # type: ignore[valid-type]  # built at run time
        named = cast("Mapping[str, object]", properties)
        if not all(str(key).isidentifier() and not keyword.iskeyword(key) for key in named):
            return dict[str, Any]  # no record in Python's spelling has such a field
        required = schema.get("required", [])
        needed = set(_items(required))
        types: dict[str, Any] = {}
        for key, part in named.items():
            kind = self._type(part, f"{place}_{key}", depth + 1)
            types[key] = kind if key in needed else NotRequired[kind]
        return TypedDict(self._name(schema, place), types)  # type: ignore[operator]

    def _name(self, schema: Mapping[str, object], place: str) -> str:
        title = schema.get("title")
        words = title if isinstance(title, str) and title.isidentifier() and title.isascii() else place
        name = "".join(part[:1].upper() + part[1:] for part in words.replace("-", "_").split("_"))[:60] or "Record"
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}{number}"
        self._names.add(unique)
        return unique

    def _literal(self, values: object, place: str) -> Any:
        listed = _items(values)
        if not listed:
            raise ConfigError(f"tool {self._tool!r}: the schema of {place} allows no value")
        if all(value is None or isinstance(value, str | int) for value in listed):
            return Literal[tuple(listed)]
        return Any

    def _union(self, parts: list[Any]) -> Any:
        return Union[tuple(parts)] if parts else Any  # noqa: UP007  # built at run time

    def _bounded(self, hint: Any, schema: Mapping[str, object]) -> Any:
        bounds = {
            _BOUNDS[key]: value
            for key, value in schema.items()
            if key in _BOUNDS and isinstance(value, int | float) and not isinstance(value, bool)
        }
        base = typing.get_origin(hint) or hint
        if not bounds or base not in (str, int, float, list):
            return hint
        from pydantic import Field

        return Annotated[hint, Field(**cast("dict[str, Any]", bounds))]

    def _resolve(self, reference: str, place: str) -> object:
        """`#/$defs/Name` within the same schema; nothing is ever fetched."""
        found: object = self._root
        for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ["?"]:
            if not isinstance(found, Mapping) or part not in found:
                raise ConfigError(f"tool {self._tool!r}: the schema of {place} refers to {reference!r:.100}, not in it")
            found = cast("dict[str, object]", found)[part]
        return found


def _items(value: object) -> list[Any]:
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []
