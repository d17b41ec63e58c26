"""One sandbox: who may use it now, what runs in it, and why it ended. Both faces forward to it.

The rule: at most one request at a time, nothing queues. A sandbox whose worker is lost stays lost, with the reason,
until `reset` gives it a fresh one; nothing of the old worker is used again.
"""

from __future__ import annotations

import enum
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from pathlib import PurePath
from typing import TypeVar

from .cell import Cell
from .dispatch import AsyncRunner
from .engine_options import check_options, checked_engine_options
from .errors import ConfigError, SandboxBusy, SandboxClosed, UsedAfterFork
from .execution import Execution
from .lanes import Turn
from .limits import Limits, check_limits
from .links import LeasedLink, MovingSink, WorkerLink, WorkerSource
from .output import OnOutput
from .protocol import ListFiles, ReadFile
from .running_cell import CellRequest
from .runtime_core import RuntimeCore
from .session import Session
from .tenants import Account, checked_tenant
from .tool_hooks import ToolObserver
from .tools import Tool, ToolTable
from .walls import Isolation
from .work import FileWork, StartWork, Why, Work, checked_path, write_work

T = TypeVar("T")


class State(enum.Enum):
    NEW = "new"
    OPEN = "open"
    LOST = "lost"
    CLOSED = "closed"


class CellWork:
    """One cell: the session gives it its meaning."""

    def __init__(self, session: Session, request: CellRequest) -> None:
        self._session = session
        self._cell: Cell | None = None
        self.frame = session.begin_cell(request)
        self.sink: MovingSink = session

    def finish(self) -> Cell:
        self._cell = self._session.end_cell()
        return self._cell

    def partial(self) -> Cell | None:
        return self._cell or self._session.partial_cell()

    def abort(self, why: Why) -> None:
        self._session.abort(why.value)

    def withdraw(self) -> str | None:
        self._session.withdraw_cell()
        return None


MOST_HERE_BYTES = 64 * 1024
"""A longer request is not sent by the caller: its bytes wait for the worker, and cannot be broken off between two."""
_USUAL = Limits()
"""Frozen, so that all sandboxes without limits of their own may share it."""


