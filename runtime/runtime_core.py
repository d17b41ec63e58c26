"""What `Runtime` and `AsyncRuntime` have in common: threads, sources of workers, and the list of open sandboxes.

The rule: everything that lives on the host for longer than one call is owned here and ended by `close`, in one order:
no new sandboxes, close the open ones, then workers, then threads. Parts are made on first use.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, Protocol

from ..wasm_sandbox.jail.cgroup import find_home
from ..wasm_sandbox.jail.report import Record
from .config import RuntimeConfig, config_from_environment
from .engine_options import EngineOptions
from .errors import ConfigError, PoolExhausted, RuntimeClosed, UsedAfterFork
from .links import WorkerSource
from .metadata import Metadata
from .servers import ServerThreads
from .supervisor import Supervisor, Watched
from .tenants import Account, Accounts, TenantUse
from .threads import start_thread
from .tool_loop import ToolLoop
from .tool_threads import BoundedThreads
from .walls import Isolation, Wall, deno_walls, probe, probe_deno, walls_around

if TYPE_CHECKING:
    from ..wasm_sandbox.image.load import Image
    from .server_start import StartingServer

Place = Literal["process", "thread", "deno", "deno-ffi"]
"""Where workers come from: the isolations of the engine "wasmtime", and the other engine, without and with `js_ffi`."""
_NO_OPTIONS = EngineOptions()
RETRY_AFTER_S = 1.0
"""Hint for a full runtime: sandboxes are held for seconds, not for milliseconds."""


class Closable(Protocol):
    """An open sandbox, as the runtime sees it."""

    def close(self) -> None:
        """End it now, within a bounded time."""
        ...


class HasCore(Protocol):
    """`Runtime` and `AsyncRuntime`."""

    @property
    def core(self) -> RuntimeCore:
        """What both have in common."""
        ...


class Reaper:
    """Ends what nobody waits for: workers of lost sandboxes, sandboxes that were dropped without `close`.

    Its queue may be fed from a finalizer, which runs at any allocation and therefore must not take a lock.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = False

    def start(self) -> None:
        """Raises PoolExhausted where the system gives no thread."""
        if not self._started:
            start_thread("cloche-reaper", _reap, self._queue)
            self._started = True

    def put(self, action: Callable[[], None]) -> None:
        """Run `action` soon, on the reaper's thread. Never blocks."""
        self._queue.put(action)

    def close(self) -> None:
        """End the thread after what is queued."""
        self._queue.put(None)


