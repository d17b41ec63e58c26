"""A worker made of Python functions, in memory: for tests of everything above the link, with no process and no wasm.

The rule: it speaks real frames and honours the same four verbs as a real worker (interrupt, trap, kill, close), so what
passes with it says something about the host. Each cell runs the next script; the last script serves all later cells.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import WorkerCrashed
from .limits import Limits
from .links import CallerServed, FrameSink, WorkerLink, unheard
from .protocol import (
    Done,
    FileDone,
    Frame,
    GuestError,
    ListFiles,
    Output,
    ReadFile,
    Ready,
    Result,
    ToWorker,
    WriteFile,
    parse_to_worker,
    render,
)
from .tenants import Tenant
from .values import ValueLimits, encode

KILLED = -9
WAIT_BOUND_S = 10.0
"""No script waits longer than this for an interrupt or a kill: a broken test fails, it does not hang."""

Script = Callable[["FakeCell"], None]


MAX_FRAME_BYTES = 2**32
"""A stand-in trusts its host."""


class FakeLink:
    """A scripted worker. Counts what was done to it, for tests to look at."""

    extra_grace_s: float = 0.0
    for_callers: CallerServed | None = None

    def __init__(self, *scripts: Script, can_trap: bool = False) -> None:
        self._scripts = scripts or (answer(None),)
        self._can_trap = can_trap
        self.served = 0
        """Cells that were begun."""
        self.interrupts = 0
        self.requests: list[str] = []
        """Types of the requests, in order."""
        self.files: dict[str, bytes] = {}
        self.closed = False
        self.exit_status: int | None = None
        self._gate = threading.Lock()
        self._serving = False
        self.interrupted = threading.Event()
        self.gone = threading.Event()

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        header, parts = parse_to_worker(frame, max_bytes=MAX_FRAME_BYTES)
        self.requests.append(header.type)
        cell = FakeCell(self, header, parts, on_frame)
        cell.check_alive()
        with self._gate:
            self._serving = True
        begun()
        try:
            self._serve(cell)
        finally:
            with self._gate:
                self._serving = False
                self.interrupted.clear()

    def interrupt(self) -> None:
        with self._gate:
            if self._serving:
                self.interrupts += 1
                self.interrupted.set()

    def trap(self) -> bool:
        if self._can_trap:
            self._leave(None)
        return self._can_trap

    def kill(self) -> None:
        self._leave(KILLED)

    def close(self, timeout_s: float) -> None:
        self._leave(KILLED)
        self.closed = True

    def crash(self, exit_status: int) -> None:
        """The worker ends by itself."""
        self._leave(exit_status)

    def _leave(self, exit_status: int | None) -> None:
        if not self.gone.is_set():
            self.exit_status = exit_status
            self.gone.set()

    def _serve(self, cell: FakeCell) -> None:
        kind = cell.request.type
        if kind == "start":
            cell.send(Ready())
        elif kind == "cell":
            script = self._scripts[min(self.served, len(self._scripts) - 1)]
            self.served += 1
            script(cell)
        else:
            self._serve_file(cell)

    def _serve_file(self, cell: FakeCell) -> None:
        header = cell.request
        if isinstance(header, WriteFile):
            self.files[header.path] = bytes(cell.parts[0])
            cell.send(FileDone(error=None))
        elif isinstance(header, ReadFile) and header.path in self.files:
            cell.send(FileDone(error=None), self.files[header.path])
        elif isinstance(header, ListFiles):
            cell.send(FileDone(error=None), "\0".join(sorted(self.files)).encode())
        else:
            cell.send(FileDone(error="no such file"))


class FakeCell:
    """One request as a script sees it."""

    def __init__(self, link: FakeLink, request: ToWorker, parts: list[memoryview], on_frame: FrameSink) -> None:
        self.link = link
        self.request = request
        self.parts = parts
        self._on_frame = on_frame

    @property
    def code(self) -> str:
        """Source of the cell."""
        return str(self.parts[0], "utf-8")

    def send(self, frame: Frame, *attachments: bytes) -> None:
        """Pass a frame to the host that has no answer."""
        self.check_alive()
        self._on_frame(render(frame, attachments))
        self.check_alive()

    def ask(self, frame: Frame, *attachments: bytes) -> tuple[ToWorker, list[memoryview]]:
        """Pass a question to the host; its answer and the answer's attachments."""
        self.check_alive()
        answer = self._on_frame(render(frame, attachments))
        self.check_alive()
        if answer is None:
            raise AssertionError(f"the host gave no answer to {type(frame).__name__}")
        return parse_to_worker(answer, max_bytes=MAX_FRAME_BYTES)

    def send_raw(self, frame: bytes) -> None:
        """Pass bytes that need not be a frame."""
        self._on_frame(frame)

    def print(self, text: str) -> None:
        self.send(Output(stream="stdout"), text.encode("utf-8"))

    def finish(self, value: object = None, *, error: GuestError | None = None, interrupted: bool = False) -> None:
        """End the cell the way an honest guest does."""
        result = Result(
            has_value=error is None,
            value_repr=None if value is None else repr(value),
            value_error=None,
            error=error,
            interrupted=interrupted,
            ended_by_tool=False,
        )
        self.send(result, *((encode(value, ValueLimits()),) if error is None else ()))
        cell_id = getattr(self.request, "id", 0)
        self.send(Done(id=cell_id, cpu_s=0.0, memory_bytes=0, artifacts=(), artifacts_dropped=0))

    def wait_for_interrupt(self) -> bool:
        """Hang like a Python loop: True when interrupted; raises WorkerCrashed when killed first."""
        waited = 0.0
        while not self.link.interrupted.wait(0.005) and waited < WAIT_BOUND_S:
            self.check_alive()
            waited += 0.005
        return self.link.interrupted.is_set()

    def wait_for_end(self) -> None:
        """Hang like a C loop: deaf to the interrupt, until trapped or killed."""
        self.link.gone.wait(WAIT_BOUND_S)
        self.check_alive()

    def check_alive(self) -> None:
        """Raises WorkerCrashed once the worker is gone, as a closed channel does."""
        if self.link.gone.is_set():
            raise WorkerCrashed("the worker is gone", exit_status=self.link.exit_status)


