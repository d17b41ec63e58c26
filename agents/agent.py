"""What both kinds of agents have in common: options that are checked once, and four ways to run a task.

The rule: an agent object is never written to after its construction, so any number of runs may go on at once, on any
threads and loops. What changes in a run lives in its `RunState`; what lasts from one to the next in a `Conversation`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypedDict, cast

from ..runtime.errors import ConfigError
from ..runtime.runtime_core import core_of
from ..runtime.tool_hooks import Before
from ..runtime.tools import Tool, ToolTable
from .answers import AnswerCheck, OutputType, checked_checks, final_answer_tool
from .budget import Budget, Ledger
from .callbacks import checked_callbacks
from .compaction import Compaction
from .hooks import Hooks
from .loop import Run
from .managed import ManagedAgent, managed_tools
from .messages import Image, Message
from .model import Model
from .option_checks import (
    check_input_names,
    check_kinds,
    check_model,
    check_run,
    checked_hooks,
    checked_images,
    several,
    stop_sequences,
)
from .prompts.templates import Prompts, preview_of
from .renamed_options import check_agent_names, check_run_names
from .result import AnyStep, RunResult
from .spec import AgentSpec, StepCallback, TaskSpec
from .streams import AsyncEventStream, EventStream, MakeRun, RunInThread
from .tracing import Tracer

if TYPE_CHECKING:
    from typing import Unpack

    from ..runtime.async_runtime import AsyncRuntime
    from ..runtime.runtime import Runtime
    from .box import Home
    from .conversation import Conversation
    from .state import RunState

MAX_STEPS: Final = 20
OBSERVATION_CHARS: Final = 10_000
"""About 2500 tokens: enough for a table, too little to fill a window in one step."""
REPLY_TOKENS: Final = 4096


class RunOptions(TypedDict, total=False):
    """Options of one run."""

    images: Sequence[Image]
    """Shown to the model with the task; it must be one that sees."""
    max_steps: int | None
    """Instead of the agent's own."""
    deadline_s: float | None
    """Seconds for the whole run; at the deadline it ends with stop reason `timeout`."""
    budget: Budget | None
    """Instead of the agent's own."""
    tenant: str | None
    """On whose behalf: the caps of that tenant hold for the sandbox."""


class AgentOptions(TypedDict, total=False):
    """Options of every kind of agent."""

    name: str
    """For logs, and for an agent that calls this one."""
    description: str
    """What it is good for, for an agent that calls this one."""
    instructions: str | None
    """Appended to the system prompt."""
    prompts: Prompts | None
    """Other prompt templates."""
    max_steps: int
    """Steps of a run, from 1. Replies without code count; up to three cells in a row that do not compile do not."""
    observation_chars: int
    """How much output of one step the model is shown, from 200; the middle is left out."""
    stop: Sequence[str]
    """Sequences that end a reply; not every endpoint takes them, and none are needed."""
    planning_interval: int | None
    """Every so many steps the model is asked for a plan first. None: never."""
    output_type: object
    """Type of the answer, anything that pydantic knows. A wrong answer is told to the model, which tries again."""
    final_answer_checks: Sequence[AnswerCheck]
    """Functions of the answer: True or None if it is good, False or a text that says why not. See `AnswerCheck`."""
    output_retries: int
    """Answers that may be rejected, for their type or by a check; one more raises `AnswerRejected`."""
    step_callbacks: Iterable[StepCallback] | Mapping[type[AnyStep], StepCallback | Iterable[StepCallback]]
    """Told of each `ActionStep`, or of the classes of steps that a mapping names."""
    hooks: Sequence[Hooks]
    """See, edit or veto requests, cells and tool calls."""
    approve: Before | None
    """Asked before a tool that requires approval is called: `approve(request)` gives True or False, `Allow()`,
    `Deny(reason)` or `Edited(arguments)`, or an awaitable of one. Without it such calls are denied."""
    managed_agents: Sequence[Agent | ManagedAgent]
    """Sub-agents: tools of this one, each run in a sandbox of its own, with a share of the budget."""
    budget: Budget | None
    """What a run may spend."""
    context_tokens: int | Compaction | None
    """The model's window: old observations are shortened so that requests stay below it. None: they never are."""
    answer_at_max_steps: bool
    """When no step is left, ask the model once more, for an answer in words. It is billed like any request."""
    reply_tokens: int
    """Room for a reply, where a budget or a window counts tokens."""
    tracer: Tracer | None
    """Told when runs, model calls, cells and tool calls begin and end."""


