"""The host's tools as ordinary Python functions, made from the stubs in `start`.

Rule: the host binds and validates; what is checked here only gives a wrong call its TypeError sooner and with the
signature beside it. A stub's text is shown and never evaluated.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import frames
from .calls import Calls, ToolError

if TYPE_CHECKING:
    from ...runtime import values
else:
    from . import values

_encode: Callable[..., bytes] = values.encode
_is_small, _encode_small = frames.is_small, frames.encode_small
_MANY = 1 << 30
_DEPTH = 3
_FRAME_COST = _DEPTH * 64
"""Nesting of `[args, kwargs]` with a value in it, and what its three containers take of `value_bytes`."""
_CROSSES = "only plain data crosses: None, bool, numbers, str, bytes, list, tuple, dict, set, dates and dataclasses"

Stub = dict[str, Any]


class Shape:
    """What a stub says about its parameters, ready for a quick check."""

    __slots__ = ("_keywords", "_names", "_required", "least", "most", "name", "signature")

    def __init__(self, stub: Stub) -> None:
        params: list[Stub] = stub["params"]
        self.name: str = stub["name"]
        self.signature: str = stub["signature"]
        positional = [p for p in params if p["kind"] in ("pos", "pos_or_kw")]
        self._names = [p["name"] for p in positional]
        self.most = _MANY if any(p["kind"] == "var_pos" for p in params) else len(positional)
        self._required = [p["name"] for p in params if p["kind"] in ("pos", "pos_or_kw", "kw") and not p["default"]]
        by_place = [p["name"] for p in positional if not p["default"]]
        self.least = len(by_place) if by_place == self._required else _MANY
        """A call with only positional arguments, so many at least, lacks none."""
        keywords = frozenset(p["name"] for p in params if p["kind"] in ("pos_or_kw", "kw"))
        self._keywords = None if any(p["kind"] == "var_kw" for p in params) else keywords

    def check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Raise TypeError for a call that the signature does not take."""
        count = len(args)
        if count > self.most:
            raise self._wrong(f"takes {self.most} positional argument{'s' * (self.most != 1)} but {count} were given")
        for name in self._required:
            if name not in kwargs and name not in self._names[:count]:
                raise self._wrong(f"missing the argument {name!r}")
        if not kwargs:
            return
        for name in kwargs:
            if self._keywords is not None and name not in self._keywords:
                raise self._wrong(f"got an unexpected keyword argument {name!r}")
            if name in self._names[:count]:
                raise self._wrong(f"got two values for the argument {name!r}")

    def label(self, index: int) -> str:
        """What to call the positional argument at `index`."""
        return self._names[index] if index < len(self._names) else f"args[{index}]"

    def _wrong(self, problem: str) -> TypeError:
        return TypeError(f"{self.name}() {problem}; its signature is {self.name}{self.signature}")


Note = Callable[[str, float], None]


def encode_arguments(
    shape: Shape, args: tuple[object, ...], kwargs: dict[str, object], limits: values.ValueLimits, note: Note
) -> bytes:
    """`[args, kwargs]` as a value. `note` hears of the limit that one of them breaks.

    Raises:
        TypeError: an argument cannot cross; the message says which part of it.
        ValueError: one is too large.
    """
    try:
        return _encode([list(args), kwargs], limits)
    except values.CrossError as exc:
        if isinstance(exc, values.ValueTooLarge):
            note(exc.limit, exc.used)
        culprit = _find_culprit(shape, args, kwargs, limits) or exc
        kind = ValueError if isinstance(culprit, values.ValueTooLarge) else TypeError
        hint = "" if kind is ValueError else f" ({_CROSSES})"
        raise kind(f"{shape.name}(): argument {culprit.path}: {culprit.reason}{hint}") from None


def _find_culprit(
    shape: Shape, args: tuple[object, ...], kwargs: dict[str, object], limits: values.ValueLimits
) -> values.CrossError | None:
    named = [(shape.label(index), value) for index, value in enumerate(args)]
    for label, value in [*named, *kwargs.items()]:
        try:
            _encode(value, limits, label)
        except values.CrossError as exc:
            return exc
    return None


