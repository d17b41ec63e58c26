"""`CodeAgent`: an agent that thinks in code. The public face; `loop.py` has the run itself.

The rule: an agent object holds what all runs share and is never written to after its construction, so any number of
runs may go on at once, on any threads and loops, each in a sandbox of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

from ..runtime.async_sandbox import AsyncSandbox
from ..runtime.errors import ConfigError
from ..runtime.limits import Limits
from ..runtime.runtime_core import core_of
from ..runtime.sandbox_core import check_options
from ..runtime.tools import Tool, ToolTable, checked_name
from .box import Box, OpenBox
from .events import Emit
from .loop import FINAL_ANSWER, Plan, Run, final_answer_tool
from .messages import Message
from .model import Model
from .prompts.templates import Prompts, load_prompts
from .result import RunResult
from .streams import AsyncEventStream, EventStream, RunInThread

if TYPE_CHECKING:
    from ..runtime.async_runtime import AsyncRuntime
    from ..runtime.runtime import Runtime

MAX_STEPS: Final = 20
OBSERVATION_CHARS: Final = 10_000
"""About 2500 tokens: enough for a table, too little to fill a window in one step."""


class CodeAgent:
    """An agent that solves a task by writing Python, which runs in a sandbox and calls the tools that it was given."""

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        tools: Iterable[Tool | Callable[..., object]],
        model: Model,
        *,
        instructions: str | None = None,
        max_steps: int = MAX_STEPS,
        additional_authorized_imports: Sequence[str] = (),
        prompts: Prompts | None = None,
        observation_chars: int = OBSERVATION_CHARS,
        stop: Sequence[str] = (),
        limits: Limits | None = None,
        engine: str = "wasmtime",
        isolation: str = "process",
        runtime: Runtime | AsyncRuntime | None = None,
        sandbox: OpenBox | None = None,
    ) -> None:
        """Check the options and render the system prompt. No sandbox is started yet.

        Args:
            tools: `@tool` functions, `Tool` objects or plain typed functions. They run on the host.
            model: any object with `name` and `complete`.
            instructions: appended to the system prompt.
            max_steps: replies of the model per run, those without code included; from 1.
            additional_authorized_imports: packages of the image that the model is told about. (The whole standard
                library can be imported anyway; a package that the image lacks raises ImportError in the guest.)
            prompts: other prompt templates.
            observation_chars: how much output of one cell the model is shown, from 200; the middle is left out.
            stop: sequences that end a reply; not every endpoint takes them, and none are needed.
            limits, engine, isolation, runtime: of each run's sandbox, as for `AsyncSandbox`.
            sandbox: opens the sandbox instead; it gets the tools, `final_answer` among them.

        Raises:
            ConfigError: an option cannot be.
        """
        check_options(engine, isolation)
        self.model: Final = model
        self.max_steps: Final = _at_least(1, max_steps, "max_steps")
        self._observation_chars = _at_least(200, observation_chars, "observation_chars")
        self._stop = tuple(stop)
        self._runtime = runtime
        table = ToolTable([*tools, final_answer_tool()])
        self.tools: Final[tuple[Tool, ...]] = tuple(table.values())
        """All tools of a run, `final_answer` last."""
        self.prompts: Final = prompts or load_prompts()
        self.system_prompt: Final[str] = self.prompts.render_system(
            stubs=[entry.stub for entry in self.tools],
            packages=list(additional_authorized_imports),
            instructions=instructions,
        )
        self._open_box: OpenBox = sandbox or partial(
            _open_sandbox, limits=limits, engine=engine, isolation=isolation, runtime=runtime
        )

    def run(
        self,
        task: str,
        inputs: Mapping[str, object] | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
    ) -> RunResult:
        """Solve a task; blocks. Works on any thread, also on one whose event loop runs (it blocks that loop).

        Args:
            task: what to do, for the model.
            inputs: values to set as variables in the sandbox; the model sees a short preview of each.
            max_steps: instead of the agent's own.
            deadline_s: seconds for the whole run; at the deadline it ends with stop reason `timeout`.

        Raises:
            AgentError: the model gave no usable reply; its `result` has the steps so far.
            CannotCross: an input may not enter the sandbox.
            ConfigError: an argument cannot be.
            ClocheError: no sandbox could be had.
        """
        make = self._maker(task, inputs, max_steps, deadline_s)
        return RunInThread(core_of(self._runtime).tool_loop.start, make).wait()

    async def arun(
        self,
        task: str,
        inputs: Mapping[str, object] | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
    ) -> RunResult:
        """As `run`, on the caller's loop. Cancelling the task closes the sandbox."""
        return await self._maker(task, inputs, max_steps, deadline_s)(None).drive()

    def stream(
        self,
        task: str,
        inputs: Mapping[str, object] | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
    ) -> EventStream:
        """As `run`, with the events of the run to iterate over. The run starts at once; use it in a `with` block."""
        return EventStream(core_of(self._runtime).tool_loop.start, self._maker(task, inputs, max_steps, deadline_s))

    def astream(
        self,
        task: str,
        inputs: Mapping[str, object] | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncEventStream:
        """As `stream`, for `async for` on asyncio; use it in an `async with` block."""
        return AsyncEventStream(self._maker(task, inputs, max_steps, deadline_s))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model.name!r} tools={[entry.name for entry in self.tools[:-1]]}>"

    def _maker(
        self, task: str, inputs: Mapping[str, object] | None, max_steps: int | None, deadline_s: float | None
    ) -> Callable[[Emit | None], Run]:
        """Checks the arguments now; makes the run later."""
        given = dict(inputs or {})
        for name in given:
            self._check_input(name)
        if deadline_s is not None and not deadline_s > 0:
            raise ConfigError(f"deadline_s is a number of seconds above 0, not {deadline_s!r}")
        plan = Plan(
            model=self.model,
            messages=(
                Message("system", self.system_prompt),
                Message("user", self.prompts.render_task(task=task, inputs=given)),
            ),
            inputs=given,
            tools=self.tools,
            open_box=self._open_box,
            max_steps=self.max_steps if max_steps is None else _at_least(1, max_steps, "max_steps"),
            deadline_s=deadline_s,
            stop=self._stop,
            observation_chars=self._observation_chars,
        )
        return partial(Run, plan)

    def _check_input(self, name: str) -> None:
        checked_name(name)
        if any(entry.name == name for entry in self.tools):
            hint = "" if name == FINAL_ANSWER else "; rename the input or the tool"
            raise ConfigError(f"an input cannot be named {name!r}: a tool has that name{hint}")


def _open_sandbox(
    tools: Sequence[Tool],
    *,
    limits: Limits | None,
    engine: str,
    isolation: str,
    runtime: Runtime | AsyncRuntime | None,
) -> AbstractAsyncContextManager[Box]:
    return AsyncSandbox(tools=tools, limits=limits, engine=engine, isolation=isolation, runtime=runtime)


def _at_least(low: int, value: int, name: str) -> int:
    if type(value) is not int or value < low:
        raise ConfigError(f"{name} is an integer from {low}, not {value!r}")
    return value
