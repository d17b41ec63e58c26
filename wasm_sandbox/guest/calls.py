"""Talking to tools: blocking calls, calls in flight, and the one wait that all waiting goes through.

Rule: everything printed is sent before the host is asked for anything. A tool that ends the cell sets `ended`; the
exception that says so may be swallowed by the user's code, the flag may not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from . import frames
from .interrupts import Interrupts
from .streams import Output

_look_for_signals = repr
"""CPython looks for signals at the start of every `repr`. After a wait that the interrupt ended, look soon."""

_NO_ROOM = object()
_NO_MEMORY = "no memory is left for the result of the tool"


class ToolError(Exception):
    """A tool failed. `type` is the name of the error on the host, `message` what it said."""

    def __init__(self, message: str = "", type: str = "ToolError") -> None:
        super().__init__(message, type)
        self.message = message
        self.type = type

    def __str__(self) -> str:
        return f"{self.message}" if self.type == "ToolError" else f"{self.type}: {self.message}"  # whatever cells gave


ToolError.__module__ = "builtins"  # where cells find it, and how tracebacks name it


class CellEnd(SystemExit):
    """A tool ended the cell. A SystemExit: asyncio lets it through at once, and `except Exception` does not see it."""


class Calls:
    """All questions of the guest to the host."""

    def __init__(self, call: Callable[[bytes], bytes], output: Output, interrupts: Interrupts) -> None:
        self._call = call
        self._output = output
        self._interrupts = interrupts
        self._last_id = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self.ended = False
        """A tool ended this cell."""
        for method in (self._begin_call, self._end_call):
            interrupts.protect(method)
        self._limits: dict[str, float] = {}
        """Limits that an exception of ours held in this cell, and what was asked for, at its highest."""

    @property
    def any_open(self) -> bool:
        """Whether a result can still come."""
        return bool(self._open)

    def begin(self) -> None:
        self.ended = False
        self._open.clear()  # of a cell that came to no proper end; the host has forgotten them
        self._limits = {}

    def note_limit(self, limit: str, used: float) -> None:
        """Remember a limit for the host's record of the cell; the caller raises."""
        self._limits[limit] = max(used, self._limits.get(limit, 0))

    def tell_limits(self) -> None:
        """Send what was noted. At the end of a cell, before its result."""
        if not self._limits:
            return
        with contextlib.suppress(OSError, MemoryError):  # the cell's result matters more
            for limit, used in self._limits.items():
                self._call(frames.guest_limit(limit, used))

    def ask(self, template: bytes, arguments: bytes) -> Any:
        """A blocking tool call: its value.

        Raises:
            ToolError: the tool failed.
            CellEnd: the tool ended the cell.
        """
        if self.ended:
            raise CellEnd
        self._output.flush()
        self._last_id += 1
        reply = self._call(frames.frame(template % (self._last_id, len(arguments)), arguments))
        value = frames.good_result(reply)
        if value is not frames.NOT_GOOD:
            return value
        header, parts = frames.parse(reply)
        value = frames.decode(parts[0])
        if header["end_cell"]:
            self.ended = True
            raise CellEnd
        if header["ok"]:
            return value
        _look_for_signals(None)  # the host answers open calls with errors once it has sent the interrupt
        raise _tool_error(value)

    async def start(self, template: bytes, arguments: bytes) -> Any:
        """The same call, awaited while others run. Cancelling it tells the host."""
        if self.ended:
            raise CellEnd
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._output.flush()
        self._last_id += 1
        call_id = self._last_id
        self._begin_call(call_id, frames.frame(template % (call_id, len(arguments)), arguments), future)
        try:
            self._interrupts.checkpoint()
            return await future
        finally:
            self._end_call(call_id)

    def _begin_call(self, call_id: int, frame: bytes, future: asyncio.Future[Any]) -> None:
        """The host and we know the same calls: an interrupt comes before this, or after."""
        self._call(frame)
        self._open[call_id] = future

    def _end_call(self, call_id: int) -> None:
        if self._open.pop(call_id, None) is not None:
            self._call(frames.tool_cancel(call_id))

    def wait(self, timeout_s: float | None, *, any_result: bool) -> None:
        """Wait inside the host, with this stack alive."""
        question = self.wait_frame(timeout_s, any_result=any_result)
        try:
            news = self._call(question)
        except MemoryError:
            if not any_result:
                raise
            self._fail_open()
        else:
            self.deliver(news)
        _look_for_signals(None)
        self._interrupts.checkpoint()

    def wait_frame(self, timeout_s: float | None, *, any_result: bool) -> bytes:
        """The question, for a guest that returns it instead of waiting."""
        self._output.flush()
        return frames.wait(timeout_s, any_result=any_result)

    def deliver(self, message: bytes) -> None:
        """Hand the results of a `wake` frame to those who await them. One for which there is no memory is a MemoryError
        there; without any value in the frame the relay says so of all."""
        header, parts = frames.parse(message)
        for index, outcome in enumerate(header["results"]):
            if outcome["end_cell"]:
                self.ended = True
            future = self._open.pop(outcome["id"], None)
            if future is None or future.done() or future.get_loop().is_closed():
                continue
            if outcome["end_cell"]:
                future.set_exception(CellEnd())
                continue
            try:
                value = frames.decode(parts[index]) if parts else _NO_ROOM
            except MemoryError:
                value = _NO_ROOM
            if value is _NO_ROOM:
                future.set_exception(MemoryError(_NO_MEMORY))
            elif outcome["ok"]:
                future.set_result(value)
            else:
                future.set_exception(_tool_error(value))

    def _fail_open(self) -> None:
        """Results came that found no memory, and whose they are is not known: nobody may wait for his."""
        while self._open:
            _, future = self._open.popitem()
            if not future.done() and not future.get_loop().is_closed():
                future.set_exception(MemoryError(_NO_MEMORY))

    def abandon(self) -> None:
        """Cancel what nobody awaits any more, at the end of a cell."""
        while self._open:
            call_id, _ = self._open.popitem()
            self._call(frames.tool_cancel(call_id))


def _tool_error(value: Any) -> ToolError:
    name, message = value
    return ToolError(message, name)
