"""How threads of the runtime are started.

The rule: a thread is noted by its owner only when it runs. Where the system gives none, the caller hears it, nothing
was changed, and the next caller asks for it again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from .errors import MACHINE_RETRY_S, PoolExhausted

_stack_size_gate = threading.Lock()


def start_thread(name: str, target: Callable[..., object], *args: object, stack_bytes: int = 0) -> threading.Thread:
    """A daemon thread that runs `target(*args)`.

    Args:
        stack_bytes: of its stack; 0 for what the system gives.

    Raises:
        PoolExhausted: this process or the machine may have no more threads. None was started.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        if stack_bytes:
            _start_with_stack(thread, stack_bytes)
        else:
            thread.start()
    except RuntimeError as exc:  # all that CPython says: "can't start new thread"
        raise PoolExhausted(f"no thread for {name}: {exc}", retry_after_s=MACHINE_RETRY_S) from exc
    return thread


def _start_with_stack(thread: threading.Thread, stack_bytes: int) -> None:
    """`threading.stack_size` is one number for the whole process."""
    with _stack_size_gate:
        before = threading.stack_size(stack_bytes)
        try:
            thread.start()
        finally:
            threading.stack_size(before)


def _reset_gate_in_child() -> None:
    global _stack_size_gate
    _stack_size_gate = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_gate_in_child)
