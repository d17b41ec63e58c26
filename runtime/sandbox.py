"""`Sandbox`: the blocking face of one sandbox. `async_sandbox.py` has the same methods for `await`.

The rule: each call starts a request, waits for its end, and gives what came of it. It works on any thread, also on one
whose event loop is running (Jupyter): it blocks that loop and never refuses.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from .engine_options import check_options
from .errors import PoolExhausted
from .runtime_core import core_of

if TYPE_CHECKING:
    from typing import Self

    from .async_runtime import AsyncRuntime
    from .cell import Cell
    from .execution import Execution
    from .limits import Limits
    from .output import OnOutput
    from .runtime import Runtime
    from .tool_hooks import ToolObserver
    from .tools import Tool

T = TypeVar("T")
REFUSED_PAUSE_S = 0.001
"""A refused caller waits this long first. One who asks again without a pause would never let go of Python's lock by
himself, and cells of others in this process wait 5 ms for it, several times each."""


class Sandbox:
    """One live interpreter for code that nobody trusts; its state stays between cells until it is closed.

    Use it as a context manager. Safe to use from many threads, one request at a time.
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
        """Start a sandbox.

        Args:
            tools: what the guest may call: `@tool` functions, `Tool` objects or plain typed functions.
            limits: what it may use; None: `Limits()`.
            engine: "wasmtime" or "deno" (docs/engines.md); None: the runtime's.
            engine_options: what only that engine has: {"js_ffi": True} for "deno". A wrong one is a ConfigError.
            isolation: "process": a worker process of its own. "thread": inside this process, one wall fewer.
            tenant: on whose behalf: the caps of that tenant hold (`RuntimeConfig.tenant_limits`). Only with "process".
            runtime: owns workers and threads; None: the default one of this process.

        Raises:
            ConfigError: an option or a tool cannot be.
            ImageError: there is no usable image.
            PoolExhausted: the tenant or the runtime has as many as it may; says which, and when to come again.
        """
        check_options(engine, isolation)
        owner = core_of(runtime)
        owner.begin(isolation, engine)
        from .sandbox_core import SandboxCore  # here: the first time its import hides in the start of the fork server

        self._core = core = SandboxCore(owner, tools, limits, isolation, tenant, engine, engine_options)
        self._finalizer = weakref.finalize(self, core.left_open, type(self).__name__)
        self._finalizer.atexit = False  # at exit the runtime ends every worker
        try:
            self._start()
        except BaseException as exc:
            self.close()
            if isinstance(exc, PoolExhausted):
                time.sleep(REFUSED_PAUSE_S)
            raise

    def run(
        self,
        code: str,
        deadline_s: float | None = None,
        inputs: Mapping[str, object] | None = None,
        on_output: OnOutput | None = None,
        on_tool: ToolObserver | None = None,
    ) -> Cell:
        """Run one cell; what it gave back. An exception of the code itself is `cell.error`, never raised here.

        Ctrl-C interrupts the guest, waits for the end of the cell and is then raised; the state is kept, except in the
        rare case that it comes while this process reads the worker's words: then the sandbox has ended.

        Args:
            code: Python source; a last expression becomes `cell.value`.
            deadline_s: seconds for everything, tools included; may only shorten `Limits.wall_s`.
            inputs: names to set in the guest before the code runs.
            on_output: called as `on_output(stream, text)` while the cell prints, on another thread.
            on_tool: sees the tool calls of the cell, and may edit, deny and approve them.

        Raises:
            TimedOut: the deadline passed; has the partial cell and says whether the state was kept.
            SandboxBusy: another request runs in this sandbox.
            SandboxClosed: it was closed or its worker is gone; says why.
            PoolExhausted: the tenant's other cells kept its turn from coming; nothing ran, the state is as it was.
            WorkerCrashed: the worker ended while it ran this.
            ProtocolError: the worker broke the protocol and was killed.
            CannotCross: an input may not enter; says which part.
            ConfigError: the deadline is longer than `wall_s`, or no number.
        """
        core = self._core
        loop = core.runtime.tool_loop
        return _settled(core.begin_cell(code, deadline_s, inputs, on_output, loop, on_tool, blocks=True))

    def write_file(self, path: str | PurePath, data: bytes | str) -> None:
        """Write a file into the sandbox's own file system; parent directories are made, str is written as UTF-8.

        Raises:
            SandboxFileError: the file system refuses (quota, a directory of that name).
        """
        _settled(self._core.begin_write(path, data))

    def read_file(self, path: str | PurePath) -> bytes:
        """The bytes of a file of the sandbox's own file system. They come from the guest: treat them as hostile.

        Raises:
            SandboxFileError: no such file.
        """
        return _settled(self._core.begin_read(path))

    def list_files(self) -> list[str]:
        """Paths of the plain files that the guest or `write_file` made."""
        from .work import split_paths

        return split_paths(_settled(self._core.begin_list()))

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs now; nothing if none does. From any thread, never blocks."""
        self._core.interrupt()

    def reset(self) -> None:
        """Swap in a fresh worker with the same tools and limits; the old one and its state are gone.

        Also revives a sandbox whose worker was killed or crashed, but not a closed one.

        Raises:
            SandboxBusy: a request runs; interrupt it first.
            SandboxClosed: it was closed.
        """
        self._start()

    def close(self) -> None:
        """End the worker and give back what it held. A cell in flight ends with `SandboxClosed`. Idempotent."""
        self._finalizer.detach()
        self._core.close()

    def __enter__(self) -> Self:
        self._core.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        """True after `close`, and while the worker is gone."""
        return not self._core.is_open

    def _start(self) -> None:
        self._core.source.prepare()
        _settled(self._core.begin_start(blocks=True))


def _settled(execution: Execution[T]) -> T:
    execution.wait()
    return execution.result()
