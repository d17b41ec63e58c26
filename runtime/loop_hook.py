"""How a thread wakes an event loop without waiting for it, on asyncio and trio alike."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Protocol, cast

import anyio.lowlevel


class _AsyncioLoop(Protocol):
    def call_soon_threadsafe(self, callback: Callable[[], object], *, context: contextvars.Context) -> object: ...


class _TrioToken(Protocol):
    def run_sync_soon(self, callback: Callable[[], object]) -> None: ...


class LoopHook:
    """The running loop, to be called from other threads."""

    def __init__(self) -> None:
        """Takes the loop that runs on this thread."""
        token = anyio.lowlevel.current_token().native_token
        # anyio's own way back (`from_thread.run_sync`) makes the calling thread wait for the loop's answer.
        self._asyncio = cast("_AsyncioLoop", token) if hasattr(token, "call_soon_threadsafe") else None
        self._trio = None if self._asyncio else cast("_TrioToken", token)

    def call(self, callback: Callable[[], object]) -> bool:
        """Have the loop run `callback` soon, in this thread's context. False when the loop is gone. Any thread."""
        context = contextvars.copy_context()
        try:
            if self._asyncio is not None:
                self._asyncio.call_soon_threadsafe(callback, context=context)
            elif self._trio is not None:
                self._trio.run_sync_soon(lambda: context.run(callback))
        except RuntimeError:  # closed; trio's RunFinishedError is one too
            return False
        return True
