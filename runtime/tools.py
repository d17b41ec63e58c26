"""Tools: plain functions of the host that code in a sandbox may call.

The rule: a tool's name, schema and caps come from here, the host's record, never from a frame. What the guest sends are
arguments, and they are validated before the function sees them.
"""

from __future__ import annotations

import functools
import typing
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Mapping

from . import lazy
from .errors import ConfigError
from .tool_options import RETRY_ON, NeedsApproval, ToolOptions, check_options, checked_name
from .tool_signature import Arguments, BadResult, read_docs, read_signature, resolve_hints
from .values import ValueLimits, encode

if typing.TYPE_CHECKING:
    import inspect
    from typing import Unpack
else:
    inspect = lazy.module("inspect")

__all__ = ["BadResult", "Function", "Tool", "ToolError", "ToolTable", "checked_name", "tool"]

_KINDS = {
    "POSITIONAL_ONLY": "pos",
    "POSITIONAL_OR_KEYWORD": "pos_or_kw",
    "KEYWORD_ONLY": "kw",
    "VAR_POSITIONAL": "var_pos",
    "VAR_KEYWORD": "var_kw",
}

Function = Callable[..., object]


class ToolError(Exception):
    """Raise this (or a subclass) in a tool: its message is meant for the guest's code and the model.

    Messages of ValueError, TypeError, LookupError and ArithmeticError pass as well; of any other exception only the
    type's name does, because it may quote paths, addresses or secrets of the host.
    """