class FakeSource:
    """Leases fake workers; each gets the scripts that `scripts` holds at that moment."""

    def __init__(self, *scripts: Script, can_trap: bool = False) -> None:
        self.scripts = scripts
        self.can_trap = can_trap
        self.leased: list[FakeLink] = []
        self.closed = False
        self.prepared = True
        self.warm = 0
        self.serves_callers = False

    def prepare(self) -> None:
        """Fakes share nothing."""

    def lease(self, limits: Limits, timeout_s: float, tenant: Tenant | None = None) -> WorkerLink:
        link = FakeLink(*self.scripts, can_trap=self.can_trap)
        self.leased.append(link)
        return link

    def close(self) -> None:
        self.closed = True
        for link in self.leased:
            link.close(0)


# --- scripts ----------------------------------------------------------------------------------------------------------


def answer(value: object, *, stdout: str = "") -> Script:
    """A cell that prints and ends with a value."""

    def script(cell: FakeCell) -> None:
        if stdout:
            cell.print(stdout)
        cell.finish(value)

    return script


def loop_in_python(cell: FakeCell) -> None:
    """`while True: pass`: ends with KeyboardInterrupt when interrupted."""
    cell.wait_for_interrupt()
    cell.finish(error=keyboard_interrupt(), interrupted=True)


def swallow_the_interrupt(cell: FakeCell) -> None:
    """A guest that catches the interrupt and ends with a value all the same."""
    cell.wait_for_interrupt()
    cell.finish("swallowed", interrupted=True)


def loop_in_c(cell: FakeCell) -> None:
    """A loop that only a trap or a kill ends."""
    cell.print("before the loop\n")
    cell.wait_for_end()


def crash(exit_status: int) -> Script:
    """A cell in which the worker dies."""

    def script(cell: FakeCell) -> None:
        cell.print("last words\n")
        cell.link.crash(exit_status)
        cell.check_alive()

    return script


def keyboard_interrupt() -> GuestError:
    return GuestError(type="KeyboardInterrupt", message="", traceback="KeyboardInterrupt\n", line=1)
