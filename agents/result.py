"""What a run gave back: its steps, what they cost and why it ended. Plain frozen data.

`RunResult.trace` holds everything in order: the task, plans, actions, the answer. `RunResult.steps` are the actions in
it. Every value in a step is data; what the model or the guest wrote is theirs, so escape it before a browser or a
terminal shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..runtime.cell import Cell
from ..runtime.metadata import Metadata
from ..runtime.tool_hooks import ToolOutcomeKind
from .budget import Spent
from .messages import Image, Message, ModelReply, TokenUsage

StopReason = Literal["final", "max_steps", "budget", "denied", "cancelled", "timeout", "error"]
"""`final`: the model gave its answer. `max_steps`, `budget`: no step or nothing of a budget was left. `denied`: a hook
said that the run must end. `cancelled`: someone called `cancel()`, or (in `Conversation.results`) cancelled the task or
left the stream. `timeout`: `deadline_s` passed. `error`: an `AgentError` ended the run; such a result is found at the
error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """What went wrong in a step, in short. The model saw it in the observation and may have repaired it."""

    type: str
    """Name of the exception: the guest's own, `ParsingError` for a reply without code, `Veto` for a hook's word,
    `AnswerRejected` for an answer that failed its checks, or an error of the sandbox."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStep:
    """What the run was asked."""

    task: str
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name and preview of each input. The values themselves are not kept."""
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningStep:
    """A plan that the model made (`planning_interval`)."""

    number: int
    """Of the step before which it was made, from 1."""
    plan: str
    reply: ModelReply
    model_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """One call of a tool."""

    id: str
    """A whole number, unique in its step; greater than those of earlier calls."""
    name: str
    arguments: str
    """A preview of at most 500 characters."""
    outcome: ToolOutcomeKind
    """"ok", "error" (the tool raised), "denied" (by a hook or for want of an approval), "refused" (arguments, limits,
    unknown tool), "timeout" or "cancelled"."""
    error: StepError | None = None
    """What the code was told; None if it went well."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionStep:
    """One turn: the model's reply, the code or the tool calls in it and what came of that."""

    number: int
    """From 1."""
    reply: ModelReply
    thought: str = ""
    """What the model wrote beside the code."""
    code: str | None = None
    """None: the reply held no code."""
    cell: Cell | None = None
    """None: nothing was run, or the sandbox was lost."""
    tool_calls: tuple[ToolRecord, ...] = ()
    """The calls that were made, in the order in which they were asked for."""
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
class FinalAnswerStep:
    """The answer."""

    output: object


AnyStep = TaskStep | PlanningStep | ActionStep | FinalAnswerStep


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
    """The answer: what the model gave to `final_answer`, as plain data or as `output_type`. None if it gave nothing
    (`stop_reason` says why)."""
    stop_reason: StopReason
    steps: tuple[ActionStep, ...] = field(repr=False)
    trace: tuple[AnyStep, ...] = field(default=(), repr=False)
    """The task, the plans, the steps and the answer, in order."""
    usage: TokenUsage
    """Tokens of all replies of this agent's model whose endpoint counted them. Sub-agents count in `spent`."""
    usage_complete: bool = True
    """False: some reply was not counted or was abandoned, so that the run cost more than `usage` says."""
    spent: Spent = Spent()
    """Of the budget, sub-agents included; counted also without a budget."""
    timing: Timing
    messages: tuple[Message, ...] = field(repr=False)
    """The conversation with the model, as the next request would have sent it: old parts may be shortened
    (`context_tokens`)."""
    run_id: str = ""
    """Random; the same in hooks and traces."""

    @property
    def metadata(self) -> Metadata | None:
        """Versions, image and walls of the sandbox, as its last cell says. None for a run that executed no code."""
        return next((step.cell.metadata for step in reversed(self.steps) if step.cell is not None), None)

    def to_json(self) -> str:
        """All of it as versioned JSON text (docs/memory.md); `from_json` gives an equal result back.

        An output of `output_type` is saved as the plain data that it consists of.

        Raises:
            MemoryFileError: the output holds something that is no plain data.
        """
        from .memory import run_to_json

        return run_to_json(self)

    @classmethod
    def from_json(cls, data: str | bytes, *, max_bytes: int = 64 * 1024 * 1024) -> RunResult:
        """The result of a text of `to_json`. Runs nothing, and trusts nothing in it.

        Raises:
            MemoryFileError: the text is no such thing, is another version's, or is larger than `max_bytes`.
        """
        from .memory import run_from_json

        return run_from_json(data, max_bytes=max_bytes)