class SandboxCore:
    """State of one sandbox, without a word about blocking or awaiting: each `begin_...` gives an `Execution`."""

    def __init__(  # noqa: PLR0913  # what both faces were given
        self,
        runtime: RuntimeCore,
        tools: Iterable[Tool | Callable[..., object]],
        limits: Limits | None,
        isolation: str,
        tenant: str | None = None,
        engine: str | None = None,
        engine_options: Mapping[str, object] | None = None,
    ) -> None:
        self.runtime = runtime
        self.engine = engine or runtime.config.engine
        check_options(self.engine, isolation)
        self.engine_options = checked_engine_options(self.engine, engine_options)
        self.tenant = None if tenant is None else checked_tenant(tenant)
        if tenant is not None and isolation == "thread":
            raise ConfigError('tenants need a process each: isolation="thread" is for code of one who trusts himself')
        check_limits(limits)
        self._account: Account | None = None
        self.limits = limits or _USUAL
        self.isolation: Isolation = isolation  # type: ignore[assignment]  # checked by `check_options`
        self._tools = ToolTable(tools)
        self._session = Session(self._tools, self.limits)
        self._pid = os.getpid()
        self._gate = threading.Lock()
        self._state = State.NEW
        self._why_ended = ""
        self._claim_of: object = None
        """Stands for the request that has it; None while it is free."""
        self._execution: Execution[object] | None = None
        self._link: WorkerLink | None = None

    @property
    def has_tools(self) -> bool:
        return bool(self._tools)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_open(self) -> bool:
        return self._state is State.OPEN

    @property
    def source(self) -> WorkerSource:
        """Where its workers come from."""
        return self.runtime.source(self.isolation, self.engine, self.engine_options)

    # --- requests -----------------------------------------------------------------------------------------------------

    def begin_start(self, *, blocks: bool = False) -> Execution[None]:
        """Lease a worker and make it this sandbox; also for `reset`, which drops the worker before. `runtime.prepare`d.

        `blocks`, here and below: the caller only waits for the end, and may as well serve the request until then.

        Raises:
            PoolExhausted: the runtime is full.
        """
        started = time.monotonic()
        timeout_s = self.runtime.config.start_deadline_s
        mine = object()
        try:
            link = LeasedLink(self.source, self.limits, timeout_s)
            self._claim_for_start(link, mine)
            self._session = session = Session(self._tools, self.limits)
            work = StartWork(session.start_frame(os.urandom(32).hex()), self.limits)
            turn = None if self._account is None else self._account.starts.turn()
            return self._launch(work, link, started, timeout_s, turn, blocks=blocks)
        except BaseException:
            self._break_off(mine, "it could not be started")
            raise

    def begin_cell(  # noqa: PLR0913  # what a face was given
        self,
        code: str,
        deadline_s: float | None,
        inputs: Mapping[str, object] | None,
        on_output: OnOutput | None,
        async_runner: AsyncRunner,
        on_tool: ToolObserver | None = None,
        *,
        blocks: bool = False,
    ) -> Execution[Cell]:
        """Start a cell; its deadline counts from here."""
        started = time.monotonic()
        allowed_s = self._allowed(deadline_s)
        if on_output is not None and not callable(on_output):
            raise ConfigError(f"on_output is a function of the stream's name and text, not {on_output!r:.100}")
        account, runtime, mine = self._account, self.runtime, object()
        try:
            link = self._claim(mine)
            turn = None if account is None else account.cells.turn()
            if self._session.metadata is None:  # known once the first worker was there
                self._session.metadata = self.runtime.metadata(self.isolation, self.engine, self.engine_options)
            request = CellRequest(
                code=code,
                inputs=inputs or {},
                on_output=on_output,
                context=copy_context(),
                async_runner=async_runner,
                thread_pool=lambda: runtime.tool_threads if account is None else account.tool_threads,
                deadline_monotonic=started + allowed_s,
                turn=turn,
                on_tool=on_tool,
            )
            work = CellWork(self._session, request)
            # A callback that hangs must not hold the caller past his deadline.
            return self._launch(work, link, started, allowed_s, turn, blocks=blocks and on_output is None)
        except BaseException:
            self._break_off(mine)
            raise

    def begin_write(self, path: str | PurePath, data: bytes | str) -> Execution[bytes]:
        return self._begin_file(write_work(path, data, self.limits))

    def begin_read(self, path: str | PurePath) -> Execution[bytes]:
        return self._begin_file(FileWork(ReadFile(path=checked_path(path)), self.limits))

    def begin_list(self) -> Execution[bytes]:
        return self._begin_file(FileWork(ListFiles(), self.limits))

    def _begin_file(self, work: FileWork) -> Execution[bytes]:
        mine = object()
        try:
            link = self._claim(mine)
            return self._launch(work, link, time.monotonic(), self.runtime.config.request_deadline_s)
        except BaseException:
            self._break_off(mine)
            raise

    def _launch(
        self,
        work: Work[T],
        link: WorkerLink,
        started: float,
        allowed_s: float,
        turn: Turn | None = None,
        *,
        blocks: bool = False,
    ) -> Execution[T]:
        here = link.for_callers if blocks and turn is None and len(work.frame) <= MOST_HERE_BYTES else None
        execution = Execution(work, link, started=started, allowed_s=allowed_s, on_end=self._on_end)
        with self._gate:
            if self._state is State.CLOSED:
                raise self._closed_error()
            self._execution = execution  # type: ignore[assignment]  # only stopped through this name, never asked
        if here is not None:
            work.sink.begin_here()
        execution.start(self.runtime.servers, self.runtime.supervisor, turn, here)
        if here is not None:
            execution.wait()
        return execution

    def _allowed(self, deadline_s: float | None) -> float:
        wall_s = self.limits.wall_s
        if deadline_s is None:
            return wall_s
        seconds = _checked_seconds(deadline_s)
        if seconds > wall_s:
            raise ConfigError(f"deadline_s={seconds:g} may only shorten Limits(wall_s={wall_s:g}); raise wall_s")
        return seconds

    # --- who may use it -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises UsedAfterFork in a child of the process that made it."""
        if os.getpid() != self._pid:
            raise UsedAfterFork("this sandbox belongs to the parent process; make a new one after os.fork()")

    def _claim(self, mine: object) -> WorkerLink:
        self.check()
        with self._gate:
            if self._state is not State.OPEN or self._link is None:
                raise self._closed_error()
            self._take(mine)
            return self._link

    def _break_off(self, mine: object, lost: str | None = None) -> None:
        """An exception came after the claim, wherever (KeyboardInterrupt): stop what runs, undo what did not begin.

        Nothing happens where the claim is another's or its request has ended.
        """
        with self._gate:
            if self._claim_of is not mine:
                return
            execution = self._execution
        if execution is not None:
            execution.cancel()
            execution.join()
            return
        self._session.withdraw_cell()
        self._on_end(lost)

    def _claim_for_start(self, link: LeasedLink, mine: object) -> None:
        self.check()
        with self._gate:
            if self._state is State.CLOSED:
                raise self._closed_error()
            self._take(mine)
            self._state = State.OPEN
            old, self._link = self._link, link
        if old is not None:
            self._bury(old)
        self._admit()
        link.tenant = None if self._account is None else self._account.tenant

    def _admit(self) -> None:
        """At each start: one that was refused has counted nothing, and the next must not pass for its repetition."""
        self._account = self.runtime.admit(self, self.tenant)
        if self._state is State.CLOSED:  # meanwhile, so that `close` may have been too early to count it out
            self.runtime.dismiss(self)

    def _take(self, mine: object) -> None:
        if self._claim_of is not None:
            raise SandboxBusy(
                "a request is running in this sandbox; wait for it, interrupt it, or open another sandbox"
            )
        self._claim_of = mine

    def _closed_error(self) -> SandboxClosed:
        if self._state is State.NEW:
            return SandboxClosed('the sandbox was not started; use "async with AsyncSandbox(...) as box"')
        if self._state is State.LOST:
            return SandboxClosed(f"the sandbox has ended: {self._why_ended}; reset() starts it afresh")
        return SandboxClosed("the sandbox was closed; open another")

    def _on_end(self, lost: str | None) -> None:
        with self._gate:
            self._claim_of = None
            self._execution = None
            if lost is None:
                return
            link, self._link = self._link, None
            if self._state is not State.CLOSED:
                self._state, self._why_ended = State.LOST, lost
        if link is not None:
            self._bury(link)

    def _bury(self, link: WorkerLink) -> None:
        """Kill the worker now; the reaper waits for its end."""
        link.kill()
        self.runtime.reaper.put(partial(link.close, self.runtime.config.close_deadline_s))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """KeyboardInterrupt in the cell that runs now, if one does."""
        self.check()
        with self._gate:
            execution = self._execution
        if execution is not None:
            execution.interrupt()

    def close(self) -> None:
        """Kill the worker, wait for its end within bounds; a request in flight ends with SandboxClosed. Idempotent.

        A call beside the first waits for that request, too: its caller may end next what the kill ladder needs.
        """
        if os.getpid() != self._pid:
            return  # the parent still uses it
        with self._gate:
            first, self._state = self._state is not State.CLOSED, State.CLOSED
            execution = self._execution
            link, self._link = self._link, None
        if execution is not None and first:
            execution.cancel(Why.CLOSED)
        if link is not None:
            link.kill()
        if execution is not None:
            execution.join()
        if link is not None:
            link.close(self.runtime.config.close_deadline_s)
        self.runtime.dismiss(self)

    def left_open(self, name: str) -> None:
        """The face was dropped without `close`. Runs inside the garbage collector: takes no lock."""
        if self._state is State.CLOSED or os.getpid() != self._pid:
            return
        self.runtime.reaper.put(self.close)
        if self._state is State.OPEN:
            warnings.warn(f"unclosed {name}; use it as a context manager or close it", ResourceWarning, stacklevel=2)


def _checked_seconds(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"deadline_s is a number of seconds above 0, not {value!r:.100}")
    return float(value)
