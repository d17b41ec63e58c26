"""One worker as the host sees it, and where workers come from. The only face that the rest of the runtime knows.

The rule: `request` belongs to the one thread that serves the sandbox, and moves to another only by a `HandOver`;
`interrupt`, `trap`, `kill` may come from any thread at any time, also twice or too late, and never block. A link whose
worker is gone raises `WorkerCrashed` from `request` and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from .errors import WorkerCrashed
from .limits import Limits
from .tenants import Tenant


def unheard() -> None:
    """For who does not ask when a request has begun."""


class HandOver(Exception):
    """The request goes on, but not on this thread: `CallerServed.resume` takes it up on another, and nothing is lost.

    Raised where serving on the caller's own thread comes to something that may hold it, such as a tool.
    """

    def __init__(self, cause: BaseException | None = None) -> None:
        """`cause`: what the caller is to hear, such as a KeyboardInterrupt; None: it only waits for the end."""
        super().__init__()
        self.cause = cause


class FrameSink(Protocol):
    """Takes the frames of a worker while one request runs, and knows which one ends it."""

    @property
    def finished(self) -> bool:
        """True once the frame that ends the request (`ready`, `done`, `file_done`) was taken."""
        ...

    def __call__(self, frame: bytes | memoryview, /) -> bytes | None:
        """The frame to send back, or None. Raises ProtocolError for a frame that no honest worker sends."""
        ...


class MovingSink(FrameSink, Protocol):
    """A sink whose request may begin on the thread of its caller."""

    def begin_here(self) -> None:
        """It does: until `resume` a call raises HandOver rather than take long."""
        ...

    def resume(self) -> bytes | None:
        """Take the frame that was handed over, if there is one; as a call does. From then on nothing is handed over."""
        ...


class WorkerLink(Protocol):
    """One worker, leased to one sandbox for the rest of its life."""

    @property
    def extra_grace_s(self) -> float:
        """How much longer than others its guest may take to answer an interrupt."""
        ...

    @property
    def exit_status(self) -> int | None:
        """Exit code of the worker, negative for a signal; None while it lives or where there is no process."""
        ...

    @property
    def for_callers(self) -> CallerServed | None:
        """The same worker for a caller who serves his request himself; None where that cannot be, or not now."""
        ...

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        """Send the request, pass every frame of the worker to `on_frame`, send back what that returns.

        Returns after the frame that ends the request (`on_frame.finished`).

        Args:
            frame: the request.
            on_frame: takes the worker's frames.
            begun: called once as soon as `interrupt` reaches this request: an earlier one hits nothing, and whoever
                wants it repeats it here. Not called for a request that nobody may interrupt.

        Raises:
            WorkerCrashed: the worker is gone, by itself or by `trap` or `kill`.
            ProtocolError: it sent something else than frames, or `on_frame` raised it.
            LimitExceeded: it was ended from outside for its memory or CPU time.
        """
        ...

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the guest; nothing happens when no request has begun."""
        ...

    def trap(self) -> bool:
        """Stop the guest at once and lose it. False where the engine has no epoch checks; then only `kill` helps."""
        ...

    def kill(self) -> None:
        """End the worker. `request` then raises `WorkerCrashed` soon, unless a tool of the host keeps its thread."""
        ...

    def close(self, timeout_s: float) -> None:
        """Kill and reap, waiting `timeout_s` seconds at most. Idempotent."""
        ...


class CallerServed(Protocol):
    """A worker whose request begins on the thread of the caller, which an exception may leave at any moment (Ctrl-C)
    and which no tool of the host may hold."""

    def request_here(self, frame: bytes, on_frame: MovingSink, begun: Callable[[], None] = unheard) -> None:
        """As `WorkerLink.request`, until `on_frame` has to do what may take long.

        Raises:
            HandOver: `on_frame` raised it, or an exception came while nothing was under way.
        """
        ...

    def resume(self, on_frame: MovingSink) -> None:
        """Go on with a request that was handed over, to its end. On a server thread; raises what `request` does."""
        ...

    def abandon(self) -> None:
        """An exception tore the caller out of `request_here`: nobody serves it any more. After `kill`."""
        ...


class WorkerSource(Protocol):
    """Gives out workers that nobody has used: the pool, or the engine inside this process."""

    @property
    def prepared(self) -> bool:
        """True once `prepare` has nothing left to do."""
        ...

    @property
    def warm(self) -> int:
        """Workers that are ready and unused now; 0 where none are kept."""
        ...

    @property
    def serves_callers(self) -> bool:
        """Whether its workers' links have `for_callers`."""
        ...

    def prepare(self) -> None:
        """Load what all its workers share, such as the image. Free once done; the first time on a machine it compiles.

        Raises:
            ImageError: there is no usable image.
            RuntimeClosed: `close` was called before, and nobody would end what this starts.
        """
        ...

    def lease(self, limits: Limits, timeout_s: float, tenant: Tenant | None = None) -> WorkerLink:
        """A fresh worker for this tenant, within `timeout_s` seconds.

        Raises:
            PoolExhausted: no worker came free in time.
        """
        ...

    def close(self) -> None:
        """Kill every worker, leased ones too, and give back threads and processes. Idempotent."""
        ...


class LeasedLink:
    """A link that gets its worker with the first request, so that waiting for one can be stopped like a request.

    That request is the start of a sandbox. It cannot be interrupted, only ended: the guest would keep the interrupt for
    its first cell.
    """

    def __init__(self, source: WorkerSource, limits: Limits, timeout_s: float) -> None:
        self.tenant: Tenant | None = None
        """Whose worker it will be."""
        self._source = source
        self._limits = limits
        self._timeout_s = timeout_s
        self._gate = threading.Lock()
        self._link: WorkerLink | None = None
        self._gone = False

    @property
    def extra_grace_s(self) -> float:
        return 0.0 if self._link is None else self._link.extra_grace_s

    @property
    def exit_status(self) -> int | None:
        return None if self._link is None else self._link.exit_status

    @property
    def for_callers(self) -> CallerServed | None:
        """A lease that would have to wait for its worker is not made on the caller's thread."""
        if self._link is not None:
            return self._link.for_callers
        return self if self._source.serves_callers and self._source.warm else None

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        if self._link is not None:
            self._link.request(frame, on_frame, begun)
        else:
            self._lease().request(frame, on_frame)

    def request_here(self, frame: bytes, on_frame: MovingSink, begun: Callable[[], None] = unheard) -> None:
        callers = self._lease().for_callers
        if callers is None:
            raise AssertionError("the source said that its workers serve callers")
        callers.request_here(frame, on_frame)

    def resume(self, on_frame: MovingSink) -> None:
        if self._link is not None and self._link.for_callers is not None:
            self._link.for_callers.resume(on_frame)

    def abandon(self) -> None:
        if self._link is not None and self._link.for_callers is not None:
            self._link.for_callers.abandon()

    def interrupt(self) -> None:
        if self._link is not None:
            self._link.interrupt()

    def trap(self) -> bool:
        return self._link is not None and self._link.trap()

    def kill(self) -> None:
        with self._gate:
            self._gone = True
        if self._link is not None:
            self._link.kill()

    def close(self, timeout_s: float) -> None:
        self.kill()
        if self._link is not None:
            self._link.close(timeout_s)

    def _lease(self) -> WorkerLink:
        link = self._source.lease(self._limits, self._timeout_s, *(() if self.tenant is None else (self.tenant,)))
        with self._gate:
            if not self._gone:
                self._link = link
                return link
        link.close(self._timeout_s)
        raise WorkerCrashed("the sandbox was ended while it waited for a worker")
