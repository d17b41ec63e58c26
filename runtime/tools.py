"""Tools: plain functions of the host that code in a sandbox may call.

The rule: a tool's name, schema and caps come from here, the host's record, never from a frame. What the guest sends are
arguments, and they are validated before the function sees them.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import keyword
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping

from .errors import ConfigError
from .tool_signature import Arguments, read_docs, read_signature, resolve_hints
from .values import ValueLimits, encode

MAX_NAME_LENGTH = 64
"""What the tool calling of common model APIs takes."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED_NAMES = frozenset(dir(builtins)) - {"_", "display", "get_ipython"} | {"tools"}
"""Names that a tool would hide from the guest's code; the exceptions are put into builtins by shells."""
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "pos",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "pos_or_kw",
    inspect.Parameter.KEYWORD_ONLY: "kw",
    inspect.Parameter.VAR_POSITIONAL: "var_pos",
    inspect.Parameter.VAR_KEYWORD: "var_kw",
}

Function = Callable[..., object]


class ToolError(Exception):
    """Raise this (or a subclass) in a tool: its message is meant for the guest's code and the model.

    Messages of ValueError, TypeError, LookupError and ArithmeticError pass as well; of any other exception only the
    type's name does, because it may quote paths, addresses or secrets of the host.
    """


