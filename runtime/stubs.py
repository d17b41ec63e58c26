"""Python types as text that a model can read: signatures and `.pyi`-like stubs of tools.

The rule: this text is for people and models. Nothing ever evaluates it, on either side.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Collection, Iterable, Mapping

from typing_extensions import ReadOnly, TypeAliasType, is_typeddict

from .typed_dicts import is_required

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations are values of any kind here, and `isinstance` narrows them to generics of Unknown.

_ABSTRACT: dict[object, str] = {
    collections.abc.Sequence: "list",
    collections.abc.Iterable: "list",
    collections.abc.Collection: "list",
    collections.abc.Mapping: "dict",
    collections.abc.MutableMapping: "dict",
    collections.abc.MutableSequence: "list",
    collections.abc.Set: "set",
}
"""What a caller passes in the end."""
_WRAPPERS = (typing.Annotated, typing.Required, ReadOnly)
_MAX_DEFAULT = 60
"""Characters of a default that a signature shows."""
_MAX_REMARK = 200
"""Characters of a field's description that its class shows."""


class Described(typing.Protocol):
    """A tool."""

    name: str
    signature: str
    doc: str
    declarations: tuple[str, ...]


class TypeWriter:
    """Writes types; collects the classes that they name, to be declared before."""

    def __init__(self) -> None:
        self._classes: dict[str, tuple[type, str]] = {}
        self._roots: set[type] = set()

    @property
    def declarations(self) -> list[str]:
        """One `class Name(TypedDict): ...` per model, dataclass or TypedDict, in the order of dependence."""
        return [text for _, text in self._classes.values() if text]

    def write(self, hint: object) -> str:
        """The type as an annotation."""
        if hint is None or hint is type(None):
            return "None"
        if hint is inspect.Parameter.empty or hint is typing.Any or hint is object:
            return "Any"
        if isinstance(hint, TypeAliasType):
            return self.write(hint.__value__)
        if isinstance(hint, typing.NewType):
            return self.write(hint.__supertype__)
        origin = typing.get_origin(hint)
        if origin is not None:
            return self._generic(origin, typing.get_args(hint))
        return self._class(hint) if isinstance(hint, type) else "Any"

    def _generic(self, origin: object, args: tuple[object, ...]) -> str:
        if origin in _WRAPPERS:
            return self.write(args[0])
        if origin is typing.NotRequired:
            return f"NotRequired[{self.write(args[0])}]"
        if origin is typing.Union or origin is types.UnionType:
            return " | ".join(dict.fromkeys(self.write(arg) for arg in args))
        if origin is typing.Literal:
            return f"Literal[{', '.join(_literal(arg) for arg in args)}]"
        if origin is collections.abc.Callable:
            return "Callable"
        name = _ABSTRACT.get(origin) or (self._class(origin) if isinstance(origin, type) else "Any")
        inside = ["..." if arg is Ellipsis else self.write(arg) for arg in args]
        return f"{name}[{', '.join(inside)}]" if inside else name

    def _class(self, hint: type) -> str:
        if hint in _ABSTRACT:
            return _ABSTRACT[hint]
        if issubclass(hint, enum.Enum):
            return f"Literal[{', '.join(_literal(member.value) for member in hint)}]"
        fields = fields_of(hint)
        if fields is None:
            return hint.__name__
        if getattr(hint, "__pydantic_root_model__", False) is True:  # it is written as what it holds
            return self._root(hint, fields["root"])
        name = re.sub(r"\W+", "_", hint.__name__).strip("_")  # of a generic: `Page[Row]`
        known = self._classes.get(name)
        if known is not None:
            return name if known[0] is hint else "dict"  # two classes of one name: say less, not something wrong
        self._classes[name] = (hint, "")  # a recursive type finds itself here
        lines = [f"    {key}: {self.write(kind)}{_remark(kind)}" for key, kind in fields.items()] or ["    pass"]
        del self._classes[name]  # what it needs was declared meanwhile: it goes after them
        # The remark: a model that sees a class writes `Row(...)`, and the class is nowhere.
        self._classes[name] = (hint, "\n".join([f"class {name}(TypedDict):  # a dict, written {{...}}", *lines]))
        return name

    def _root(self, kind: type, held: object) -> str:
        """A root model, as what it holds; `Any` where that holds itself."""
        if kind in self._roots:
            return "Any"
        self._roots.add(kind)
        try:
            return self.write(held)
        finally:
            self._roots.discard(kind)