class Runnable(ABC):
    """Something that takes tasks, in four ways."""

    def run(self, task: str, inputs: Mapping[str, object] | None = None, **options: Unpack[RunOptions]) -> RunResult:
        """Solve a task; blocks. Works on any thread, also on one whose event loop runs (it blocks that loop).

        Args:
            task: what to do, for the model.
            inputs: values to set as variables in the sandbox; the model sees a short preview of each. A
                `ToolCallingAgent` has no sandbox: its model is shown them in full, up to 20,000 characters in all.
            options: see `RunOptions`.

        Raises:
            AgentError: the model gave no usable reply; its `result` has the steps so far.
            CannotCross: an input may not enter the sandbox.
            ConfigError: an argument cannot be.
            ClocheError: no sandbox could be had.
        """
        make = self._maker(task, inputs, options)
        return RunInThread(core_of(self._runtime).tool_loop.start, make).wait()

    async def arun(
        self, task: str, inputs: Mapping[str, object] | None = None, **options: Unpack[RunOptions]
    ) -> RunResult:
        """As `run`, on the caller's loop. Cancelling the task closes the sandbox."""
        return await self._maker(task, inputs, options)(None).drive()

    def stream(
        self, task: str, inputs: Mapping[str, object] | None = None, **options: Unpack[RunOptions]
    ) -> EventStream:
        """As `run`, with the events of the run to iterate over. The run starts at once; use it in a `with` block."""
        return EventStream(core_of(self._runtime).tool_loop.start, self._maker(task, inputs, options))

    def astream(
        self, task: str, inputs: Mapping[str, object] | None = None, **options: Unpack[RunOptions]
    ) -> AsyncEventStream:
        """As `stream`, for `async for` on asyncio; use it in an `async with` block."""
        return AsyncEventStream(self._maker(task, inputs, options))

    _runtime: Runtime | AsyncRuntime | None

    @abstractmethod
    def _maker(self, task: str, inputs: Mapping[str, object] | None, options: RunOptions) -> MakeRun:
        """Checks the arguments now; makes the run later."""


class Agent(Runnable):
    """Base of `CodeAgent` and `ToolCallingAgent`."""

    spec: AgentSpec
    """All options, checked."""
    _shows_inputs_in_full: ClassVar[bool] = False
    """Whether the prompt has the values of inputs, not previews of what is in the sandbox."""

    def __init__(self, spec: AgentSpec, budget: Budget | None, runtime: Runtime | AsyncRuntime | None) -> None:
        self.spec = spec
        self.budget: Final = budget
        self._runtime = runtime

    @property
    def name(self) -> str:
        """For logs, and for an agent that calls this one; empty if none was given."""
        return self.spec.name

    @property
    def description(self) -> str:
        """What it is good for, for an agent that calls this one; empty if none was given."""
        return self.spec.description

    @property
    def model(self) -> Model:
        """What writes its code or its tool calls."""
        return self.spec.model

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools of a run, `final_answer` last. A sandbox that is given to a run is made with these."""
        return self.spec.tools

    @property
    def max_steps(self) -> int:
        """Steps of a run that names no other number."""
        return self.spec.max_steps

    @property
    def prompts(self) -> Prompts:
        """Its templates: those that were given, or the package's own."""
        return self.spec.prompts

    @property
    def system_prompt(self) -> str:
        """What each run begins with, rendered: the rules, the tools, the `instructions`."""
        return self.spec.system_prompt

    def conversation(self, *, tenant: str | None = None) -> Conversation:
        """Runs that share their messages and their sandbox, one after the other. Close it, or use it with `with`."""
        from .conversation import Conversation

        return Conversation(self, tenant=tenant)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model.name!r} tools={[entry.name for entry in self.tools[:-1]]}>"

    def _maker(self, task: str, inputs: Mapping[str, object] | None, options: RunOptions) -> MakeRun:
        return partial(Run, self.task_spec(task, inputs, options))

    def task_spec(  # noqa: PLR0913  # the last four are for conversations and managers
        self,
        task: str,
        inputs: Mapping[str, object] | None,
        options: RunOptions,
        *,
        history: Sequence[Message] = (),
        home: Home | None = None,
        ledger: Ledger | None = None,
        parent: RunState | None = None,
    ) -> TaskSpec:
        """What a run is to do. Internal.

        Raises:
            ConfigError: an argument cannot be.
        """
        check_run_names(options, RunOptions.__annotations__, AgentOptions.__annotations__)
        check_run(task, inputs, options)
        given = dict(inputs or {})
        check_input_names(given, {entry.name for entry in self.tools})
        steps = options.get("max_steps")
        images = checked_images(options.get("images", ()))
        text = self.prompts.render_task(task=task, inputs=given, full=self._shows_inputs_in_full)
        return TaskSpec(
            spec=self.spec,
            task=task,
            messages=[*(history or [Message("system", self.system_prompt)]), Message("user", text, images=images)],
            inputs=given,
            previews={name: preview_of(value) for name, value in given.items()},
            images=images,
            home=home or self.new_home(tenant=options.get("tenant")),
            max_steps=self.max_steps if steps is None else at_least(1, steps, "max_steps"),
            deadline_s=options.get("deadline_s"),
            ledger=ledger or Ledger(options.get("budget") or self.budget),
            tenant=options.get("tenant"),
            parent=parent,
        )

    def new_home(self, *, keep: bool = False, tenant: str | None = None) -> Home | None:
        """Where the code of a run lives; None for an agent that runs none."""
        return None