class Tool:
    """A function with a name, a description and a schema. Call it on the host like the function itself."""

    def __init__(
        self,
        function: Function,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        end_cell: bool = False,
        names: Mapping[str, object] | None = None,
    ) -> None:
        """See `tool`. `names` are local names that the annotations use.

        Raises:
            ConfigError: the name, the signature or an annotation cannot serve; the message says which.
        """
        if isinstance(function, type) or not callable(function):
            raise ConfigError(f"a tool is a function, not {function!r:.100}")
        self.name = checked_name(name if name is not None else _name_of(function))
        """What the guest calls it."""
        self.function = function
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigError(f"tool {self.name!r}: timeout_s is {timeout_s}, not a time above 0")
        self.timeout_s = timeout_s
        """Seconds of one call, if less than `Limits.tool_s`. A blocking tool then runs on a thread of the tool pool, so
        that the caller need not wait for it; it cannot be stopped there."""
        self.end_cell = end_cell
        """Whether the cell ends when the tool returns (final answers)."""
        self.is_async = _is_async(function, self.name)
        signature = read_signature(function, self.name)
        hints = resolve_hints(function, names or {}, self.name)
        parameters = [p.replace(annotation=hints.get(p.name, typing.Any)) for p in signature.parameters.values()]
        self.parameters: tuple[inspect.Parameter, ...] = tuple(parameters)
        """With resolved annotations; `typing.Any` where there is none."""
        docs = read_docs(_doc_of(function))
        self.description = description if description is not None else docs.summary
        """For the model: what it does."""
        self.descriptions: Mapping[str, str] = docs.parameters
        """By parameter, from the docstring's `Args:`."""
        self.doc = description if description is not None else docs.full
        """The whole docstring, as the guest's `help` shows it."""
        from .argument_reader import ArgumentReader  # with the first tool: pydantic costs a start 100 ms
        from .stubs import TypeWriter, write_signature

        writer = TypeWriter()
        self.signature = write_signature(signature, hints, writer)
        """Text such as `(item: str, count: int = 1) -> float`."""
        self.declarations: tuple[str, ...] = tuple(writer.declarations)
        """`class Name(TypedDict): ...` of each record type that the signature names."""
        self._reader = ArgumentReader(self.name, self.parameters)
        self.bind: Callable[[tuple[object, ...], dict[str, object]], Arguments] = self._reader.read
        """The arguments to call `function` with, or BadArguments."""

    @classmethod
    def from_function(
        cls,
        function: Function | Tool,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        end_cell: bool = False,
    ) -> Tool:
        """A tool of any callable with a signature; a `Tool` comes back as it is."""
        if isinstance(function, Tool):
            return function
        return cls(
            function,
            name=name,
            description=description,
            timeout_s=timeout_s,
            end_cell=end_cell,
            names=_locals_of_caller(2),
        )

    def __call__(self, *args: object, **kwargs: object) -> typing.Any:
        """The function's own result, unchecked: this is the host calling itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}{self.signature}>"

    @functools.cached_property
    def json_schema(self) -> dict[str, object]:
        """JSON Schema of the arguments as one object, with descriptions, for models that call tools by JSON."""
        return self._reader.json_schema(self.descriptions)

    @functools.cached_property
    def stub(self) -> str:
        """A `.pyi`-like definition with docstring, for prompts."""
        from .stubs import write_stub

        return write_stub(self.name, self.signature, self.doc, list(self.declarations))

    @property
    def guest_stub(self) -> dict[str, object]:
        """What the guest needs to make its callable."""
        params = [
            {"name": p.name, "kind": _KINDS[p.kind], "default": p.default is not p.empty} for p in self.parameters
        ]
        return {"name": self.name, "signature": self.signature, "doc": self.doc, "params": params}


@typing.overload
def tool(function: Function, /) -> Tool: ...
@typing.overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    end_cell: bool = False,
) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    end_cell: bool = False,
) -> Tool | Callable[[Function], Tool]:
    """A function, sync or async, as a tool: `@tool` or `@tool(timeout_s=5)`.

    Args:
        function: any callable with a signature. Annotations become the schema, parameters without one take any data;
            the docstring's `Args:` section describes them.
        name: the guest's name for it; default: the function's.
        description: default: the docstring.
        timeout_s: seconds of one call; `Limits.tool_s` is above it.
        end_cell: the cell ends when the tool returns.

    Raises:
        ConfigError: the name, the signature or an annotation cannot serve.
    """
    names = _locals_of_caller(2)

    def wrap(function: Function) -> Tool:
        return Tool(function, name=name, description=description, timeout_s=timeout_s, end_cell=end_cell, names=names)

    return wrap if function is None else wrap(function)


class ToolTable(Mapping[str, Tool]):
    """The tools granted to one sandbox, by name. Frozen; may be shared by many sandboxes."""

    def __init__(self, tools: Iterable[Tool | Function] = ()) -> None:
        """Plain functions become tools.

        Raises:
            ConfigError: two have the same name, or one cannot be a tool.
        """
        self._tools: dict[str, Tool] = {}
        for entry in tools:
            found = entry if isinstance(entry, Tool) else Tool(entry)
            if found.name in self._tools:
                raise ConfigError(f"two tools are named {found.name!r}; give one of them name=")
            self._tools[found.name] = found

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    @functools.cached_property
    def stubs(self) -> bytes:
        """Attachment of the `start` frame."""
        return encode([entry.guest_stub for entry in self._tools.values()], ValueLimits(), "tools")


def checked_name(name: str) -> str:
    """The name, if the guest's code can use it.

    Raises:
        ConfigError: it cannot.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > MAX_NAME_LENGTH:
        reason = f"not a Python name of at most {MAX_NAME_LENGTH} ASCII characters"
    elif name.startswith("__") or name in RESERVED_NAMES:
        reason = "it would hide a name that the guest's code needs"
    else:
        return name
    raise ConfigError(f"a tool cannot be named {name[:100]!r}: {reason}; give it another with name=")


def _locals_of_caller(depth: int) -> Mapping[str, object]:
    """Local names where a tool is defined: annotations may name types that are local to a function."""
    frame = inspect.currentframe()
    for _ in range(depth):
        frame = frame.f_back if frame is not None else None
    return frame.f_locals if frame is not None else {}


def _name_of(function: object) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _doc_of(function: object) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    doc = getattr(function, "__doc__", None)
    if not inspect.isroutine(function):  # an object with __call__: either may describe it
        doc = getattr(type(function).__call__, "__doc__", None) or doc
    return doc if isinstance(doc, str) else None


def _is_async(function: object, name: str) -> bool:
    """Whether a call gives a coroutine. (Dispatch also awaits what a sync function returns, if it can be awaited.)"""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"tool {name!r} is a generator, and only data crosses; return a list")
    return inspect.iscoroutinefunction(function)