class _FinishedByClass(ABCMeta):
    """Completes a tool after the whole of its constructor, so that a subclass may set attributes in any order."""

    def __call__(cls, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        made = super().__call__(*args, **kwargs)
        made._finish()
        return made


class Tool(metaclass=_FinishedByClass):
    """A function with a name, a description and a schema. Call it on the host like the function itself.

    Either `Tool(function)` (see `tool`), or a subclass with the attributes `name`, `description`, `inputs`,
    `output_type` and the method `forward`. Such a class may set any field of `ToolOptions` as an attribute.
    """

    name: str = ""
    """What the guest calls it."""
    description: str = ""
    """For the model: what it does."""
    inputs: Mapping[str, Mapping[str, typing.Any]] = {}
    """Of a subclass: by parameter, `{"type": "string", "description": "..."}`, or more of JSON Schema."""
    output_type: str = "any"
    """Of a subclass: "string", "number", "object", ..."""
    output_schema: Mapping[str, object] | None = None
    timeout_s: float | None = None
    """Seconds of one attempt, if less than `Limits.tool_s`. A blocking tool then runs on a thread of the tool pool, so
    that the caller need not wait for it; it cannot be stopped there."""
    end_cell: bool = False
    """Whether the cell ends when the tool returns (final answers)."""
    retries: int = 0
    retry_on: tuple[type[Exception], ...] = RETRY_ON
    retry_pause_s: float = 0.2
    retry_unsafe: bool = False
    requires_approval: NeedsApproval = False
    read_only: bool = False
    idempotent: bool = False
    destructive: bool = False
    check_result: bool = True
    is_initialized: bool = False
    """Of a subclass: whether `setup` has run."""
    function: Function

    def __init__(
        self,
        function: Function | None = None,
        *,
        names: Mapping[str, object] | None = None,
        **options: Unpack[ToolOptions],
    ) -> None:
        """See `tool`. `names` are local names that the annotations use.

        Raises:
            ConfigError: the name, the signature, an annotation or an option cannot serve; the message says which.
        """
        if function is None:
            if type(self) is Tool:
                raise ConfigError("a tool is a function, not None")
        elif isinstance(function, type) or not callable(function):
            raise ConfigError(f"a tool is a function, not {function!r:.100}")
        else:
            self.function = function
        self._names = names or {}
        self._options: Mapping[str, object] = {
            key: value for key, value in options.items() if value is not None or key == "timeout_s"
        }

    def forward(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        """Of a subclass: does the work. Its parameters are those of `inputs`. May be async."""
        raise NotImplementedError(f"class {type(self).__name__} has no forward")

    def setup(self) -> None:
        """Of a subclass: runs once, before the first call, on the thread of that call."""

    def _finish(self) -> None:
        """Read everything that the class, the options and the function say."""
        options: dict[str, object] = dict(getattr(self, "_options", {}))
        given = getattr(self, "function", None)
        source: Function = self._take_subclass() if given is None else given
        if given is not None:
            self.name = checked_name(str(options.get("name", _name_of(given))))
        check_options(self.name, {key: getattr(self, key) for key in ToolOptions.__annotations__} | options)
        for key, value in options.items():
            if key != "name":
                setattr(self, key, value)
        self.is_async = _is_async(source, self.name)
        signature = read_signature(source, self.name)
        hints = resolve_hints(source, getattr(self, "_names", {}), self.name)
        self._names = {}  # they keep a caller's frame alive
        if given is None:
            from .tool_subclass import subclass_hints

            hints = subclass_hints(self, hints)
        if self.output_schema is not None:
            from .schema_types import SchemaReader

            hints["return"] = SchemaReader(self.name).read(self.output_schema, f"{self.name}_result")
        self._describe(source, is_class=given is None)
        self._build(signature, hints)

    def _take_subclass(self) -> Function:
        from .tool_subclass import Forward, check_subclass

        if type(self).forward is Tool.forward:
            raise ConfigError(f"class {type(self).__name__}: define forward, which does the work")
        name = getattr(self, "_options", {}).get("name") or self.name
        check_subclass(self)
        self.name = checked_name(str(name))
        self.function = Forward(self)
        return self.forward

    def _describe(self, source: Function, *, is_class: bool) -> None:
        docs = read_docs(_doc_of(source))
        self.descriptions: Mapping[str, str] = docs.parameters
        """By parameter, from the docstring."""
        if is_class:
            self.descriptions = {name: str(entry["description"]) for name, entry in self.inputs.items()}
            lines = [f"    {name}: {text}" for name, text in self.descriptions.items()]
            self.doc = "\n".join([self.description, *(["", "Args:", *lines] if lines else [])])
            return
        described = "description" in getattr(self, "_options", {})
        if not described:
            self.description = docs.summary
        self.doc = self.description if described else docs.full
        """The whole docstring, as the guest's `help` shows it."""

    def _build(self, signature: inspect.Signature, hints: Mapping[str, object]) -> None:
        from .argument_reader import ArgumentReader  # with the first tool: pydantic costs a start 100 ms
        from .stubs import TypeWriter, write_signature

        parameters = [p.replace(annotation=hints.get(p.name, typing.Any)) for p in signature.parameters.values()]
        self.parameters: tuple[inspect.Parameter, ...] = tuple(parameters)
        """With resolved annotations; `typing.Any` where there is none."""
        self._returns = hints.get("return", typing.Any)
        writer = TypeWriter()
        self.signature = write_signature(signature, hints, writer)
        """Text such as `(item: str, count: int = 1) -> float`."""
        self.declarations: tuple[str, ...] = tuple(writer.declarations)
        """`class Name(TypedDict): ...` of each record type that the signature names."""
        self._reader = ArgumentReader(self.name, self.parameters)
        self.bind: Callable[[tuple[object, ...], dict[str, object]], Arguments] = self._reader.read
        """The arguments to call `function` with, or BadArguments."""
        self.guarded = bool(self.retries or self.requires_approval)
        """Whether a call goes through approval or retries."""

    @classmethod
    def from_function(cls, function: Function | Tool, **options: Unpack[ToolOptions]) -> Tool:
        """A tool of any callable with a signature; a `Tool` comes back as it is."""
        if isinstance(function, Tool):
            return function
        return Tool(function, names=_locals_of_caller(2), **options)

    def __call__(self, *args: object, **kwargs: object) -> typing.Any:
        """The function's own result, unchecked: this is the host calling itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}{getattr(self, 'signature', '')}>"

    @functools.cached_property
    def check(self) -> Callable[[object], object] | None:
        """Gives a result back as its annotation has it, or raises BadResult. None where nothing can be wrong."""
        from .result_reader import result_check

        return result_check(self.name, self._returns) if self.check_result else None

    @functools.cached_property
    def shown(self) -> Callable[[object, int], object] | None:
        """Gives what the annotation shows of a checked result: no field that only a subclass has. None: all of it."""
        from .declared import shown_by

        return shown_by(self._returns) if self.check_result else None

    def checked(self, result: object) -> object:
        """The result, checked.

        Raises:
            BadResult: it is not what the tool promises.
        """
        return result if self.check is None else self.check(result)

    @functools.cached_property
    def json_schema(self) -> dict[str, object]:
        """JSON Schema of the arguments as one object, with descriptions, for models that call tools by JSON."""
        return self._reader.json_schema(self.descriptions)

    def schema(self) -> dict[str, object]:
        """The tool as the chat completions API takes it; Anthropic's `input_schema` is its `parameters`."""
        function = {"name": self.name, "description": self.description, "parameters": self.json_schema}
        return {"type": "function", "function": function}

    @functools.cached_property
    def stub(self) -> str:
        """A `.pyi`-like definition with docstring, for prompts."""
        from .stubs import write_stub

        return write_stub(self.name, self.signature, self.doc, list(self.declarations))

    @property
    def guest_stub(self) -> dict[str, object]:
        """What the guest needs to make its callable."""
        params = [
            {"name": p.name, "kind": _KINDS[p.kind.name], "default": p.default is not p.empty} for p in self.parameters
        ]
        return {"name": self.name, "signature": self.signature, "doc": self.doc, "params": params}


@typing.overload
def tool(function: Function, /) -> Tool: ...
@typing.overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Function], Tool]: ...
def tool(function: Function | None = None, /, **options: Unpack[ToolOptions]) -> Tool | Callable[[Function], Tool]:
    """A function, sync or async, as a tool: `@tool` or `@tool(timeout_s=5, read_only=True, retries=2)`.

    Args:
        function: any callable with a signature. Annotations become the schema, parameters without one take any data;
            the docstring's `Args:` section (Google, numpy or Sphinx style) describes them.
        options: see `ToolOptions`.

    Raises:
        ConfigError: the name, the signature, an annotation or an option cannot serve.
    """
    names = _locals_of_caller(2)

    def wrap(function: Function) -> Tool:
        return Tool(function, names=names, **options)

    return wrap if function is None else wrap(function)


