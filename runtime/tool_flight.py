"""The tool calls of a cell that are under way, and the one place where the serving thread waits for them.

The rule: the serving thread adds, waits and takes out; other threads only put ids into the queue that wakes it.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import TYPE_CHECKING

from .plain import dataclass
from .tool_outcome import Late, Outcome, Refused
from .tools import Tool

if TYPE_CHECKING:
    from concurrent.futures import Future

_POKE = -1
"""Wakes the serving thread without news of a call: a time has changed."""


@dataclass(slots=True)
class OpenCall:
    """An admitted `.aio` call, or a blocking one that is waited for."""

    tool: Tool
    cost: int
    started: float
    """Of the attempt that runs, by `time.monotonic()`."""
    ends: float
    """When the host gives up; infinity while a hook decides or a pause lasts."""
    allowed_s: float
    """Of one attempt."""
    future: Future[object]
    inner: Future[object] | None = None
    """What a tool thread waits for on behalf of this call."""
    given_up: bool = False
    """Set before `inner` is read, and read after `inner` is set: so no wait on a tool thread is overlooked."""
    checked: bool = False
    """Whether the steps that give the result have checked it."""


class OpenCalls:
    """Calls under way, by id, and the finished ones that the guest has not heard of."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.open: dict[int, OpenCall] = {}
        self.cost = 0
        """Bytes of the arguments of all open calls."""
        self.ready: dict[int, Outcome | None] = {}
        """Finished and not yet told to the guest, in order. None: the outcome is still in the call's future."""
        self.aborted = False
        self.ended = False
        """A tool, or who denied one, has ended the cell: what runs may finish, and nothing begins any more."""
        self.seconds = 0.0
        """Spent in tools."""
        self.abandoned = 0
        """Blocking tools that still run and that nobody waits for."""
        self._events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        """Ids of calls that finished, and None for the abort: all that a waiting thread is woken for."""

    def watch(self, call_id: int, future: Future[object]) -> None:
        """Let the end of the future wake the serving thread."""
        future.add_done_callback(lambda _: self._events.put(call_id))

    def poke(self) -> None:
        """Let the serving thread look at the times again. Any thread."""
        self._events.put(_POKE)

    def add(self, call_id: int, call: OpenCall) -> None:
        self.open[call_id] = call
        self.cost += call.cost

    def forget(self, call_id: int) -> OpenCall | None:
        call = self.open.pop(call_id, None)
        if call is not None:
            self.cost -= call.cost
        return call

    def give_up(self, call: OpenCall) -> None:
        """Stop it if it can be stopped; what it does afterwards is nobody's concern."""
        self.seconds += time.monotonic() - call.started
        call.given_up = True
        inner = call.inner
        if inner is not None:
            inner.cancel()
        tool_runs = call.ends < math.inf  # else only a hook is waited for
        if not call.future.cancel() and not call.future.done() and tool_runs:
            self.abandoned += 1

    @property
    def may_begin(self) -> bool:
        return not (self.aborted or self.ended)

    def abort(self) -> None:
        """Every wait returns now and async tools are cancelled. Any thread; never blocks."""
        self.aborted = True
        for call in tuple(self.open.values()):
            call.future.cancel()  # counted when the serving thread gives the call up
            inner = call.inner  # its thread may take it away at any moment
            if inner is not None:
                inner.cancel()
        self._events.put(None)

    def result_of(self, call: OpenCall) -> object:
        """The result, once it is there; `.aio` calls that finish meanwhile are kept for the next `wait`.

        Raises:
            Refused: the cell was stopped; Late: it took too long; whatever the call raises.
        """
        while not call.future.done():
            now = time.monotonic()
            if self.aborted or now >= self.deadline:
                self.give_up(call)
                raise Refused("Interrupted", "the cell was stopped", "cancelled")
            if now >= call.ends:
                self.give_up(call)
                raise Late(call.tool.name, call.allowed_s, now - call.started)
            self.sleep(min(call.ends, self.deadline) - now)
        self.seconds += time.monotonic() - call.started
        return call.future.result()

    def sleep(self, seconds: float) -> None:
        """Until something happens, or `seconds` have passed."""
        try:
            event = self._events.get(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except queue.Empty:
            return
        self._note(event)
        self.take_events()

    def take_events(self) -> None:
        while not self._events.empty():
            self._note(self._events.get())

    def _note(self, event: int | None) -> None:
        if event is not None and event in self.open:
            self.ready.setdefault(event, None)
