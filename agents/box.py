"""What an agent needs of a sandbox, and where a run gets one: fresh for itself, or kept by a conversation.

`AsyncSandbox` is a `Box`; tests have small fakes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

import anyio.to_thread

from ..runtime.async_sandbox import AsyncSandbox, settled_cell
from ..runtime.cell import Cell
from ..runtime.engine_options import check_options, checked_engine_options
from ..runtime.errors import ConfigError
from ..runtime.limits import Limits, check_limits
from ..runtime.output import OnOutput
from ..runtime.runtime_core import check_runtime, core_of
from ..runtime.sandbox import Sandbox
from ..runtime.tool_hooks import ToolObserver
from ..runtime.tools import Tool

if TYPE_CHECKING:
    from ..runtime.async_runtime import AsyncRuntime
    from ..runtime.execution import Execution
    from ..runtime.runtime import Runtime
    from ..runtime.sandbox_core import SandboxCore


class Box(Protocol):
    """An open sandbox. Tools run with the context variables of the task that calls `run`."""

    async def run(
        self,
        code: str,
        deadline_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        on_output: OnOutput | None = None,
        on_tool: ToolObserver | None = None,
    ) -> Cell:
        """As `AsyncSandbox.run`."""
        ...

    async def reset(self) -> None:
        """As `AsyncSandbox.reset`."""
        ...


OpenBox = Callable[[Sequence[Tool]], AbstractAsyncContextManager[Box]]
"""Opens a sandbox that has these tools, such as `lambda tools: AsyncSandbox(tools=tools)`. Called once per run or
conversation; leaving the context closes the sandbox."""

AGENT_CALL_S = 600.0
"""Seconds of a cell, and of one tool call, of an agent that has sub-agents, unless its limits say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How the sandboxes of an agent's runs are made; as for `AsyncSandbox`."""

    engine: str | None = None
    engine_options: Mapping[str, object] | None = None
    isolation: str = "process"
    limits: Limits | None = None
    tenant: str | None = None
    """On whose behalf; `run(tenant=...)` names another for one run."""
    runtime: Runtime | AsyncRuntime | None = None

    def open(self, tools: Sequence[Tool]) -> AbstractAsyncContextManager[Box]:
        """A fresh sandbox with these tools, started by `async with`."""
        return AsyncSandbox(
            tools=tools,
            limits=self.limits,
            engine=self.engine,
            engine_options=self.engine_options,
            isolation=self.isolation,
            tenant=self.tenant,
            runtime=self.runtime,
        )


GivenSandbox = SandboxOptions | OpenBox | AsyncSandbox | Sandbox
"""What may be given as `sandbox=`: how to make one, a function that opens one, or an open one, made with the agent's
`tools`, which stays open."""


def opener(given: GivenSandbox, tenant: str | None = None) -> OpenBox:
    """A function that opens it; `tenant` instead of the options' own.

    Raises:
        ConfigError: it is nothing of the kind, or its options cannot be.
    """
    if isinstance(given, SandboxOptions):
        check_options(given.engine, given.isolation)
        check_limits(given.limits)
        if given.runtime is not None:
            check_runtime(given.runtime)
        if given.engine_options is not None:  # only then: which engine it is may be up to the runtime
            engine = given.engine or core_of(given.runtime).config.engine
            checked_engine_options(engine, given.engine_options)
        return (given if tenant is None else replace(given, tenant=tenant)).open
    if tenant is not None:
        raise ConfigError("a run has a tenant only where cloche makes its sandbox: give the sandbox its tenant")
    if isinstance(given, AsyncSandbox):
        return partial(_lend, given)
    if isinstance(given, Sandbox):
        return partial(_lend, _BlockingBox(given))
    if not callable(given) or isinstance(given, type):
        raise ConfigError(
            f"sandbox= takes SandboxOptions, an open sandbox or a function, not {given!r:.100}; a function is such as "
            "lambda tools: AsyncSandbox(tools=tools)"
        )
    return partial(_opened_by, given)


def _opened_by(function: OpenBox, tools: Sequence[Tool]) -> AbstractAsyncContextManager[Box]:
    """What the caller's function opens.

    Raises:
        ConfigError: it opens nothing that `async with` takes, or a sandbox without the tools.
    """
    made = function(tools)
    if not hasattr(made, "__aenter__"):
        kind = type(cast("object", made)).__name__
        close = getattr(made, "close", None)
        if close is not None:  # a `Sandbox`, or what an async function gave
            close()
        raise ConfigError(
            f"the function of sandbox= gives an async context manager of a sandbox, not {kind}; write "
            "sandbox=lambda tools: AsyncSandbox(tools=tools)"
        )
    check_tools(made, tools)
    return made