class ToolBox:
    """The functions of all granted tools."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.module = ModuleType("tools", "The tools that the host granted to this sandbox.")
        """Has them all. `sys.modules` has it from the image on: one entry more would make it grow in every sandbox."""
        self.functions: dict[str, Callable[..., Any]] = {}
        self.limits = values.ValueLimits()
        self._few = 0
        """So many small arguments break no limit."""
        self.grant([])  # in the image, so that a sandbox without tools need not

    def limit(self, limits: values.ValueLimits) -> None:
        """How large an argument may be."""
        self.limits = limits
        self._few = (limits.size - _FRAME_COST) // frames.SMALL_COST if limits.depth >= _DEPTH else 0

    def grant(self, stubs: list[Stub]) -> None:
        """Make the functions."""
        self.functions = {stub["name"]: self._make(stub) for stub in stubs}
        self.module.__dict__.update(self.functions, ToolError=ToolError, __all__=[*self.functions, "ToolError"])

    def _make(self, stub: Stub) -> Callable[..., Any]:
        shape = Shape(stub)
        check, ask, start = shape.check, self._calls.ask, self._calls.start
        least, most = shape.least, shape.most
        call_template = frames.call_template(b"tool_call", shape.name)
        start_template = frames.call_template(b"tool_start", shape.name)

        def tool(*args: object, **kwargs: object) -> Any:
            if kwargs or not least <= len(args) <= most:
                check(args, kwargs)
            return ask(call_template, self._encode(shape, args, kwargs))

        async def aio(*args: object, **kwargs: object) -> Any:
            check(args, kwargs)
            return await start(start_template, self._encode(shape, args, kwargs))

        _dress(tool, stub, shape.name)
        _dress(aio, stub, f"{shape.name}.aio")
        tool.aio = aio  # type: ignore[attr-defined]
        return tool

    def _encode(self, shape: Shape, args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
        """`encode_arguments`, and the short way for a few small ones: no path, no price, one look at each."""
        parts = (*args, *kwargs, *kwargs.values()) if kwargs else args
        if len(parts) <= self._few:
            for part in parts:
                if not _is_small(part):
                    break
            else:
                return _encode_small([list(args), kwargs])
        return encode_arguments(shape, args, kwargs, self.limits, self._calls.note_limit)


def _dress(function: Callable[..., Any], stub: Stub, qualname: str) -> None:
    function.__name__ = qualname.rpartition(".")[2]
    function.__qualname__ = qualname
    function.__module__ = "tools"
    function.__doc__ = stub["doc"]
    function.__signature__ = _StubSignature(stub)  # type: ignore[attr-defined]


class _StubSignature(inspect.Signature):
    """A signature for `help` and `inspect.signature`, worked out when somebody looks: few cells do."""

    __slots__ = ("_stub",)

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Any:
        if name not in ("_parameters", "_return_annotation"):
            raise AttributeError(name)
        parameters, returns = _read_stub(self._stub)
        super().__init__(parameters, return_annotation=returns)
        return object.__getattribute__(self, name)


class _Text(str):
    """Source text that stands for itself in a signature."""

    __slots__ = ()
    __repr__ = str.__str__


_EMPTY = inspect.Parameter.empty
_KINDS = {
    "pos": inspect.Parameter.POSITIONAL_ONLY,
    "pos_or_kw": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "var_pos": inspect.Parameter.VAR_POSITIONAL,
    "kw": inspect.Parameter.KEYWORD_ONLY,
    "var_kw": inspect.Parameter.VAR_KEYWORD,
}


def _read_stub(stub: Stub) -> tuple[list[inspect.Parameter], object]:
    """Parameters and return annotation; annotations and defaults are the stub's text."""
    annotations: dict[str, str] = {}
    defaults: dict[str, str] = {}
    returns: object = _EMPTY
    try:
        function = ast.parse(f"def _{stub['signature']}: ...").body[0]
    except SyntaxError:
        function = None  # the text is for people; the parameters below are enough
    if isinstance(function, ast.FunctionDef):
        annotations, defaults = _texts_of(function.args)
        returns = _Text(ast.unparse(function.returns)) if function.returns else _EMPTY
    parameters = [
        inspect.Parameter(
            param["name"],
            _KINDS[param["kind"]],
            default=_Text(defaults.get(param["name"], "...")) if param["default"] else _EMPTY,
            annotation=_Text(annotations[param["name"]]) if param["name"] in annotations else _EMPTY,
        )
        for param in stub["params"]
    ]
    return parameters, returns


def _texts_of(arguments: ast.arguments) -> tuple[dict[str, str], dict[str, str]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    every = [*positional, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
    annotations = {arg.arg: ast.unparse(arg.annotation) for arg in every if arg.annotation}
    with_default = positional[len(positional) - len(arguments.defaults) :]
    pairs: list[tuple[ast.arg, ast.expr | None]] = [*zip(with_default, arguments.defaults, strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return annotations, {arg.arg: ast.unparse(default) for arg, default in pairs if default is not None}
