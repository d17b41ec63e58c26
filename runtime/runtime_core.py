"""What `Runtime` and `AsyncRuntime` have in common: threads, sources of workers, and the list of open sandboxes.

The rule: everything that lives on the host for longer than one call is owned here and ended by `close`, in one order:
no new sandboxes, close the open ones, then workers, then threads. Parts are made on first use.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Protocol

from ..wasm_sandbox.jail.report import Record
from .config import RuntimeConfig, config_from_environment
from .errors import ConfigError, PoolExhausted, RuntimeClosed, UsedAfterFork
from .links import WorkerSource
from .servers import ServerThreads
from .supervisor import Supervisor
from .tool_loop import ToolLoop
from .tool_threads import BoundedThreads
from .walls import Isolation, Wall, probe, walls_around

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
        if not self._started:
            self._started = True
            threading.Thread(target=_reap, args=(self._queue,), name="cloche-reaper", daemon=True).start()

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
        self._sources: dict[Isolation, WorkerSource] = dict(sources or {})
        self._pid = os.getpid()
        self._gate = threading.RLock()
        self._open: set[Closable] = set()
        self._closed = False
        self._probed: Sequence[Record] | None = None
        """What a jail without an image reported."""

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def sandboxes(self) -> int:
        """Sandboxes open now."""
        return len(self._open)

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

    def admit(self, sandbox: Closable) -> None:
        """Count the sandbox in.

        Raises:
            PoolExhausted: the runtime is full.
        """
        self.check()
        with self._gate:
            if len(self._open) >= self.config.max_sandboxes:
                message = (
                    f"{self.config.max_sandboxes} sandboxes are open (max_sandboxes); close one or try again later"
                )
                raise PoolExhausted(message, retry_after_s=RETRY_AFTER_S)
            self._open.add(sandbox)
        self.reaper.start()

    def dismiss(self, sandbox: Closable) -> None:
        """Count it out again. Idempotent."""
        with self._gate:
            self._open.discard(sandbox)

    def source(self, isolation: Isolation) -> WorkerSource:
        """Where workers of this isolation come from."""
        if isolation == "thread" and self.config.policy.require_walls:
            raise ConfigError('the policy requires walls, and isolation="thread" has none: use isolation="process"')
        with self._gate:
            self.check()
            if isolation not in self._sources:
                self._sources[isolation] = _new_source(isolation, self.config)
            return self._sources[isolation]

    def walls(self, isolation: Isolation) -> list[Wall]:
        """The layers around a guest of this isolation, on this machine. Where no worker process was started yet, the
        first call takes 0.2 s to ask for them."""
        if isolation == "thread":
            return walls_around(isolation, [])
        source = self._sources.get("process")
        records: Sequence[Record] | None = getattr(source, "walls", None)
        if records is None:
            if self._probed is None:
                self._probed = probe()
            records = self._probed
        return walls_around(isolation, records)

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
        for box in boxes:
            box.close()
        for source in sources:
            source.close()
        self.tool_loop.close()
        self.servers.close()
        self.supervisor.close()
        self.reaper.close()


def _new_source(isolation: Isolation, config: RuntimeConfig) -> WorkerSource:
    """Imported here: thread isolation loads the engine into this process, process isolation must not."""
    if isolation == "thread":
        from .thread_link import ThreadSource

        return ThreadSource(config.image)
    from .process_source import ProcessSource

    return ProcessSource(config)


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
    """The core of a runtime, or the default one; checked for use."""
    core = default_core() if runtime is None else runtime.core
    core.check()
    return core


def _forget_in_child() -> None:
    global _default, _default_gate
    _default, _default_gate = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