def _reap(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (action := queue.get()) is not None:
        action()
        del action


class RuntimeCore:
    """Owns the threads and sources of one runtime. Safe to use from any thread of the process that made it."""

    def __init__(self, config: RuntimeConfig, sources: Mapping[Isolation, WorkerSource] | None = None) -> None:
        self.config = config
        self.servers = ServerThreads()
        self.supervisor = Supervisor()
        self.reaper = Reaper()
        self.tool_threads = BoundedThreads(self.servers, config.tool_threads)
        self.tool_loop = ToolLoop()
        self._sources: dict[Place, WorkerSource] = dict[Place, WorkerSource]((sources or {}).items())
        self.started: tuple[Image, StartingServer] | None = None
        """A fork server that nobody has taken yet, with its image; see `begin`."""
        self._pid = os.getpid()
        self._gate = threading.RLock()
        self._open: dict[Closable, Account | None] = {}
        # Neither leads back to this object: a runtime that is over is gone at once, and the image's file with it.
        alarm = partial(_set_alarm, self.supervisor)
        self._accounts = Accounts(config.caps(), self.servers, all_open=self._open.__len__, alarm=alarm)
        self._closed = False
        self._probed: Sequence[Record] | None = None
        """What a jail without an image reported."""
        self._probed_deno: Sequence[Record] | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def sandboxes(self) -> int:
        """Sandboxes open now."""
        return len(self._open)

    def tenants(self) -> dict[str, TenantUse]:
        """What each tenant has now; tenants without anything are not there."""
        with self._gate:
            return self._accounts.use()

    @property
    def warm_workers(self) -> int:
        """Never-used workers that are ready now."""
        return sum(source.warm for source in list(self._sources.values()))

    def check(self) -> None:
        """Raises UsedAfterFork or RuntimeClosed where the runtime cannot be used."""
        if os.getpid() != self._pid:
            raise UsedAfterFork("this runtime belongs to the parent process; make a new one after os.fork()")
        if self._closed:
            raise RuntimeClosed("the runtime was closed; make another")

    def admit(self, sandbox: Closable, tenant: str | None = None) -> Account | None:
        """Count the sandbox in, for its tenant too; that tenant's account, until `dismiss`. Idempotent.

        Raises:
            PoolExhausted: the tenant or the runtime has as many as it may, or the system gives no thread.
        """
        with self._gate:
            self.check()
            if sandbox in self._open:
                return self._open[sandbox]
            allowed = self.config.max_sandboxes
            if len(self._open) >= allowed:
                message = f"{allowed} sandboxes are open (max_sandboxes); close one or try again later"
                raise PoolExhausted(
                    message, retry_after_s=RETRY_AFTER_S, scope="runtime", cap="max_sandboxes", allowed=allowed
                )
            self.reaper.start()
            account = None if tenant is None else self._accounts.enter(tenant)
            self._open[sandbox] = account
        return account

    def dismiss(self, sandbox: Closable) -> None:
        """Count it out again. Idempotent."""
        with self._gate:
            account = self._open.pop(sandbox, None)
            if account is not None:
                self._accounts.leave(account)

    def source(
        self, isolation: Isolation, engine: str | None = None, options: EngineOptions = _NO_OPTIONS
    ) -> WorkerSource:
        """Where workers of this isolation and engine (None: the runtime's) come from."""
        place = self._place(isolation, engine, options)
        if isolation == "thread" and self.config.policy.require_walls:
            raise ConfigError('the policy requires walls, and isolation="thread" has none: use isolation="process"')
        with self._gate:
            self.check()
            if place not in self._sources:
                started = self.started if place == "process" else None
                self._sources[place] = _new_source(place, self.config, started)
                if started is not None:
                    self.started = None
            return self._sources[place]

    def begin(self, isolation: str, engine: str | None = None) -> None:
        """Start what the first sandbox of this kind waits for, if that can be done in a moment. Its caller has modules
        to import, and finds it ready afterwards.

        Raises:
            ImageError: there is no usable image.
        """
        if isolation != "process" or (engine or self.config.engine) != "wasmtime" or self.started is not None:
            return
        with self._gate:
            self.check()
            if self.started is None and "process" not in self._sources:
                from .server_start import start_for_image

                self.started = start_for_image(self.config.image)

    def _place(self, isolation: Isolation, engine: str | None, options: EngineOptions) -> Place:
        if (engine or self.config.engine) != "deno":
            return isolation
        return "deno-ffi" if options.js_ffi else "deno"

    def walls(
        self, isolation: Isolation, engine: str | None = None, options: EngineOptions = _NO_OPTIONS
    ) -> list[Wall]:
        """The layers around a guest of this isolation, on this machine. Where no worker process was started yet, the
        first call takes 0.2 s to ask for them."""
        if isolation == "thread":
            return walls_around(isolation, [])
        place = self._place(isolation, engine, options)
        source = self._sources.get(place)
        records: Sequence[Record] | None = getattr(source, "walls", None)
        if place in ("deno", "deno-ffi"):
            return deno_walls(self._deno_probed() if records is None else records, js_ffi=options.js_ffi)
        if records is None:
            if self._probed is None:
                self._probed = [*probe(), find_home(self.config.cgroup)[1]]
            records = self._probed
        return walls_around(isolation, records)

    def _deno_probed(self) -> Sequence[Record]:
        if self._probed_deno is None:
            self._probed_deno = [*probe_deno(self.config.image), find_home(self.config.cgroup)[1]]
        return self._probed_deno

    def metadata(
        self, isolation: Isolation, engine: str | None = None, options: EngineOptions = _NO_OPTIONS
    ) -> Metadata | None:
        """What such sandboxes run on; None before the first one was prepared, and for a source of tests."""
        return getattr(self._sources.get(self._place(isolation, engine, options)), "metadata", None)

    def close(self) -> None:
        """Close every sandbox, kill every worker, end every thread. Cells in flight end with `SandboxClosed`."""
        if os.getpid() != self._pid:
            return  # the parent's workers are the parent's
        with self._gate:
            if self._closed:
                return
            self._closed = True
            boxes = list(self._open)
            sources = list(self._sources.values())
            started, self.started = self.started, None
        for box in boxes:
            box.close()
        if started is not None:
            started[1].abandon()
        for source in sources:
            source.close()
        self.tool_loop.close()
        self.servers.close()
        self.supervisor.close()
        self.reaper.close()


def _set_alarm(supervisor: Supervisor, item: Watched, at: float) -> None:
    with suppress(RuntimeClosed):  # then nobody waits any more
        supervisor.watch(item, at)


def _new_source(place: Place, config: RuntimeConfig, started: tuple[Image, StartingServer] | None) -> WorkerSource:
    """Imported here: thread isolation loads the engine into this process, process isolation must not.

    `started`: a fork server for process isolation.
    """
    if place == "thread":
        from .thread_link import ThreadSource

        return ThreadSource(config.image, config.warm_workers)
    from .process_source import ProcessSource

    if place == "process":
        return ProcessSource(config, started=started)
    return ProcessSource(config, "deno", EngineOptions(js_ffi=place == "deno-ffi"))


# --- the default runtime ----------------------------------------------------------------------------------------------

_default: RuntimeCore | None = None
_default_gate = threading.Lock()


def default_core() -> RuntimeCore:
    """The runtime of sandboxes that name none: made on first use, closed at exit, made anew in a forked child."""
    global _default
    with _default_gate:
        if _default is None or _default.closed:
            _default = RuntimeCore(config_from_environment())
            atexit.register(_default.close)
        return _default


def core_of(runtime: HasCore | None) -> RuntimeCore:
    """The core of a runtime, or the default one; checked for use.

    Raises:
        ConfigError: it is no runtime.
        RuntimeClosed: it was closed.
    """
    core = default_core() if runtime is None else check_runtime(runtime)
    core.check()
    return core


def check_runtime(runtime: object) -> RuntimeCore:
    """Its core. Raises ConfigError if it is no runtime."""
    core = getattr(runtime, "core", None)
    if not isinstance(core, RuntimeCore):
        raise ConfigError(f"runtime is an open Runtime or AsyncRuntime, not {runtime!r:.100}")
    return core


def _forget_in_child() -> None:
    global _default, _default_gate
    _default, _default_gate = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