def check_tools(given: object, tools: Sequence[Tool]) -> None:
    """Whether an open sandbox has the tools of an agent, by name. What is yet to be opened gets them.

    Raises:
        ConfigError: one is missing.
    """
    if not isinstance(given, AsyncSandbox | Sandbox):
        return
    has = {entry.name for entry in given.tools}
    missing = [entry.name for entry in tools if entry.name not in has]
    if missing:
        raise ConfigError(
            f"the given sandbox has no tool {missing[0]!r}; make it with those of the agent, final_answer included: "
            f"{type(given).__name__}(tools=agent.tools), where `agent` was made without sandbox=, or in a function "
            "(tools=tools)"
        )


@asynccontextmanager
async def _lend(box: Box, tools: Sequence[Tool]) -> AsyncGenerator[Box]:
    """A sandbox that is open already and stays so."""
    yield box


class _BlockingBox:
    """A `Sandbox` for a run, which is async."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def closed(self) -> bool:
        return self._sandbox.closed

    @property
    def limits(self) -> Limits:
        return self._sandbox.limits

    async def run(
        self,
        code: str,
        deadline_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        on_output: OnOutput | None = None,
        on_tool: ToolObserver | None = None,
    ) -> Cell:
        # Not on a thread that waits: a cancelled run would leave it behind, maybe before its cell had begun.
        # Async tools run on the loop of the sandbox's runtime, as ever.
        def begin(core: SandboxCore) -> Execution[Cell]:
            return core.begin_cell(code, deadline_s, inputs, on_output, core.runtime.tool_loop, on_tool)

        return await settled_cell(self._sandbox, begin)

    async def reset(self) -> None:
        await anyio.to_thread.run_sync(self._sandbox.reset)


class Home:
    """Where the code of a run, or of all runs of a conversation, lives."""

    def __init__(self, open_box: OpenBox, tools: Sequence[Tool], *, prelude: str = "", keep: bool = False) -> None:
        """
        Args:
            open_box: opens the sandbox at the first visit.
            tools: what it gets.
            prelude: code that a fresh sandbox runs first.
            keep: it stays open until `leave`.
        """
        self._open = open_box
        self._tools = tools
        self._prelude = prelude
        self._keep = keep
        self._context: AbstractAsyncContextManager[Box] | None = None
        self._box: Box | None = None
        self._inputs: dict[str, object] = {}
        self._filled = False
        """The prelude and the inputs are in the kept sandbox."""
        self.replaced = False
        """The kept sandbox was lost between two visits: what code had defined is gone. Whoever tells the model sets it
        back."""

    @asynccontextmanager
    async def visit(self, inputs: Mapping[str, object]) -> AsyncGenerator[Box]:
        """The sandbox, with these inputs set. Inputs enter before the model is asked: one that cannot cross costs no
        tokens.

        Raises:
            CannotCross: an input cannot enter.
            ClocheError: no sandbox could be had.
        """
        if not self._keep:
            self._inputs = dict(inputs)
            async with self._open(self._tools) as box:
                await self.fill(box)
                yield box
            return
        box = await self._kept()
        known = {**self._inputs, **inputs}
        if self._filled:
            if inputs:
                await box.run("", inputs=inputs)
        elif self._prelude or known:
            await box.run(self._prelude, inputs=known)
        self._inputs, self._filled = known, True
        yield box

    async def _kept(self) -> Box:
        """The one sandbox of this home: opened at the first visit, started afresh when it was lost."""
        if self._box is None:
            context = self._open(self._tools)
            self._box = await context.__aenter__()
            self._context = context
        elif getattr(self._box, "closed", False):
            self.replaced, self._filled = True, False
            await self._box.reset()
        return self._box

    async def renew(self, box: Box) -> None:
        """Put a fresh sandbox in the place of a lost one, with what that had from the host. Its caller tells the model.

        Where this is cut short, as by the end of a run, the next visit does what is left, and the model is told then.
        """
        self._filled, self.replaced = False, True
        await box.reset()
        await self.fill(box)
        self._filled, self.replaced = True, False

    async def fill(self, box: Box) -> None:
        """Put into a fresh sandbox what a lost one had from the host."""
        if self._prelude or self._inputs:
            await box.run(self._prelude, inputs=self._inputs)

    async def leave(self) -> None:
        """Close what was kept. Idempotent."""
        context, self._context, self._box = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)
