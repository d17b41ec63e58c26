"""One request in flight: served on one thread at a time, ended exactly once, soon after its deadline at the latest.

The rule: whatever guest, worker and tools do, the execution ends. At the deadline, or when it is cancelled, the
supervisor climbs the kill ladder: interrupt, epoch trap, kill; and when even then the server thread does not come back
(a tool of the host hangs on it), it ends the execution over that thread's head. The thread returns to its pool when the
tool returns.

A caller who blocks may serve the request himself, which saves two wake-ups of threads, until it comes to a tool: then a
server thread goes on, so that no tool can hold the caller past its deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from . import lazy
from .errors import ClocheError, PoolExhausted, ProtocolError, SandboxClosed, TimedOut, WorkerCrashed
from .lanes import Turn
from .links import CallerServed, HandOver, WorkerLink
from .servers import Job, ServerThreads
from .supervisor import Supervisor
from .work import Why, Work, timed_out

INTERRUPT_GRACE_S = 0.2
"""A guest answers an interrupt in 4 ms; the rest is for its `finally` blocks on a busy machine."""
TRAP_GRACE_S = 0.1
"""An epoch trap takes 0.3 ms, also inside a C loop."""
KILL_GRACE_S = 0.1
"""A killed worker's channel closes at once; after this only a tool of the host can hold the thread."""
LAST_RUNG = 3
WAIT_POLL_S = 1.0
"""A waiter is woken at the end; it looks by itself this often, so that no lost wake-up can hang it."""

_log = lazy.logger("cloche")

T = TypeVar("T")