def fields_of(kind: type) -> dict[str, object] | None:
    """Names and types of a TypedDict's, dataclass's or pydantic model's fields; None for any other class. What may be
    left out is `NotRequired`, what a model says of a field is in `Annotated`."""
    models = getattr(kind, "model_fields", None)
    if isinstance(models, dict):
        return {name: _model_field(field) for name, field in models.items()}
    if not is_typeddict(kind) and not dataclasses.is_dataclass(kind):
        return None
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:  # a name that only a type checker sees
        hints = {}
    if is_typeddict(kind):
        required: frozenset[str] = getattr(kind, "__required_keys__", frozenset(hints))
        return {name: hint if is_required(hint, name in required) else _optional(hint) for name, hint in hints.items()}
    return {
        field.name: hints.get(field.name, typing.Any)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        else _optional(hints.get(field.name, typing.Any))
        for field in dataclasses.fields(kind)
    }


def _model_field(field: typing.Any) -> object:
    hint = getattr(field, "annotation", typing.Any)
    hint = typing.Annotated[hint, field]  # for its description
    always = field.is_required() and getattr(field, "exclude", None) is not True  # a result may lack it
    return hint if always else _optional(hint)


def _optional(hint: typing.Any) -> object:
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    return hint if typing.get_origin(inner) is typing.NotRequired else typing.NotRequired[hint]


def _remark(hint: object) -> str:
    """What a pydantic `Field` says of the field, as a comment behind it."""
    if typing.get_origin(hint) is typing.NotRequired:
        (hint,) = typing.get_args(hint)
    said = [getattr(part, "description", None) for part in getattr(hint, "__metadata__", ())]
    text = " ".join(next((text for text in said if isinstance(text, str)), "").split())
    if len(text) > _MAX_REMARK:
        text = f"{text[: _MAX_REMARK - 3]}..."
    return f"  # {text}" if text else ""


def _literal(value: object) -> str:
    return repr(value.value if isinstance(value, enum.Enum) else value)


def write_signature(signature: inspect.Signature, hints: Mapping[str, object], writer: TypeWriter) -> str:
    """`(item: str, count: int = 1) -> float`, with each default on a short leash."""
    parts: list[str] = []
    previous: inspect.Parameter | None = None
    for parameter in signature.parameters.values():
        if previous is not None and previous.kind is parameter.POSITIONAL_ONLY is not parameter.kind:
            parts.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and (
            previous is None or previous.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        ):
            parts.append("*")
        parts.append(_parameter(parameter, hints, writer))
        previous = parameter
    if previous is not None and previous.kind is previous.POSITIONAL_ONLY:
        parts.append("/")
    returns = f" -> {writer.write(hints['return'])}" if "return" in hints else ""
    return f"({', '.join(parts)}){returns}"


def _parameter(parameter: inspect.Parameter, hints: Mapping[str, object], writer: TypeWriter) -> str:
    stars = (
        "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    )
    hint = f": {writer.write(hints[parameter.name])}" if parameter.name in hints else ""
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{hint}"
    equals = " = " if hint else "="
    return f"{parameter.name}{hint}{equals}{_default(parameter.default)}"


def _default(value: object) -> str:
    """A default of plain data as it is written; `...` for any other, whose `repr` may hold a secret or an address."""
    if isinstance(value, enum.Enum):
        value = value.value
    if _is_plain(value, 5):
        text = repr(value)
        if len(text) <= _MAX_DEFAULT:
            return text
    return "..."


def _is_plain(value: object, depth: int) -> bool:
    kind = type(value)
    if kind in (type(None), bool, int, float, str, bytes):
        return True
    if depth == 0 or kind not in (tuple, list, dict, set, frozenset):
        return False
    items = typing.cast("Collection[object]", value)
    if len(items) > _MAX_DEFAULT:
        return False
    parts = [*items, *items.values()] if isinstance(items, dict) else items
    return all(_is_plain(part, depth - 1) for part in parts)


def stubs_of(tools: Iterable[Described]) -> list[str]:
    """The stubs of several tools; a class that more than one names is declared with the first of them."""
    declared: set[str] = set()
    stubs: list[str] = []
    for tool in tools:
        new = [text for text in tool.declarations if text not in declared]
        stubs.append(write_stub(tool.name, tool.signature, tool.doc, new))
        declared.update(new)
    return stubs


def write_stub(name: str, signature: str, doc: str, declarations: list[str]) -> str:
    """A `.pyi`-like definition, its classes before it."""
    body = f'"""{_quoted(doc)}"""\n...' if doc and "\n" not in doc else f'"""{_quoted(doc)}\n"""\n...' if doc else "..."
    function = f"def {name}{signature}:\n{textwrap.indent(body, '    ')}"
    return "\n\n".join([*declarations, function])


def _quoted(doc: str) -> str:
    return doc.replace("\\", "\\\\").replace('"""', r"\"\"\"")
