"""An event loop on a thread of its own, for async tools of the blocking face. Starts with the first of them.

The rule: nobody waits for it. An async tool that blocks its loop harms other async tools, but neither the deadline of
a cell nor the end of the process. One that ends the loop harms those that run on it then; the next call starts another.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .errors import RuntimeClosed

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .async_runner import OwnLoop


class ToolLoop:
    """Owns the loop of one runtime. Safe to use from any thread."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._loop: OwnLoop | None = None
        self._closed = False

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        """Await `call()` on the loop, in `context`. Cancelling the future cancels it there.

        Raises:
            RuntimeClosed: the runtime was closed.
        """
        with self._gate:
            if self._closed:
                raise RuntimeClosed("the runtime was closed")
            if self._loop is None or self._loop.is_over:
                from .async_runner import OwnLoop  # asyncio and anyio: 100 ms that most processes never need

                self._loop = OwnLoop()
            loop = self._loop
        return loop.runner.start(call, context)

    def close(self) -> None:
        """Cancel what runs and end the loop, without waiting for it. Idempotent."""
        with self._gate:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
