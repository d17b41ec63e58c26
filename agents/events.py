"""What a run tells while it goes on. `Event` is the union of all; kinds may be added: end a `match` with `case _`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Union

from .messages import ModelReply
from .result import ActionStep, PlanningStep, RunResult, ToolRecord


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The model is asked now."""

    step: int


@dataclass(frozen=True, slots=True)
class ModelDelta:
    """A piece of the reply, from a model that streams."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """The whole reply."""

    step: int
    reply: ModelReply


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The plan before a step (`planning_interval`)."""

    plan: PlanningStep


@dataclass(frozen=True, slots=True)
class CodeParsed:
    """The code that is about to run."""

    step: int
    thought: str
    code: str


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Text that the code prints, as it prints it. It comes from the guest: escape it before a terminal shows it."""

    step: int
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool is called. For a call that is then refused it comes too."""

    step: int
    id: str
    name: str
    arguments: str
    """A preview of at most 500 characters. The guest chose them: escape them before a terminal shows them."""


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """The call is over."""

    step: int
    record: ToolRecord


@dataclass(frozen=True, slots=True)
class SubAgentEvent:
    """An event of a sub-agent that this run has called."""

    step: int
    agent: str
    """Name under which the run calls it."""
    run_id: str
    """Of the sub-agent's run: several may go on at once."""
    event: Event


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The step with all that came of it."""

    step: ActionStep


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event of every run that did not raise."""

    result: RunResult


Event = Union[  # noqa: UP007  # SubAgentEvent holds one: the name is needed before it exists
    StepStarted,
    ModelDelta,
    ModelReplied,
    PlanMade,
    CodeParsed,
    OutputChunk,
    ToolCallStarted,
    ToolCallFinished,
    SubAgentEvent,
    StepFinished,
    RunFinished,
]
Emit = Callable[[Event], None]
"""Takes an event. Called from the event loop and, for output and tool calls, from other threads; must not block."""
