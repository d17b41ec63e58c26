"""What to write instead of an option that does not exist here, but in smolagents, in another kind of agent, or at
another place. The page "Coming from smolagents" has the same names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..runtime.errors import ConfigError

AGENT_HINTS: Final[Mapping[str, str]] = {
    "add_base_tools": "name the tools: CodeAgent([WebSearchTool()], model), from cloche.agents.toolkit",
    "code_block_tags": "leave it out: several fences and tags are read",
    "executor": "write engine=, isolation=, limits= or sandbox=",
    "executor_kwargs": "write engine_options=, limits= or sandbox=",
    "executor_type": "write engine= and isolation=; code always runs in a sandbox",
    "grammar": "write CodeAgent(..., use_structured_outputs=True)",
    "logger": "call ConsoleLogger() with the events of agent.stream(task), or set up logging for 'cloche'",
    "max_print_outputs_length": "write observation_chars=",
    "max_tool_threads": "write ToolCallingAgent(..., parallel_tool_calls=)",
    "prompt_templates": "write prompts=Prompts(...)",
    "provide_run_summary": "write ManagedAgent(agent=..., summary=True) where the manager is made",
    "return_full_result": "leave it out: run() always returns the full result",
    "stream_outputs": "leave it out: agent.stream(task) and agent.astream(task) give the text as it comes",
    "use_structured_outputs_internally": "write CodeAgent(..., use_structured_outputs=True)",
    "verbosity_level": "call ConsoleLogger() with the events of agent.stream(task); nothing is printed otherwise",
}
RUN_HINTS: Final[Mapping[str, str]] = {
    "additional_args": "write inputs={...}",
    "reset": "use agent.conversation(), whose runs share messages and sandbox",
    "return_full_result": "leave it out: run() always returns the full result",
    "stream": "use agent.stream(task) or agent.astream(task)",
}
_OF_CODE_AGENTS: Final = frozenset(
    {
        "additional_authorized_imports",
        "use_structured_outputs",
        "limits",
        "engine",
        "engine_options",
        "isolation",
        "sandbox",
    }
)
_OF_TOOL_CALLING_AGENTS: Final = frozenset({"tool_choice", "parallel_tool_calls"})


def check_agent_names(given: Collection[str], known: Collection[str], of_runs: Collection[str]) -> None:
    """Whether an agent has these options.

    Raises:
        ConfigError: it has one of them not; says what to write instead, where that is known.
    """
    for name in sorted(set(given) - set(known)):
        hint = AGENT_HINTS.get(name)
        if hint is None and name in _OF_CODE_AGENTS:
            hint = "it is an option of CodeAgent"
        elif hint is None and name in _OF_TOOL_CALLING_AGENTS:
            hint = "it is an option of ToolCallingAgent"
        elif hint is None and (name in of_runs or name in RUN_HINTS):
            hint = RUN_HINTS.get(name, f"it is an option of runs: agent.run(task, {name}=...)")
        raise ConfigError(_told(f"an agent has no option {name!r:.100}", hint))


def check_run_names(given: Collection[str], known: Collection[str], of_agents: Collection[str]) -> None:
    """Whether a run has these options.

    Raises:
        ConfigError: it has one of them not; says what to write instead, where that is known.
    """
    for name in sorted(set(given) - set(known)):
        hint = RUN_HINTS.get(name)
        if hint is None and (name in of_agents or name in _OF_CODE_AGENTS or name in _OF_TOOL_CALLING_AGENTS):
            hint = "it is given where the agent is made"
        raise ConfigError(_told(f"a run has no option {name!r:.100}", hint))


def _told(fault: str, hint: str | None) -> str:
    return fault if hint is None else f"{fault}; {hint}"
