"""A subclass of `Tool`: class attributes that describe it, `forward` that does the work, `setup` that runs once.

The rule: the class is only read. No source is needed, nothing is executed to find out what it is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .errors import ConfigError

if TYPE_CHECKING:
    from .tools import Tool

WORDS = ("string", "boolean", "integer", "number", "image", "audio", "array", "object", "any", "null")
"""Types that `inputs` and `output_type` may name, as in smolagents."""


class Forward:
    """The function of such a tool: calls `forward`, after `setup` at the first call."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._gate = threading.Lock()
        self._ready = False

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if not self._ready:
            self._set_up()
        return self._tool.forward(*args, **kwargs)

    def _set_up(self) -> None:
        """Run `setup`. Threads that come meanwhile wait; after a failure the next call tries again."""
        with self._gate:
            if not self._ready:
                self._tool.setup()
                self._ready = True
                self._tool.is_initialized = True


def check_subclass(tool: Tool) -> None:
    """Raises ConfigError that says what the class lacks."""
    kind = type(tool).__name__
    for attribute, example in (("name", '"get_price"'), ("description", '"Price of an item."')):
        value = getattr(tool, attribute, None)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"class {kind}: set the attribute {attribute}, such as {attribute} = {example}")
    output_type = getattr(tool, "output_type", None)
    if output_type not in WORDS:
        raise ConfigError(f"class {kind}: output_type is one of {', '.join(WORDS)}, not {output_type!r:.100}")
    inputs = getattr(tool, "inputs", None)
    if not isinstance(inputs, Mapping):
        raise ConfigError(
            f"class {kind}: inputs is a dict such as {{'item': {{'type': 'string', 'description': ...}}}}"
        )
    for name, entry in cast("Mapping[object, object]", inputs).items():
        _check_input(kind, name, entry)
    _check_forward(tool, kind, cast("Mapping[str, object]", inputs))


def _check_input(kind: str, name: object, entry: object) -> None:
    if not isinstance(name, str):
        raise ConfigError(f"class {kind}: inputs has a key that is no text: {name!r:.100}")
    if not isinstance(entry, Mapping) or not isinstance(cast("Mapping[str, object]", entry).get("description"), str):
        raise ConfigError(f"class {kind}: inputs[{name!r}] is a dict with 'type' and 'description'")
    fields = cast("Mapping[str, object]", entry)
    given = fields.get("type")
    words = cast("list[object]", given if isinstance(given, list | tuple) else [given])
    if not words or any(word not in WORDS for word in words):
        if given is None and not {"anyOf", "enum", "const", "oneOf"}.isdisjoint(fields):
            return
        raise ConfigError(f"class {kind}: inputs[{name!r}]['type'] is one of {', '.join(WORDS)}, not {given!r:.100}")


def _check_forward(tool: Tool, kind: str, inputs: Mapping[str, object]) -> None:
    import inspect

    parameters = inspect.signature(tool.forward).parameters
    variable = [p.name for p in parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if variable:
        raise ConfigError(f"class {kind}: forward takes *{variable[0]}; name each parameter, as inputs does")
    missing, extra = set(inputs) - set(parameters), set(parameters) - set(inputs)
    if missing or extra:
        parts = [f"inputs names {name!r}, forward does not" for name in sorted(missing)]
        parts += [f"forward takes {name!r}, inputs does not describe it" for name in sorted(extra)]
        raise ConfigError(f"class {kind}: {'; '.join(parts)}")


def subclass_hints(tool: Tool, annotations: Mapping[str, object]) -> dict[str, object]:
    """Types of the parameters and the result: annotations of `forward`, or the schema where that says more.

    Raises:
        ConfigError: a schema that cannot be read.
    """
    from .schema_types import SchemaReader

    reader = SchemaReader(tool.name)
    hints = dict(annotations)
    for name, entry in tool.inputs.items():
        says_more = set(entry) - {"type", "description", "nullable", "title"}
        if says_more or name not in hints:
            hints[name] = reader.read(entry, name)
        elif entry.get("nullable"):
            hints[name] = cast("Any", hints[name]) | None if not isinstance(hints[name], str) else hints[name]
    if tool.output_schema is None and "return" not in hints and tool.output_type not in ("any", "image", "audio"):
        hints["return"] = reader.read({"type": tool.output_type}, "result")
    return hints
