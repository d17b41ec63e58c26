"""`CodeAgent`: an agent that thinks in code. Its code runs in a sandbox and calls the tools that it was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..runtime.errors import ConfigError
from ..runtime.limits import Limits
from ..runtime.stubs import stubs_of
from ..runtime.tools import Tool
from .agent import Agent, AgentOptions, checked_options, common_spec
from .box import AGENT_CALL_S, GivenSandbox, Home, SandboxOptions, check_tools, opener
from .imports import checked_imports, prelude
from .model import Model
from .option_checks import check_flag
from .prompts.templates import load_prompts
from .spec import AgentSpec

if TYPE_CHECKING:
    from typing import Unpack

    from ..runtime.async_runtime import AsyncRuntime
    from ..runtime.runtime import Runtime


class CodeAgent(Agent):
    """An agent that solves a task by writing Python, which runs in a sandbox and calls the tools that it was given."""

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        tools: Iterable[Tool | Callable[..., object]],
        model: Model,
        *,
        additional_authorized_imports: Sequence[str] | None = None,
        use_structured_outputs: bool = False,
        limits: Limits | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, object] | None = None,
        isolation: str = "process",
        runtime: Runtime | AsyncRuntime | None = None,
        sandbox: GivenSandbox | None = None,
        **options: Unpack[AgentOptions],
    ) -> None:
        """Check the options and render the system prompt. No sandbox is started yet.

        Args:
            tools: `@tool` functions, `Tool` objects or plain typed functions. They run on the host.
            model: any object with `name` and `complete`.
            additional_authorized_imports: packages of the image that code may import beside the standard library; the
                model is told. None (or "*" in it): all that the image holds. It guides the model; the sandbox is the
                wall.
            use_structured_outputs: replies are JSON with `thought` and `code`; for models with `response_format`.
            limits, engine, engine_options, isolation, runtime: of each run's sandbox, as for `AsyncSandbox`.
            sandbox: instead of these five: `SandboxOptions`; a function that opens a sandbox, which gets the tools; or
                an open sandbox that was made with `agent.tools`, for one run at a time.
            options: see `AgentOptions`.

        Raises:
            ConfigError: an option cannot be.
        """
        checked = checked_options(options)
        check_flag("use_structured_outputs", use_structured_outputs)
        fields = common_spec(type(self).__name__, tools, model, checked)
        if limits is None and fields["has_sub_agents"]:
            limits = Limits(wall_s=AGENT_CALL_S, tool_s=AGENT_CALL_S)
        given = SandboxOptions(
            engine=engine, engine_options=engine_options, isolation=isolation, limits=limits, runtime=runtime
        )
        self.sandbox: Final[GivenSandbox] = _chosen(sandbox, given, has_sub_agents=bool(fields["has_sub_agents"]))
        """Where its code runs: the options of each run's sandbox, or what was given as `sandbox=`."""
        opener(self.sandbox)  # says what is wrong with it now
        self._prelude: Final = prelude(packages := checked_imports(additional_authorized_imports))
        prompts = checked.get("prompts") or load_prompts(
            "code_agent_structured" if use_structured_outputs else "code_agent"
        )
        table: Sequence[Tool] = fields["tools"]  # type: ignore[assignment]  # `common_spec` made it
        check_tools(self.sandbox, table)
        spec = AgentSpec(
            **fields,  # type: ignore[arg-type]  # checked by `common_spec`
            prompts=prompts,
            system_prompt=prompts.render_system(
                stubs=stubs_of(table), packages=list(packages or ()), instructions=checked.get("instructions")
            ),
            structured=use_structured_outputs,
            packages=packages,
        )
        owner = self.sandbox.runtime if isinstance(self.sandbox, SandboxOptions) else None
        super().__init__(spec, checked.get("budget"), owner)

    def new_home(self, *, keep: bool = False, tenant: str | None = None) -> Home:
        """A place for code: of one run, or of a conversation (`keep`)."""
        return Home(opener(self.sandbox, tenant), self.tools, prelude=self._prelude, keep=keep)


def _chosen(sandbox: GivenSandbox | None, given: SandboxOptions, *, has_sub_agents: bool) -> GivenSandbox:
    """`sandbox=`, or else the options that were given one by one. Raises ConfigError for both.

    With sub-agents `given` has limits of its own making, which also fill a gap in `sandbox=`.
    """
    if sandbox is None:
        return given
    if given != SandboxOptions(limits=given.limits if has_sub_agents else None):
        raise ConfigError(
            "sandbox= stands instead of limits, engine, engine_options, isolation and runtime: give one or the other"
        )
    if isinstance(sandbox, SandboxOptions) and sandbox.limits is None:
        return replace(sandbox, limits=given.limits)
    return sandbox
