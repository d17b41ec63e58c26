"""The interrupt: a KeyboardInterrupt at any bytecode of the user's code, and never in ours.

Rule: while `armed` is False the signal is only noted. The runner arms it for as long as user code is on the stack (its
code, its `__repr__`, its `__str__`). Some functions of ours are on that stack as well; those that must not be torn
apart are `protect`ed: a signal that finds one of them on top is noted, and they call `checkpoint` where it is safe.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_get_handler: Callable[[int], object] = import_module("_signal").getsignal
"""What `signal.getsignal` calls before it looks for an enum member in the answer."""
_set_handler = signal.signal
_SIGINT = int(signal.SIGINT)


class Interrupts:
    """State of the interrupt in this interpreter."""

    def __init__(self) -> None:
        self.armed = False
        self.pending = False
        """Noted, not raised yet."""
        self.seen = False
        """An interrupt reached this cell."""
        self._handler = self._on_signal
        self._protected: set[int] = {id(Interrupts.call.__code__)}

    def install(self) -> None:
        """Take SIGINT. User code may have taken it away, so the runner calls this for each cell."""
        if _get_handler(_SIGINT) is not self._handler:
            _set_handler(_SIGINT, self._handler)

    def protect(self, function: _F) -> _F:
        """Note, instead of raise, a signal that arrives while this function itself is on top of the stack."""
        plain = getattr(function, "__func__", function)
        self._protected.add(id(plain.__code__))
        return function

    def forget(self) -> None:
        """A cell is over. Not done when one begins: an interrupt may come before the first instruction of its cell."""
        self.armed = self.pending = self.seen = False

    def checkpoint(self) -> None:
        """Raise the interrupt that was noted, if it is armed."""
        if self.armed:
            self.raise_pending()

    def raise_pending(self) -> None:
        """Raise it in any case: for the event loop, which is not armed itself and whose callers expect it."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def call(self, function: Callable[..., _T], *args: object) -> _T:
        """`function(*args)` with the interrupt armed. Protected: once the call has returned its value is not lost."""
        self.armed = True
        try:
            # No bytecode between this check and the call looks for signals, so none can slip in unseen.
            if self.pending:
                self.pending = False
                raise KeyboardInterrupt
            return function(*args)
        finally:
            self.armed = False

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.seen = True
        if self.armed and (frame is None or id(frame.f_code) not in self._protected):
            raise KeyboardInterrupt
        self.pending = True