class ToolTable(Mapping[str, Tool]):
    """The tools granted to one sandbox, by name. Frozen; may be shared by many sandboxes."""

    def __init__(self, tools: Iterable[Tool | Function] = ()) -> None:
        """Plain functions become tools.

        Raises:
            ConfigError: two have the same name, or one cannot be a tool.
        """
        self._tools: dict[str, Tool] = {}
        for entry in _several(tools):
            found = entry if isinstance(entry, Tool) else Tool(entry)
            if found.name in self._tools:
                raise ConfigError(f"two tools are named {found.name!r}; give one of them name=")
            self._tools[found.name] = found

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def find(self, name: str) -> Tool | None:
        """The tool of that name, if it is granted."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    @functools.cached_property
    def stubs(self) -> bytes:
        """Attachment of the `start` frame."""
        return encode([entry.guest_stub for entry in self._tools.values()], ValueLimits(), "tools")


def _locals_of_caller(depth: int) -> Mapping[str, object]:
    """Local names where a tool is defined: annotations may name types that are local to a function."""
    frame = inspect.currentframe()
    for _ in range(depth):
        frame = frame.f_back if frame is not None else None
    return frame.f_locals if frame is not None else {}


def _several(tools: object) -> Iterable[Tool | Function]:
    """`tools` itself, where it can be gone through; one function that stands where a list belongs is named."""
    if type(tools) in (list, tuple) or (isinstance(tools, Iterable) and not isinstance(tools, Tool | str | bytes)):
        return typing.cast("Iterable[Tool | Function]", tools)
    name = tools.name if isinstance(tools, Tool) else getattr(tools, "__name__", type(tools).__name__)
    raise ConfigError(f"tools is a list, not {name!r:.100}; write tools=[...]")


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