def common_spec(
    kind: str, tools: Iterable[Tool | Callable[..., object]], model: Model, options: AgentOptions
) -> dict[str, object]:
    """The fields of an `AgentSpec` that all kinds of agents have, but for the prompts.

    Raises:
        ConfigError: an option cannot be.
    """
    check_model(model)  # first: swapped arguments are told as such
    output = OutputType.of(options.get("output_type"))
    managed = managed_tools(options.get("managed_agents", ()))
    given = cast("tuple[Tool | Callable[..., object], ...]", several("tools", tools))
    table = ToolTable([*given, *managed, final_answer_tool(output)])
    interval, window = options.get("planning_interval"), options.get("context_tokens")
    return {
        "kind": kind,
        "name": options.get("name", ""),
        "description": options.get("description", ""),
        "model": model,
        "tools": tuple(table.values()),
        "max_steps": at_least(1, options.get("max_steps", MAX_STEPS), "max_steps"),
        "observation_chars": at_least(200, options.get("observation_chars", OBSERVATION_CHARS), "observation_chars"),
        "stop": stop_sequences(options.get("stop", ())),
        "planning_interval": None if interval is None else at_least(1, interval, "planning_interval"),
        "output": output,
        "checks": checked_checks(options.get("final_answer_checks", ())),
        "output_retries": at_least(0, options.get("output_retries", 3), "output_retries"),
        "callbacks": checked_callbacks(options.get("step_callbacks", ())),
        "hooks": checked_hooks(options.get("hooks", ())),
        "approve": options.get("approve"),
        "tracer": options.get("tracer"),
        "compaction": Compaction(context_tokens=window) if isinstance(window, int) else window,
        "answer_at_max_steps": options.get("answer_at_max_steps", False),
        "reply_tokens": at_least(1, options.get("reply_tokens", REPLY_TOKENS), "reply_tokens"),
        "has_sub_agents": bool(managed),
    }


def checked_options(options: AgentOptions) -> AgentOptions:
    """The options, if there are no others and each is of its kind.

    Raises:
        ConfigError: one does not exist or cannot be.
    """
    check_agent_names(options, AgentOptions.__annotations__, RunOptions.__annotations__)
    check_kinds(options)
    return options


def at_least(low: int, value: int, name: str) -> int:
    """The value. Raises ConfigError if it is no integer or below `low`."""
    if type(value) is not int or value < low:
        raise ConfigError(f"{name} is an integer from {low}, not {value!r}")
    return value