class Execution(Generic[T]):
    """One request in flight. `start` it once; then `wait` or `add_done_callback`, and read `result()`."""

    def __init__(
        self, work: Work[T], link: WorkerLink, *, started: float, allowed_s: float, on_end: Callable[[str | None], None]
    ) -> None:
        self._work = work
        self._link = link
        self._started = started
        self._allowed_s = allowed_s
        self._on_end = on_end
        """Called once before anybody is woken: None, or why the sandbox's state is lost."""
        self._supervisor: Supervisor | None = None
        self._servers: ServerThreads | None = None
        self._turn: Turn | None = None
        self._here: CallerServed | None = None
        """The worker, while the caller serves."""
        self._moved = False  # the caller has handed the request over
        self._gate = threading.Lock()
        self._over = False
        self._done = threading.Lock()
        self._done.acquire()
        self._callbacks: list[Callable[[], object]] = []
        self._why: Why | None = None
        self._rung = 0
        self._serving = True
        self._begun = self._interrupt_waits = False  # the link takes interrupts for this request; one came before
        self._ended = False
        self._value: T | None = None
        self._error: BaseException | None = None

    @property
    def over(self) -> bool:
        """True once it has ended and the sandbox is free again."""
        return self._over

    def start(
        self,
        servers: ServerThreads,
        supervisor: Supervisor,
        turn: Turn | None = None,
        here: CallerServed | None = None,
    ) -> None:
        """Put it under the supervisor's eye and on a server thread, now or when its turn comes.

        Args:
            servers: gives the thread.
            supervisor: keeps the deadline.
            turn: the place in the tenant's lane that it needs first.
            here: the worker, if the caller serves; he calls `wait` at once.

        Raises:
            RuntimeClosed: the runtime was closed; the execution has ended.
            PoolExhausted: the system gives no more threads; it has ended, too.
        """
        self._servers, self._turn = servers, turn
        patience_s = self._allowed_s if turn is None else min(turn.patience_s, self._allowed_s)
        try:
            supervisor.watch(self, self._started + patience_s)
            self._supervisor = supervisor  # from here on `cancel` goes down the ladder
            if self._ended:  # by one before that, which may have been too early to end the turn
                supervisor.forget(self)
                return
            self._here = here
            if turn is None and here is None:
                servers.submit(self._serve)
        except ClocheError as exc:
            self._end(None, exc, lost=self._work.withdraw())
            raise
        if turn is not None:
            turn.begin(lambda: self._go(servers))

    def _go(self, servers: ServerThreads) -> None:
        """Its turn has come. What fails here is the result."""
        try:
            if not self._ended:
                servers.submit(self._serve)
        except ClocheError as exc:
            self._end(None, exc, lost=self._work.withdraw())

    def wait(self) -> None:
        """Block until it has ended. A KeyboardInterrupt while waiting cancels it, waits for the end, then goes on."""
        try:
            if self._here is not None and not self._over:
                self._serve_here(self._here)
            self._block()
        except BaseException:
            if self._here is not None and not self._moved and not self._over:
                self._leave_to_servers(self._mend)
            self.cancel()
            self._block()  # bounded: the ladder ends it
            raise

    def join(self) -> None:
        """Block until it has ended, whatever ends it. For those who have told it to stop."""
        self._block()

    def _block(self) -> None:
        while not self._over:
            # `_over` decides: a KeyboardInterrupt between these two calls leaves the lock taken.
            if self._done.acquire(timeout=WAIT_POLL_S):
                self._done.release()

    def result(self) -> T:
        """The result, or the error that ended it. Only after the end."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame: leave no cycle behind
        return self._value  # type: ignore[return-value]  # set whenever there is no error

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback` once `over` is true: on the thread that ends it, or now. It must not raise."""
        with self._gate:
            # Not `_ended`: who is called before it is over would look, see that it is not, and sleep for ever.
            if not self._over:
                self._callbacks.append(callback)
                return
        callback()

    def interrupt(self) -> None:
        """KeyboardInterrupt in the guest, once, from any thread; the deadline stays as it is. What still waits for its
        turn is refused."""
        if not self._refuse(Why.INTERRUPTED):
            self._ask_to_stop(Why.INTERRUPTED)

    def cancel(self, why: Why = Why.CANCELLED) -> None:
        """Start down the kill ladder now, from any thread. `CLOSED` skips the interrupt: nobody wants the state."""
        if self._refuse(why):
            return
        if self._supervisor is None:  # it was never started
            self._end(None, SandboxClosed("the request was given up before it began"), lost=self._work.withdraw())
            return
        with self._gate:
            if self._ended:
                return
            self._why = self._why if self._why in (Why.DEADLINE, Why.CANCELLED) else why
            if why is Why.CLOSED:
                self._rung = max(self._rung, 1)
                self._work.abort(why)
                if self._turn is not None:
                    self._turn.hurry()
        self._supervisor.watch(self, time.monotonic())

    # --- the ladder, on the supervisor's thread -----------------------------------------------------------------------

    def on_due(self) -> float | None:
        """The next rung; when to come for the one after it."""
        if self._refuse(Why.DEADLINE):
            return None
        deadline = self._started + self._allowed_s
        with self._gate:
            if self._ended:
                return None
            if self._why in (None, Why.INTERRUPTED) and time.monotonic() < deadline:
                return deadline  # it was only asked whether it still waited for its turn
            if self._why is None or self._why is Why.INTERRUPTED:
                self._why = Why.DEADLINE
            rung, self._rung = self._rung, self._rung + 1
        try:
            grace_s = self._climb(rung)
        except Exception:  # noqa: BLE001  # a rung that fails must neither save the guest nor end the supervisor
            _log.exception("rung %d of the kill ladder failed", rung)
            grace_s = 0.0 if rung < LAST_RUNG else None
        return None if grace_s is None else time.monotonic() + grace_s

    def _climb(self, rung: int) -> float | None:
        if rung == 0:
            self._ask_to_stop(self._why or Why.DEADLINE)
            return INTERRUPT_GRACE_S + self._link.extra_grace_s
        if rung == 1:
            return TRAP_GRACE_S if self._link.trap() else 0.0
        if rung == 2:
            self._link.kill()
            return KILL_GRACE_S
        self._end(None, self._lost_by_force(), lost=f"a tool of the host did not return ({self._reason()})")
        return None

    def _ask_to_stop(self, why: Why) -> None:
        with self._gate:
            # After the request returned, the interrupt would hit the next cell.
            if self._serving and not self._ended:
                self._work.abort(why)
                self._interrupt_waits = not self._begun
                if self._begun:
                    self._link.interrupt()
                self._why = self._why or why
                if self._turn is not None and why is not Why.INTERRUPTED:
                    self._turn.hurry()  # last: the guest sees the interrupt before anything else

    def _on_begun(self) -> None:
        """From here on an interrupt hits this request; before, it would have hit nothing."""
        with self._gate:
            self._begun = True
            if self._interrupt_waits:
                self._link.interrupt()

    def _refuse(self, why: Why) -> bool:
        """End what still waits for its turn; False where there is no such thing."""
        turn = self._turn
        if turn is None or not turn.give_up():
            return False
        closed = SandboxClosed("the sandbox was closed while its request waited for its turn")
        self._end(None, closed if why is Why.CLOSED else turn.refusal(), lost=self._work.withdraw())
        return True

    # --- serving, on the caller's thread ------------------------------------------------------------------------------

    def _serve_here(self, link: CallerServed) -> None:
        """Serve until the end, or until a server thread has to go on. Raises what broke the caller's waiting off."""
        try:
            self._serve_with(partial(link.request_here, self._work.frame, self._work.sink, self._on_begun))
        except HandOver as moved:
            self._leave_to_servers(self._go_on)
            self._moved = True
            if moved.cause is not None:
                raise moved.cause from None

    def _leave_to_servers(self, job: Job) -> None:
        """Where no thread is to be had, the request ends here, half done."""
        try:
            if self._servers is not None:
                self._servers.submit(job)
        except PoolExhausted as exc:
            self._lose(WorkerCrashed(f"a request could not go on: {exc}"))
        except ClocheError as exc:
            self._lose(exc)

    def _go_on(self) -> None:
        """Where the caller left, on a server thread."""
        link = self._taken_over()
        if link is not None:
            self._serve_with(partial(link.resume, self._work.sink))

    def _mend(self) -> None:
        """An exception tore the caller out of serving, nobody knows where: what the worker says next has no meaning.
        On a server thread, where no such exception comes."""
        self._lose(WorkerCrashed("a request was broken off by an exception on its caller's thread"))

    def _lose(self, error: BaseException) -> None:
        """End what the caller served and nobody goes on with."""
        link = self._taken_over()
        if link is None:
            return
        self._drop_worker(link)
        lost = self._story(error)
        self._end(None, error, lost=lost)
        if not self._over:  # torn out of `_end` itself
            self._tell_end(lost)

    def _taken_over(self) -> CallerServed | None:
        """The worker, for the first that asks: the caller serves no more."""
        with self._gate:
            link, self._here = self._here, None
        return link

    # --- serving, on the server thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._serve_with(partial(self._link.request, self._work.frame, self._work.sink, self._on_begun))

    def _serve_with(self, talk: Callable[[], None]) -> None:
        try:
            talk()
        except HandOver:
            raise
        except BaseException as exc:  # noqa: BLE001  # carried to the caller's thread
            self._drop_worker(self._taken_over())
            self._end(None, self._translated(exc), lost=self._story(exc))
            return
        self._quiet()
        try:
            value = self._work.finish()
        except BaseException as exc:  # noqa: BLE001  # carried to the caller's thread
            self._end(None, self._late(exc) or exc, lost=self._story(exc) if isinstance(exc, ProtocolError) else None)
        else:
            self._end(value, self._late(), lost=None)

    def _drop_worker(self, here: CallerServed | None) -> None:
        """The guest is gone, whoever served it: its async tools must not run on."""
        self._quiet()
        self._link.kill()
        if here is not None:
            here.abandon()
        try:
            self._work.abort(Why.CLOSED)
        except Exception:  # noqa: BLE001  # the execution ends all the same
            _log.exception("tools of a lost sandbox could not be cancelled")

    def _quiet(self) -> None:
        with self._gate:
            self._serving = False

    def _end(self, value: T | None, error: BaseException | None, *, lost: str | None) -> None:
        with self._gate:
            if self._ended:
                return
            self._ended = True
            self._value, self._error = value, error
        self._tell_end(lost)

    def _tell_end(self, lost: str | None) -> None:
        """Free the sandbox, then wake who waits."""
        if self._supervisor is not None:
            self._supervisor.forget(self)
        if self._turn is not None:
            self._turn.end()
        self._on_end(lost)
        with self._gate:
            if self._over:  # told already, by one who found the other torn out of this
                return
            self._over = True
            callbacks, self._callbacks = self._callbacks, []
        self._done.release()
        for callback in callbacks:
            callback()

    # --- what the caller hears ----------------------------------------------------------------------------------------

    def _late(self, cause: BaseException | None = None) -> TimedOut | None:
        """TimedOut for a request that did end, but after its deadline: nobody gains by swallowing the interrupt."""
        if self._why is Why.DEADLINE or time.monotonic() > self._started + self._allowed_s:
            return self._timed_out(state_kept=True, cause=cause)
        return None

    def _translated(self, exc: BaseException) -> BaseException:
        """The error for a request that broke off: by our own hand where we climbed the ladder, else as it came."""
        if not isinstance(exc, WorkerCrashed):
            return exc
        if self._rung < 1:
            if self._work.partial() is None:
                return exc  # no cell ran: a worker that could not start is nothing that reset() helps
            advised = WorkerCrashed(f"{exc}; reset() starts the sandbox afresh", exit_status=exc.exit_status)
            advised.__cause__ = exc
            return advised
        return self._lost_by_force(exc)

    def _lost_by_force(self, cause: BaseException | None = None) -> ClocheError:
        if self._why is Why.CLOSED:
            return SandboxClosed("the sandbox was closed while the cell ran")
        return self._timed_out(state_kept=False, cause=cause)

    def _timed_out(self, *, state_kept: bool, cause: BaseException | None = None) -> TimedOut:
        used_s = time.monotonic() - self._started
        return timed_out(used_s, self._allowed_s, state_kept=state_kept, cell=self._work.partial(), cause=cause)

    def _story(self, exc: BaseException) -> str:
        """Why the sandbox ended, for the message of `SandboxClosed`."""
        if isinstance(exc, WorkerCrashed) and self._rung >= 1:
            return self._reason()
        return f"{type(exc).__name__}: {exc}"

    def _reason(self) -> str:
        if self._why is Why.DEADLINE:
            return f"a cell ran past its {self._allowed_s:g} s and had to be killed"
        return "a cell was cancelled and had to be killed" if self._why is Why.CANCELLED else "it was closed"
