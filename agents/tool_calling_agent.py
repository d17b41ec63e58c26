"""`ToolCallingAgent`: an agent whose model asks for tools by JSON, as the usual chat endpoints offer it. No code is run
and no sandbox is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, get_args

from ..runtime.errors import ConfigError
from ..runtime.runtime_core import check_runtime
from ..runtime.tools import Tool
from .agent import Agent, AgentOptions, at_least, checked_options, common_spec
from .messages import ToolChoice
from .model import Model
from .prompts.templates import load_prompts
from .spec import AgentSpec

if TYPE_CHECKING:
    from typing import Unpack

    from ..runtime.async_runtime import AsyncRuntime
    from ..runtime.runtime import Runtime


class ToolCallingAgent(Agent):
    """An agent that solves a task by calling tools, several at once where the model asks for it."""

    _shows_inputs_in_full = True

    def __init__(
        self,
        tools: Iterable[Tool | Callable[..., object]],
        model: Model,
        *,
        tool_choice: ToolChoice = "required",
        parallel_tool_calls: int = 8,
        runtime: Runtime | AsyncRuntime | None = None,
        **options: Unpack[AgentOptions],
    ) -> None:
        """Check the options and render the system prompt.

        Args:
            tools: `@tool` functions, `Tool` objects or plain typed functions. They run on the host.
            model: one that can call tools.
            tool_choice: "required": every reply must call a tool, and the answer comes by `final_answer`. "auto": for
                endpoints that cannot require it; a reply in words is then the answer.
            parallel_tool_calls: calls of one reply that may run at once, from 1.
            runtime: whose event loop `run` and `stream` use; None: the default one.
            options: see `AgentOptions`.

        Raises:
            ConfigError: an option cannot be.
        """
        checked = checked_options(options)
        if runtime is not None:
            check_runtime(runtime)
        if tool_choice not in get_args(ToolChoice):
            raise ConfigError(f'tool_choice is "required" or "auto", not {tool_choice!r:.100}')
        prompts = checked.get("prompts") or load_prompts("tool_calling_agent")
        spec = AgentSpec(
            **common_spec(type(self).__name__, tools, model, checked),  # type: ignore[arg-type]  # checked there
            prompts=prompts,
            system_prompt=prompts.render_system(stubs=[], packages=[], instructions=checked.get("instructions")),
            tool_choice=tool_choice,
            parallel_tool_calls=at_least(1, parallel_tool_calls, "parallel_tool_calls"),
        )
        super().__init__(spec, checked.get("budget"), runtime)
