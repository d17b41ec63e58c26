"""What a run gave back: its steps, what they cost and why it ended. Plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..runtime.cell import Cell
from .messages import Message, ModelReply, TokenUsage

StopReason = Literal["final", "max_steps", "timeout", "cancelled", "error"]
"""`final`: the model gave its answer. `timeout`: `deadline_s` passed. `cancelled`: somebody called `cancel()`.
`error`: an `AgentError` ended the run; such a result is found at the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """What went wrong in a step, in short. The model saw it in the observation and may have repaired it."""

    type: str
    """Name of the exception: the guest's own, `ParsingError` for a reply without code, or an error of the sandbox."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn: the model's reply, the code in it and what came of that."""

    number: int
    """From 1."""
    reply: ModelReply
    thought: str = ""
    """What the model wrote beside the code."""
    code: str | None = None
    """None: the reply held no code."""
    cell: Cell | None = None
    """None: nothing was run, or the sandbox was lost."""
    observation: str = ""
    """What the model is told about it; empty for the step that ended the run."""
    error: StepError | None = None
    is_final: bool = False
    """The step in which the model gave its answer."""
    model_s: float = 0.0
    """Seconds that the model took."""
    sandbox_s: float = 0.0
    """Seconds that the code took, tools included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of a run. What is left of `total_s` is opening and closing the sandbox and the loop's own work."""

    total_s: float
    model_s: float
    sandbox_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome of one task."""

    output: object
    """What the model gave to `final_answer`, as plain data; None if it gave nothing (`stop_reason` says why)."""
    stop_reason: StopReason
    steps: tuple[Step, ...] = field(repr=False)
    usage: TokenUsage
    """Tokens of all replies whose endpoint counted them."""
    usage_complete: bool = True
    """False: some reply was not counted or was abandoned, so that the run cost more than `usage` says."""
    timing: Timing
    messages: tuple[Message, ...] = field(repr=False)
    """The whole conversation with the model."""
