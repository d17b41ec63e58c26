"""What the host may say about the tool calls of a cell, and what it is told of them: `ToolObserver`.

The rule: a hook sees validated arguments, and what it puts in their place is validated again. A hook that fails denies
the call. Without an observer nothing here runs.
"""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from . import lazy
from .output import escape_controls
from .plain import dataclass, field

if TYPE_CHECKING:
    import inspect

    from .tool_signature import Arguments
    from .tools import Tool
else:
    inspect = lazy.module("inspect")

MAX_PREVIEW = 500
"""Characters of the arguments in a `ToolStarted`."""
ToolOutcomeKind = Literal["ok", "error", "denied", "refused", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """A call that is about to run, or has run: what hooks decide on."""

    tool: Tool
    call_id: int
    """Rises within a cell."""
    arguments: Mapping[str, Any] = field(repr=False)
    """Validated, by parameter name, defaults filled in; `*args` as a tuple, `**kwargs` as a dict, under their names."""
    context: object = field(default=None, repr=False)
    """`ToolObserver.context`."""


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may be made as it is."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call is not made: the guest gets a `ToolError` of type "ToolDenied" with the reason."""

    reason: str
    end_run: bool = False
    """The cell ends there and then, no further tool runs in it, and `ToolFinished.ends_run` is set."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The call is made with other arguments: all of them, by parameter name; one with a default may be left out."""

    arguments: Mapping[str, object] = field(repr=False)


Decision = Allow | Deny | Edited
Before = Callable[[ToolRequest], "Decision | bool | None | Awaitable[Decision | bool | None]"]
"""True and False mean `Allow()` and `Deny("not approved")`."""
After = Callable[[ToolRequest, object], object]
"""The result that goes on, or an awaitable of it. None is a result too: a function that only looks returns its second
argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """A call has arrived and its arguments fit. For a refused call it comes too, without arguments."""

    call_id: int
    tool: str
    """The guest's word for it: bounded, escaped, and the name of a granted tool unless the call is refused."""
    arguments: str
    """A preview of at most `MAX_PREVIEW` characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """The same call is over; comes exactly once for each `ToolStarted`."""

    call_id: int
    tool: str
    outcome: ToolOutcomeKind
    """"refused": unknown tool, arguments that do not fit, a limit. "cancelled": the guest or the cell gave it up."""
    duration_s: float
    """From the arrival of the call to its end, hooks included."""
    error_type: str | None = None
    error_message: str | None = None
    """What the guest is told."""
    ends_run: bool = False
    """A hook has denied it with `end_run=True`."""


ToolEvent = ToolStarted | ToolFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolObserver:
    """Callbacks around the tool calls of a cell: `box.run(code, on_tool=ToolObserver(...))`. Any may be left out.

    Hooks run where the call runs: on the thread that serves the sandbox, on a tool thread, or on the event loop for
    an `.aio` call of an async tool. Those that take their time should be `async`. The deadline of the cell goes on.
    """

    on_event: Callable[[ToolEvent], object] | None = None
    """Told of each start and end, in order, from one thread at a time. It must not block; what it raises is logged."""
    before: Before | None = None
    """Asked for every call; None lets it pass."""
    approve: Before | None = None
    """Asked, after `before`, for calls of tools whose `requires_approval` says so. Without it they are denied. Only
    `True`, `Allow()` or `Edited(...)` lets a call pass."""
    after: After | None = None
    """Gets the checked result and gives the one that goes on, which is checked again if it is another object. It must
    `return` that; None becomes the result."""
    context: object = None
    """Anything; hooks find it in the request."""

    @property
    def decides(self) -> bool:
        """Whether it has hooks beside `on_event`."""
        return self.before is not None or self.approve is not None or self.after is not None


# --- arguments by name ------------------------------------------------------------------------------------------------


def by_name(tool: Tool, arguments: Arguments) -> dict[str, object]:
    """Bound arguments under the names of their parameters."""
    args, kwargs = arguments
    return dict(inspect.Signature(tool.parameters).bind(*args, **kwargs).arguments)


def from_names(tool: Tool, named: Mapping[str, object]) -> Arguments:
    """The opposite; not validated yet.

    Raises:
        ValueError: a name that the tool has no parameter for.
    """
    unknown = set(named) - {parameter.name for parameter in tool.parameters}
    if unknown:
        raise ValueError(f"{tool.name} has no parameter {sorted(unknown)[0]!r}")
    args: list[object] = []
    kwargs: dict[str, object] = {}
    by_position = True
    for parameter in tool.parameters:
        if parameter.name not in named:
            by_position = False  # its default: what follows goes by name
            continue
        value = named[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            kwargs.update(
                cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {parameter.name: value}
            )
        elif parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(cast("list[object]", value) if isinstance(value, list | tuple) else [value])
        elif parameter.kind is parameter.KEYWORD_ONLY or not by_position:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


class _Preview(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 10
        self.maxstring = self.maxother = 200

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[:100]) + ("..." if len(x) > 100 else "")


_PREVIEW = _Preview()


def preview(arguments: Arguments) -> str:
    """`'tea', count=2`, bounded and without control characters."""
    args, kwargs = arguments
    try:
        parts = [_PREVIEW.repr(value) for value in args[:20]]
        parts += [f"{name[:60]}={_PREVIEW.repr(value)}" for name, value in list(kwargs.items())[:20]]
    except Exception:  # noqa: BLE001  # a repr of the tool's own types
        return "(cannot be shown)"
    text = escape_controls(", ".join(parts)[:MAX_PREVIEW])
    return text if len(text) <= MAX_PREVIEW else text[: MAX_PREVIEW - 3] + "..."
