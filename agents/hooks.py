"""Hooks: code of the host's that sees, edits or vetoes what an agent is about to do.

The rule: a hook returns None to leave things as they are, a value to put in their place, or raises `Veto`. `after_tool`
alone is different: what it returns is the result, None too, because None may be a tool's result. Hooks of an agent are
called in order, each with what the one before left; before a tool or a cell runs, the last word is theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from ..runtime.errors import ConfigError

if TYPE_CHECKING:
    from ..runtime.cell import Cell
    from .messages import Message, ModelReply

T = TypeVar("T")
_METHODS = ("before_model", "after_model", "before_cell", "after_cell", "before_tool", "after_tool")


class Veto(Exception):
    """Raised in a `before_...` hook: this does not happen. The model is told why and may go on.

    With `end_run=True` the run ends with stop reason `denied`.
    """

    def __init__(self, reason: str, *, end_run: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.end_run = end_run


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A request to the model that is about to go out."""

    run_id: str
    step: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCall:
    """Code that is about to run."""

    run_id: str
    step: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookedToolCall:
    """A tool call whose arguments were validated and that is about to run."""

    run_id: str
    step: int
    name: str
    arguments: Mapping[str, object]
    """By parameter name."""


class Hooks:
    """Subclass it and override what you need. Every method may be `async`."""

    def __repr__(self) -> str:
        own = [name for name in _METHODS if overridden([self], name)]
        return f"<{type(self).__name__} {', '.join(own) or 'without hooks'}>"

    def before_model(self, call: ModelCall) -> Sequence[Message] | None | Awaitable[Sequence[Message] | None]:
        """May return other messages to send. They are sent once and do not change the conversation. May raise Veto,
        which ends the run: there is nobody to tell."""
        return None

    def after_model(self, call: ModelCall, reply: ModelReply) -> ModelReply | None | Awaitable[ModelReply | None]:
        """May return another reply, which the run goes on with. The tokens of the real one are counted."""
        return None

    def before_cell(self, call: CellCall) -> str | None | Awaitable[str | None]:
        """May return other code to run. May raise Veto: the code does not run and the model is told."""
        return None

    def after_cell(self, call: CellCall, cell: Cell) -> Cell | None | Awaitable[Cell | None]:
        """May return another cell, which the model is told of. The state of the sandbox is what it is."""
        return None

    def before_tool(self, call: HookedToolCall) -> Mapping[str, object] | None | Awaitable[Mapping[str, object] | None]:
        """May return other arguments (all of them, by name), which are validated again. May raise Veto: the code gets
        a ToolError, and goes on unless `end_run` is set."""
        return None

    def after_tool(self, call: HookedToolCall, result: object) -> object:
        """Must return the result that the code gets, or an awaitable of it: `result`, or something in its place.

        A method that only looks ends with `return result`. Without it the code gets None (an error, if the tool's
        return annotation allows no None).
        """
        return result


async def settled(value: T | Awaitable[T]) -> T:
    """The value, awaited if it has to be."""
    return await cast("Awaitable[T]", value) if isinstance(value, Awaitable) else value


def overridden(hooks: Sequence[Hooks], name: str) -> tuple[Hooks, ...]:
    """Those of the hooks that have a method of their own for this."""
    return tuple(entry for entry in hooks if getattr(type(entry), name, None) is not getattr(Hooks, name))


def takes_run(function: Callable[..., object]) -> bool:
    """Whether a check or callback needs a second argument, the `RunState`.

    A second parameter with a default is the function's own (`lambda answer, low=low: ...`), so it is left alone.
    """
    return len(_needed(function)) >= 2


def check_parameters(function: Callable[..., object], option: str, first: str) -> None:
    """
    Raises:
        ConfigError: the function cannot be called with the answer or step alone, nor with the `RunState` beside it.
    """
    count = 2 if takes_run(function) else 1
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as exc:
        name = getattr(function, "__name__", type(function).__name__)
        raise ConfigError(
            f"{option}: {name!r} cannot be called ({exc}); write {name}({first}), or {name}({first}, run) to see the "
            "RunState, where `run.spec`, `run.steps` and `run.messages` are"
        ) from None
    except ValueError:  # some builtins have none to show
        return


def _needed(function: Callable[..., object]) -> list[inspect.Parameter]:
    """The positional parameters without a default; none where Python does not know."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
