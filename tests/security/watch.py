"""Looks at host and worker from outside while a probe runs: memory, children, log records, files that are opened.

Linux only where it reads /proc; elsewhere the numbers are 0 and say nothing.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.pids import pid_of_box

from cloche import Sandbox
from cloche.deno_host.find import ENVIRONMENT

from .seen import Seen

GONE_S = 20.0
"""A worker that was killed for what it did is reaped by another process, when that has the time."""
_PROC = Path("/proc")
_heard: list[tuple[str, list[str]]] = []
"""Folders that are watched now, and where to note what happens there."""
_hooked: list[bool] = []
_DENO_ENVIRONMENT = b"".join(f"{name}={value}\0".encode() for name, value in ENVIRONMENT.items())
"""Constants of cloche's own, without which Deno does not start."""


class WorkerWatch:
    """The worker process of a sandbox; `pid` is None under thread isolation."""

    def __init__(self, box: Sandbox) -> None:
        self.pid = pid_of_box(box)

    def look(self, seen: Seen) -> None:
        """Note the worker's peak so far."""
        if self.pid is None:
            return
        with contextlib.suppress(OSError):
            seen.worker_peak_bytes = max(seen.worker_peak_bytes, memory_bytes("VmHWM", self.pid))
        with contextlib.suppress(OSError):
            children = [path.read_text(encoding="utf-8").split() for path in _PROC.glob(f"{self.pid}/task/*/children")]
            seen.worker_children = max(seen.worker_children, sum(map(len, children)))
        with contextlib.suppress(OSError):
            found = (_PROC / f"{self.pid}/environ").read_bytes()
            seen.worker_environ = max(seen.worker_environ, 0 if found == _DENO_ENVIRONMENT else len(found))

    def check_gone(self, seen: Seen) -> None:
        """Once its sandbox is closed."""
        if self.pid is not None:
            give_up_at = time.monotonic() + GONE_S
            while self._alive() and time.monotonic() < give_up_at:
                threading.Event().wait(0.01)
            seen.worker_left = self._alive()

    def _alive(self) -> bool:
        try:
            return "\nState:\tZ" not in (_PROC / f"{self.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return False


def memory_bytes(field: str, pid: int | str = "self") -> int:
    """VmRSS or VmHWM (the peak) of a process; 0 where there is no /proc."""
    path = _PROC / f"{pid}/status"
    if not _PROC.is_dir():
        return 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Let this process's VmHWM start again from now; its memory now."""
    with contextlib.suppress(OSError):
        (_PROC / "self/clear_refs").write_text("5", encoding="utf-8")
    return memory_bytes("VmHWM")


@contextlib.contextmanager
def logs(into: list[str]) -> Generator[None]:
    """Every record of this process, formatted, tracebacks included."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append(self.format(record))

    collector, root, ours = Collector(), logging.getLogger(), logging.getLogger("cloche")
    level = ours.level
    root.addHandler(collector)
    ours.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(collector)
        ours.setLevel(level)


@contextlib.contextmanager
def audit(folder: str, into: list[str]) -> Generator[None]:
    """Files that this process opens under `folder`, and classes that pickle looks up."""
    if not _hooked:
        sys.addaudithook(_on_event)
        _hooked.append(True)
    entry = (folder, into)
    _heard.append(entry)
    try:
        yield
    finally:
        _heard.remove(entry)


def _on_event(event: str, args: tuple[object, ...]) -> None:
    if not _heard:
        return
    if event == "open" and isinstance(args[0], str | bytes):
        path = args[0] if isinstance(args[0], str) else args[0].decode("utf-8", "replace")
        for folder, into in _heard:
            if path.startswith(folder):
                into.append(f"the host opened {path}")
    elif event == "pickle.find_class":
        for _, into in _heard:
            into.append(f"the host unpickled {args[0]}.{args[1]}")
