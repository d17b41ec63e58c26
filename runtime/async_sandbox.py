"""`AsyncSandbox`: the face for `await`, on asyncio and trio. Methods and arguments are those of `Sandbox`.

The rule: the loop is never blocked and no thread stands between: a server thread runs the request and wakes the loop
at its end. A cancelled caller sends its request down the kill ladder and waits for its end, half a second at most.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from .async_runner import LoopRunner
from .cell import Cell
from .engine_options import check_options
from .execution import Execution
from .limits import Limits
from .loop_hook import LoopHook
from .output import OnOutput
from .runtime_core import core_of
from .sandbox_core import SandboxCore, State
from .tool_hooks import ToolObserver
from .tools import Tool
from .work import split_paths

if TYPE_CHECKING:
    from typing import Self

    from .async_runtime import AsyncRuntime
    from .runtime import Runtime
    from .sandbox import Sandbox

T = TypeVar("T")


class AsyncSandbox:
    """One live interpreter for code that nobody trusts; its state stays between cells until it is closed.

    Use it with `async with`, which starts it. Safe to use from many tasks, one request at a time.
    """

    def __init__(  # noqa: PLR0913  # options of a public constructor, all by keyword
        self,
        *,
        tools: Iterable[Tool | Callable[..., object]] = (),
        limits: Limits | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, object] | None = None,
        isolation: str = "process",
        tenant: str | None = None,
        runtime: Runtime | AsyncRuntime | None = None,
    ) -> None:
        """Check the options; entering the context starts the sandbox. Arguments as for `Sandbox`.

        Raises:
            ConfigError: an option or a tool cannot be.
        """
        check_options(engine, isolation)
        self._core = core = SandboxCore(core_of(runtime), tools, limits, isolation, tenant, engine, engine_options)
        self._finalizer = weakref.finalize(self, core.left_open, type(self).__name__)
        self._finalizer.atexit = False  # at exit the runtime ends every worker

    async def run(
        self,
        code: str,
        deadline_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        on_output: OnOutput | None = None,
        on_tool: ToolObserver | None = None,
    ) -> Cell:
        """Run one cell, as `Sandbox.run`. Async tools run on this loop, with this task's context variables."""
        runner = LoopRunner(LoopHook())
        execution = self._core.begin_cell(code, deadline_s, inputs, on_output, runner, on_tool)
        if self._core.has_tools:
            await runner.serve(partial(_ended, execution, runner))
        else:
            await _ended(execution, runner)
        return execution.result()

    async def write_file(self, path: str | PurePath, data: bytes | str) -> None:
        """Write a file into the sandbox's own file system, as `Sandbox.write_file`."""
        await _settled(self._core.begin_write(path, data))

    async def read_file(self, path: str | PurePath) -> bytes:
        """The bytes of a file of the sandbox's own file system, as `Sandbox.read_file`."""
        return await _settled(self._core.begin_read(path))

    async def list_files(self) -> list[str]:
        """Paths of the plain files that the guest or `write_file` made."""
        return split_paths(await _settled(self._core.begin_list()))

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs now; nothing if none does. From any thread, never blocks."""
        self._core.interrupt()

    async def reset(self) -> None:
        """Swap in a fresh worker with the same tools and limits, as `Sandbox.reset`."""
        await self._start()

    async def close(self) -> None:
        """End the worker and give back what it held. A cell in flight ends with `SandboxClosed`. Idempotent."""
        self._finalizer.detach()
        with anyio.CancelScope(shield=True):  # bounded by close_deadline_s
            await anyio.to_thread.run_sync(self._core.close)

    async def __aenter__(self) -> Self:
        if self._core.state is State.NEW:
            try:
                await self._start()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.engine}/{self._core.isolation} {self._core.state.value}>"

    @property
    def tenant(self) -> str | None:
        """Whose it is; None: the host's own."""
        return self._core.tenant

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self._core.limits

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What its code may call."""
        return self._core.tools

    @property
    def closed(self) -> bool:
        """True before the start, after `close`, and while the worker is gone."""
        return not self._core.is_open

    async def _start(self) -> None:
        source = self._core.source
        if not source.prepared:  # may compile the image for a minute, the first time on a machine
            await anyio.to_thread.run_sync(source.prepare, abandon_on_cancel=True)
        await _settled(self._core.begin_start())


async def settled_cell(box: Sandbox, begin: Callable[[SandboxCore], Execution[Cell]]) -> Cell:
    """The cell that `begin` starts in a blocking sandbox, for one who awaits: a cancelled one has ended before he hears
    of it."""
    return await _settled(begin(box._core))  # pyright: ignore[reportPrivateUsage]  # the other face of the same


async def _settled(execution: Execution[T]) -> T:
    await _ended(execution, LoopRunner(LoopHook()))
    return execution.result()


async def _ended(execution: Execution[T], runner: LoopRunner) -> None:
    execution.add_done_callback(runner.wake)
    try:
        await runner.wait_until(lambda: execution.over)
    finally:
        if not execution.over:
            execution.cancel()
            with anyio.CancelScope(shield=True):  # bounded by the kill ladder
                await runner.wait_until(lambda: execution.over)
