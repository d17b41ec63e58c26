"""Sub-agents: an agent as a tool of another one. Its run has a sandbox of its own and a share of the caller's budget.

The rule: a sub-agent gets a task as text and gives back its answer as data; neither sees the other's variables, tools
or messages. It ends with the call: when the caller's cell or run is stopped, so is it. No agent may call itself,
however many lie between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from ..runtime.errors import ClocheError, ConfigError
from ..runtime.tools import Tool, ToolError, checked_name
from .box import AGENT_CALL_S
from .events import Event, SubAgentEvent
from .loop import Run
from .option_checks import check_kinds, several
from .state import current_run

if TYPE_CHECKING:
    from .agent import Agent
    from .state import RunState

MAX_DEPTH: Final = 8
"""Runs inside of one another."""
MAX_TASK_CHARS: Final = 50_000
"""A caller's code writes the task, and all of it goes to a model."""
_WORDS: Final = {
    "budget": "its share of the budget was used up",
    "max_steps": "it used all its steps",
    "timeout": "it took too long",
    "denied": "it was not allowed to go on",
    "cancelled": "it was cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedAgent:
    """An agent as another one calls it."""

    agent: Agent
    name: str = ""
    """What it is called; default: the agent's own name."""
    description: str = ""
    """What it is good for; default: the agent's own description."""
    share: float = 0.5
    """Of what is left of the caller's budget when it is called: more than this one call cannot spend."""
    summary: bool = False
    """Give back a dict of `answer` and `report` (what the agent wrote beside its code) instead of the answer alone."""
    timeout_s: float = AGENT_CALL_S
    """Seconds of one call, if the caller's limits (`tool_s`, and `wall_s` of its cell) allow as much."""


def managed_tools(agents: Sequence[Agent | ManagedAgent]) -> list[Tool]:
    """A tool for each sub-agent.

    Raises:
        ConfigError: one is no agent, has no name or description, or a share that cannot be.
    """
    from .agent import Agent  # which imports this module

    tools: list[Tool] = []
    for entry in several("managed_agents", agents):
        managed = ManagedAgent(agent=entry) if isinstance(entry, Agent) else entry
        if not isinstance(managed, ManagedAgent) or not isinstance(cast("object", managed.agent), Agent):
            raise ConfigError(f"managed_agents holds agents, or ManagedAgent(agent=...) of one, not {entry!r:.100}")
        tools.append(_tool(managed))
    return tools


def _tool(managed: ManagedAgent) -> Tool:
    agent = managed.agent
    name = managed.name or agent.name
    description = managed.description or agent.description
    check_kinds({"name": name, "description": description, "share": managed.share})
    if not name or not description:
        raise ConfigError("a managed agent needs a name and a description: CodeAgent(..., name=..., description=...)")
    if not 0 < managed.share <= 1:
        raise ConfigError(f"the share of a managed agent is above 0 and at most 1, not {managed.share!r}")
    checked_name(name)

    async def ask(task: str, inputs: dict[str, object] | None = None) -> object:
        return await _run(managed, name, task, inputs)

    text = (
        f"{description}\n\nAn agent that works on its own and sees nothing of yours: say all that it needs.\n\n"
        "Args:\n    task: what it is to do, in words.\n    inputs: data for it: names and values."
    )
    ask.__doc__ = text
    if agent.spec.output.annotation is not None and not managed.summary:
        ask.__annotations__["return"] = agent.spec.output.annotation  # the caller's model sees what comes back
    return Tool(ask, name=name, description=description, timeout_s=managed.timeout_s)


async def _run(managed: ManagedAgent, name: str, task: str, inputs: dict[str, object] | None) -> object:
    agent = managed.agent
    parent = _parent_of(agent, name)
    ledger = parent.ledger.child(managed.share, agent.budget) if parent is not None else None
    if len(task) > MAX_TASK_CHARS:
        raise ToolError(f"the task is longer than {MAX_TASK_CHARS} characters: give data as inputs")
    try:
        tenant = parent.task.tenant if parent is not None else None
        spec = agent.task_spec(task, inputs, {"tenant": tenant}, ledger=ledger, parent=parent)
    except ConfigError as exc:
        raise ToolError(str(exc)) from exc
    run = Run(spec)
    if parent is not None and parent.emitter is not None:
        run.state.emitter = _Forwarder(parent, name, run.state.run_id)
    try:
        result = await run.drive()
    except ClocheError as exc:  # its model, or no sandbox was free
        raise ToolError(f"{name} could not go on: {type(exc).__name__}") from exc
    if result.stop_reason != "final" and result.output is None:
        raise ToolError(f"{name} gave no answer: {_WORDS.get(result.stop_reason, result.stop_reason)}")
    if managed.summary:
        report = "\n".join(step.thought for step in result.steps if step.thought)
        return {"answer": result.output, "report": report[:4000]}
    return result.output


def _parent_of(agent: Agent, name: str) -> RunState | None:
    """The run that calls.

    Raises:
        ToolError: the agent is at work further up, or the calls go too deep.
    """
    try:
        parent = current_run()
    except LookupError:
        return None
    line = parent.lineage
    if any(run.spec is agent.spec for run in line):
        raise ToolError(f"{name} is at work already and waits for this answer: it cannot be asked from here")
    if len(line) >= MAX_DEPTH:
        raise ToolError(f"{len(line)} agents wait for one another; no more")
    return parent


class _Forwarder:
    """Passes a sub-agent's events on, marked as its own."""

    def __init__(self, parent: RunState, name: str, run_id: str) -> None:
        self._parent = parent
        self._step = parent.number
        self._name = name
        self._run_id = run_id

    def __call__(self, event: Event) -> None:
        self._parent.emit(SubAgentEvent(self._step, self._name, self._run_id, event))
