"""What a run tells while it goes on. `Event` is the union of all; kinds may be added: end a `match` with `case _`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .messages import ModelReply
from .result import RunResult, Step


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
class StepFinished:
    """The step with all that came of it."""

    step: Step


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event of every run that did not raise."""

    result: RunResult


Event = StepStarted | ModelDelta | ModelReplied | CodeParsed | OutputChunk | StepFinished | RunFinished
Emit = Callable[[Event], None]
"""Takes an event. Called from the event loop and, for `OutputChunk`, from the sandbox's thread; must not block."""
