"""What a function says about itself: its signature, its type hints, its docstring. No pydantic here."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import ConfigError

Arguments = tuple[tuple[object, ...], dict[str, object]]
"""Positional and named arguments to call a tool's function with."""


class BadArguments(Exception):
    """Arguments that do not fit the signature. The message names each parameter and never quotes another's value."""


@dataclass(frozen=True, slots=True)
class Docs:
    """A docstring in the Google style, taken apart."""

    summary: str
    """Everything before the first section."""
    parameters: Mapping[str, str]
    full: str


_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Return|Yields|Raises|Examples?|Notes?|Warnings?):\s*$")
_ITEM = re.compile(r"(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


def read_docs(doc: str | None) -> Docs:
    """The parts of a docstring; empty parts where there is none."""
    full = inspect.cleandoc(doc or "")
    summary: list[str] = []
    parameters: dict[str, str] = {}
    section, current, indent = "", "", 0
    for line in full.splitlines():
        heading = _SECTION.match(line)
        if heading:
            section, current = heading[1], ""
        elif not section:
            summary.append(line)
        elif section in ("Args", "Arguments", "Parameters"):
            item = _ITEM.match(line)
            if item and (not current or len(item[1]) <= indent):
                current, indent = item[2], len(item[1])
                parameters[current] = item[3].strip()
            elif current and line.strip():
                parameters[current] = f"{parameters[current]} {line.strip()}".strip()
    return Docs("\n".join(summary).strip(), parameters, full)


def read_signature(function: Callable[..., object], tool: str) -> inspect.Signature:
    """The signature as the guest may use it: what a `functools.partial` has bound by name is the host's and not in it.

    Raises:
        ConfigError: there is no signature to read.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"tool {tool!r}: {first_line(exc)}") from exc
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
