"""`Runtime`: owns what many sandboxes share, for blocking code. `AsyncRuntime` is the same for `async with`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from .config import RuntimeConfig, make_config
from .engine_options import checked_engine_options
from .errors import ConfigError
from .limits import Limits
from .links import WorkerSource
from .runtime_core import RuntimeCore
from .sandbox import Sandbox
from .tenants import TenantUse
from .tools import Tool
from .walls import Isolation, Wall

if TYPE_CHECKING:
    from typing import Self


class Runtime:
    """Image, workers and threads of many sandboxes. The caller closes it, which closes all of them."""

    def __init__(
        self,
        config: RuntimeConfig | None = None,
        *,
        sources: Mapping[Isolation, WorkerSource] | None = None,
        **options: object,
    ) -> None:
        """Nothing starts before the first sandbox.

        Args:
            config: all options; or give them one by one as keywords.
            sources: other sources of workers than the built-in ones, by isolation. Tests use `FakeSource`.

        Raises:
            ConfigError: an option cannot be.
        """
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
    ) -> Sandbox:
        """A new sandbox of this runtime; arguments and errors as for `Sandbox`. The caller closes it.

        Raises:
            RuntimeClosed: this runtime was closed.
        """
        return Sandbox(
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

    def close(self) -> None:
        """Close every sandbox, kill every worker. Cells in flight end with `SandboxClosed`. Idempotent."""
        self._core.close()

    def __enter__(self) -> Self:
        self._core.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return describe(self, self._core)


def checked_config(config: RuntimeConfig | None, options: Mapping[str, object]) -> RuntimeConfig:
    """The config that a constructor was given. Raises ConfigError for both forms at once."""
    if config is None:
        return make_config(options)
    if options:
        raise ConfigError("give a RuntimeConfig or single options, not both")
    return config


def describe(face: object, core: RuntimeCore) -> str:
    """`repr` of both faces."""
    return f"<{type(face).__name__} {'closed' if core.closed else f'{core.sandboxes} sandboxes'}>"
