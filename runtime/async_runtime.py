"""`AsyncRuntime`: owns what many sandboxes share, for async code. Methods and arguments are those of `Runtime`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .async_sandbox import AsyncSandbox
from .config import RuntimeConfig
from .engine_options import checked_engine_options
from .limits import Limits
from .links import WorkerSource
from .runtime import checked_config, describe
from .runtime_core import RuntimeCore
from .tenants import TenantUse
from .tools import Tool
from .walls import Isolation, Wall

if TYPE_CHECKING:
    from typing import Self


class AsyncRuntime:
    """Image, workers and threads of many sandboxes. The caller closes it, which closes all of them."""

    def __init__(
        self,
        config: RuntimeConfig | None = None,
        *,
        sources: Mapping[Isolation, WorkerSource] | None = None,
        **options: object,
    ) -> None:
        """Nothing starts before the first sandbox; arguments as for `Runtime`."""
        self._core = RuntimeCore(checked_config(config, options), sources)

    @property
    def core(self) -> RuntimeCore:
        """What both faces of a runtime have in common. Internal."""
        return self._core

    @property
    def config(self) -> RuntimeConfig:
        """What it was made with, defaults filled in."""
        return self._core.config

    @property
    def sandboxes(self) -> int:
        """Sandboxes open now."""
        return self._core.sandboxes

    @property
    def warm_workers(self) -> int:
        """Never-used worker processes that are ready now; the next sandbox of process isolation takes one at once."""
        return self._core.warm_workers

    def sandbox(
        self,
        *,
        tools: Iterable[Tool | Callable[..., object]] = (),
        limits: Limits | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, object] | None = None,
        isolation: str = "process",
        tenant: str | None = None,
    ) -> AsyncSandbox:
        """A new sandbox of this runtime, started by `async with`; arguments as for `AsyncSandbox`."""
        return AsyncSandbox(
            tools=tools,
            limits=limits,
            engine=engine,
            engine_options=engine_options,
            isolation=isolation,
            tenant=tenant,
            runtime=self,
        )

    def tenants(self) -> dict[str, TenantUse]:
        """What each tenant has now, by name: sandboxes, cells that run, and how many wait; not who has nothing."""
        return self._core.tenants()

    def walls(
        self,
        isolation: Isolation = "process",
        engine: str | None = None,
        engine_options: Mapping[str, object] | None = None,
    ) -> list[Wall]:
        """The layers of isolation around a guest on this machine: which are active, and why one is not.

        Args:
            engine: None: the runtime's.
            engine_options: as for a sandbox.
        """
        options = checked_engine_options(engine or self._core.config.engine, engine_options)
        return self._core.walls(isolation, engine, options)

    async def close(self) -> None:
        """Close every sandbox, kill every worker. Cells in flight end with `SandboxClosed`. Idempotent."""
        with anyio.CancelScope(shield=True):  # bounded by close_deadline_s for each sandbox
            await anyio.to_thread.run_sync(self._core.close)

    async def __aenter__(self) -> Self:
        self._core.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe(self, self._core)
