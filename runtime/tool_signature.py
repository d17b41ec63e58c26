"""What a function says about itself: its signature, its type hints, its docstring. No pydantic here."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Callable, Mapping

from . import lazy
from .errors import ConfigError
from .plain import record

if typing.TYPE_CHECKING:
    import inspect
else:
    inspect = lazy.module("inspect")

Arguments = tuple[tuple[object, ...], dict[str, object]]
"""Positional and named arguments to call a tool's function with."""


class BadArguments(Exception):
    """Arguments that do not fit the signature. The message names each parameter and never quotes another's value."""


class BadResult(Exception):
    """A result that is not of the type that the tool promises. The message is for the host's log."""

    def __init__(self, tool: str, problem: str) -> None:
        super().__init__(f"{tool}: {problem}")
        self.told = f"{tool}() gave a result that its signature does not allow ({problem}); this is a fault of the tool"
        """For the guest. Quotes no value."""


@record
class Docs:
    """A docstring, taken apart."""

    summary: str
    """Everything before the first section."""
    parameters: Mapping[str, str]
    full: str


_SECTIONS = "Args|Arguments|Parameters|Params|Returns|Return|Yields|Raises|Examples?|Notes?|Warnings?|See Also"
_GOOGLE = rf"({_SECTIONS}):\s*$"
_NUMPY = rf"({_SECTIONS}|Other Parameters)\s*$"
_UNDERLINE = r"-{3,}\s*$"
_ITEM = r"(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$"
_NUMPY_ITEM = r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$"
_SPHINX = r"\s*:(\w+)\s*([^:]*):\s*(.*)$"
_ARGUMENTS = frozenset({"Args", "Arguments", "Parameters", "Params", "Other Parameters"})


def read_docs(doc: str | None) -> Docs:
    """The parts of a docstring in the style of Google, numpy or Sphinx; empty parts where there is none."""
    full = inspect.cleandoc(doc or "")
    reader = _DocReader()
    lines = full.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        reader.take(line, following)
    return Docs("\n".join(reader.summary).strip(), reader.parameters, full)


class _DocReader:
    """Goes through a docstring line by line."""

    def __init__(self) -> None:
        self.summary: list[str] = []
        self.parameters: dict[str, str] = {}
        self._section = ""
        self._style = ""
        self._current: tuple[str, ...] = ()
        """Parameters that further lines describe."""
        self._indent = 0

    def take(self, line: str, following: str) -> None:
        google, numpy, sphinx = re.match(_GOOGLE, line), re.match(_NUMPY, line), re.match(_SPHINX, line)
        if google:
            self._begin(google[1], "google")
        elif numpy and re.match(_UNDERLINE, following):
            self._begin(numpy[1], "numpy")
        elif sphinx and self._style in ("", "sphinx"):
            self._take_field(sphinx[1], sphinx[2].split(), sphinx[3])
        elif not self._section:
            self.summary.append(line)
        elif self._section in _ARGUMENTS:
            self._take_argument(line)

    def _begin(self, section: str, style: str) -> None:
        self._section, self._style, self._current = section, style, ()

    def _take_field(self, field: str, words: list[str], text: str) -> None:
        self._begin("Args" if field in ("param", "parameter", "arg", "argument", "key") else "Other", "sphinx")
        if self._section == "Args" and words:
            self._describe((words[-1].lstrip("*"),), text)

    def _take_argument(self, line: str) -> None:
        if self._style == "google":
            item = re.match(_ITEM, line)
            if item and (not self._current or len(item[1]) <= self._indent):
                self._indent = len(item[1])
                self._describe((item[2],), item[3])
                return
        elif self._style == "numpy" and (numpy := re.match(_NUMPY_ITEM, line)) is not None:
            self._describe(tuple(name.strip().lstrip("*") for name in numpy[1].split(",")), "")
            return
        if line.strip() and not re.match(_UNDERLINE, line):
            for name in self._current:
                self.parameters[name] = f"{self.parameters[name]} {line.strip()}".strip()

    def _describe(self, names: tuple[str, ...], text: str) -> None:
        self._current = names
        self.parameters.update(dict.fromkeys(names, text.strip()))


def read_signature(function: Callable[..., object], tool: str) -> inspect.Signature:
    """The signature as the guest may use it: what a `functools.partial` has bound by name is the host's and not in it.

    Raises:
        ConfigError: there is no signature to read, or it is a method's without its object.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"tool {tool!r}: {first_line(exc)}") from exc
    if inspect.isfunction(function) and next(iter(signature.parameters), None) == "self":
        raise ConfigError(f"tool {tool!r}: a method needs its object; give the bound one, tool(obj.{tool})")
    bound: set[str] = set()
    inner: object = function
    while isinstance(inner, functools.partial):
        bound.update(inner.keywords)
        inner = inner.func
    parameters = [p for p in signature.parameters.values() if p.name not in bound or p.kind is p.VAR_KEYWORD]
    return signature.replace(parameters=parameters)


def resolve_hints(function: Callable[..., object], names: Mapping[str, object], tool: str) -> dict[str, object]:
    """The annotations as types. `names` are the names where the tool was defined, for types local to a function.

    Raises:
        ConfigError: an annotation names what cannot be found.
    """
    source: object = inspect.unwrap(function)
    while isinstance(source, functools.partial):
        source = inspect.unwrap(source.func)
    if not inspect.isroutine(source):  # an object with __call__
        source = inspect.unwrap(type(source).__call__)
    local = dict(names) if "<locals>" in getattr(source, "__qualname__", "") else {}
    try:
        return typing.get_type_hints(source, localns=local, include_extras=True)
    except NameError as exc:
        raise ConfigError(f"tool {tool!r}: an annotation names {exc.name!r}, which is not defined there") from exc
    except (TypeError, SyntaxError, AttributeError) as exc:
        raise ConfigError(f"tool {tool!r}: an annotation cannot be read: {first_line(exc)}") from exc


def first_line(exc: Exception) -> str:
    """The first line of an exception's message, bounded."""
    return str(exc).partition("\n")[0][:300]
