"""What an agent is made of, as one frozen value that all its runs read, and what one run is to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..runtime.tool_hooks import Before
from ..runtime.tools import Tool
from .answers import AnswerCheck, OutputType
from .budget import Ledger
from .compaction import Compaction
from .hooks import Hooks
from .messages import Image, Message, ToolChoice
from .model import Model
from .prompts.templates import Prompts
from .result import AnyStep
from .tracing import Tracer

if TYPE_CHECKING:
    from .box import Home
    from .state import RunState

FINAL_ANSWER: Final = "final_answer"

StepCallback = Callable[..., Awaitable[object] | object]
"""`callback(step)`, or `callback(step, run)` to see the `RunState`; parameters with a default keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """Options of an agent, checked and made ready."""

    kind: str
    """Class of the agent."""
    name: str
    description: str
    model: Model
    tools: tuple[Tool, ...]
    """`final_answer` last."""
    prompts: Prompts
    system_prompt: str
    max_steps: int
    observation_chars: int
    stop: tuple[str, ...]
    planning_interval: int | None
    output: OutputType
    checks: tuple[AnswerCheck, ...]
    output_retries: int
    callbacks: tuple[tuple[type[AnyStep], StepCallback], ...]
    hooks: tuple[Hooks, ...]
    approve: Before | None
    tracer: Tracer | None
    compaction: Compaction | None
    answer_at_max_steps: bool
    reply_tokens: int
    """Reserved for a reply where a budget or a window counts tokens."""
    has_sub_agents: bool = False
    structured: bool = False
    """CodeAgent: replies are JSON with `thought` and `code`."""
    packages: tuple[str, ...] | None = None
    """CodeAgent: packages beyond the standard library that may be imported; None: all of the image."""
    tool_choice: ToolChoice = "required"
    """ToolCallingAgent."""
    parallel_tool_calls: int = 8
    """ToolCallingAgent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One task for an agent."""

    spec: AgentSpec
    task: str
    messages: Sequence[Message]
    """The conversation up to and with the task."""
    inputs: Mapping[str, object]
    """Values that are new with this task."""
    previews: Mapping[str, str]
    images: tuple[Image, ...]
    home: Home | None
    """Where code runs; None for an agent that runs none."""
    max_steps: int
    deadline_s: float | None
    ledger: Ledger
    tenant: str | None = None
    """On whose behalf; sub-agents are called on the same tenant's."""
    parent: RunState | None = None
    """The run that called this one as a sub-agent."""
