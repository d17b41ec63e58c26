"""The guest's entry function: `start`, then cells, each with any number of wakes.

Rule: no exception leaves `entry`. What can go wrong below was turned into a `result` frame there; what is caught here
is the case in which even that failed, and a frame that was built beforehand answers for the cell, if nothing else has.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import frames, patches
from .calls import Calls
from .frames import Failure, Outcome
from .interrupts import Interrupts
from .loop import CellLoop
from .rehearsal import rehearse_for_image, rehearse_for_lease
from .reserve import Reserve
from .runner import Runner
from .streams import Output
from .tools import ToolBox

if TYPE_CHECKING:
    from ...runtime import values
else:
    from . import values

_CELL_IS_OVER = b""
_LOST = "the cell's result was lost: the sandbox's own Python failed, as it does without the builtins that it needs"
_NO_MEMORY = "the sandbox is out of memory: delete what is not needed any more"


class Guest:
    """One sandbox, seen from inside. There is one per interpreter: the standard library is patched for it."""

    def __init__(self, call: Callable[[bytes], bytes]) -> None:
        self._call = call
        self.interrupts = Interrupts()
        self.output = Output(call, self.interrupts)
        self.calls = Calls(call, self.output, self.interrupts)
        self.tools = ToolBox(self.calls)
        self.reserve = Reserve()
        self.answered = False
        """The result of the cell is sent."""
        self._max_tasks = 1000
        self._loop: CellLoop | None = None
        self._runner = Runner(self)
        self._cell: Generator[bytes, None, None] | None = None
        for method in CellLoop.uninterrupted():
            self.interrupts.protect(method)
        self._lost = _result_of("SystemError", _LOST)
        self._no_memory = _result_of("MemoryError", _NO_MEMORY)

    def entry(self, message: bytes) -> bytes:
        """One frame of the host in; `b""` or a `wait` frame out. `noop` only warms up."""
        self.answered = False
        try:
            cell = frames.common_cell(message)
            if cell is not None:
                self._cell = self._runner.run(*cell)
                return self._resume()
            header, parts = frames.parse(message)
            kind = header["type"]
            if kind == "cell":
                if not parts:
                    raise MemoryError  # so the relay says that there was no room for them
                inputs: dict[str, Any] = frames.decode(parts[1])
                self._cell = self._runner.run(str(parts[0], "utf-8"), inputs, header["output_bytes"])
                return self._resume()
            if kind == "wake":
                self.calls.deliver(message)
                return self._resume()
            if kind == "start":
                self._start(header, parts)
            elif kind == "noop":
                rehearse_for_lease(Guest, header.get("number", 0))
                self.interrupts.install()
        except BaseException as exc:  # the guest runner: nothing may leave, see above
            self._give_up(exc)
        return _CELL_IS_OVER

    def _start(self, header: dict[str, Any], parts: list[memoryview]) -> None:
        """Become the sandbox of one tenant: its limits, its tools, its randomness."""
        self._max_tasks = header["tasks"]
        self._runner.renew_namespace()
        limits = values.ValueLimits(header["value_bytes"], header["value_depth"], header["int_digits"])
        self.tools.limit(limits)
        if not frames.is_empty_list(parts[0]):
            self.tools.grant(frames.decode(parts[0]))
        random = sys.modules.get("random")
        if random is not None:
            random.seed(int.from_bytes(os.urandom(32), "little"))  # the image has the builder's state in it

    def loop(self) -> CellLoop:
        """The sandbox's own loop. A new one if user code closed it."""
        if self._loop is None or self._loop.is_closed():
            self._loop = self.new_loop()
        return self._loop

    def used_loop(self) -> CellLoop | None:
        """The same, if it has had tasks; for the end of a cell."""
        loop = self._loop
        return loop if loop is not None and loop.is_used and not loop.is_closed() else None

    def drop_loop(self) -> None:
        """Leave the loop and its tasks behind; the next use makes another."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_running():
            loop.close()

    def new_loop(self) -> CellLoop:
        return CellLoop(self.calls, self.interrupts, self._max_tasks)

    def send_result(self, outcome: Outcome) -> None:
        """Send how the cell ended; without its value if the host does not take that."""
        try:
            self._call(frames.result(outcome))
        except (OSError, MemoryError):
            outcome.value, outcome.value_error = None, outcome.value_error or "value: too large to send"
            self._call(frames.result(outcome))
        self.answered = True

    def patch(self) -> None:
        """Patch the standard library for this guest."""
        patches.install(self.calls, self.loop, self.new_loop)

    def _resume(self) -> bytes:
        if self._cell is None:
            return _CELL_IS_OVER
        try:
            return next(self._cell)
        except StopIteration:
            self._cell = None
            self.interrupts.forget()
            if self.reserve.is_short:
                self.reserve.recover()
            return _CELL_IS_OVER

    def _give_up(self, exc: BaseException) -> None:
        """End the cell with what was built beforehand, unless its result is out: the end of a cell, too, takes memory
        after that."""
        answer = self._lost
        if isinstance(exc, MemoryError):
            answer = self._no_memory
            self.reserve.let_go()
        self._cell = None
        if not self.answered:
            with contextlib.suppress(BaseException):  # nothing is left to say it with
                self._call(answer)
        self.interrupts.forget()


def install() -> None:
    """Make the guest of this interpreter and set `_host.entry`."""
    rehearse_for_image(Guest)
    host = import_module("_host")
    guest = Guest(host.call)
    guest.output.state = getattr(host, "output_state", guest.output.state)
    guest.reserve.hold()
    sys.modules["tools"] = guest.tools.module
    guest.patch()
    guest.interrupts.install()
    host.entry = guest.entry  # type: ignore[attr-defined]


def _result_of(type_name: str, message: str) -> bytes:
    outcome = Outcome()
    outcome.error = Failure(type_name, message, "", None)
    return frames.result(outcome)
