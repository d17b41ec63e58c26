"""A worker process as a `WorkerLink`: a stream socket for frames, another for control, and a hold on the process.

The rule: everything read here is hostile. A frame's lengths are checked before it is stored, the control socket is
read once, when the worker is dead, for at most one bounded line, and whatever goes wrong ends the worker. A thread that
hangs in a read or a write is woken by `kill`, which needs nothing of the worker.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from ..wasm_sandbox.channel import FrameReader
from ..wasm_sandbox.fork_protocol import LAST_WORDS_BYTES
from ..wasm_sandbox.jail.cgroup import Box
from .errors import MACHINE_RETRY_S, ClocheError, PoolExhausted, ProtocolError, UsedAfterFork, WorkerCrashed
from .limits import Limits
from .links import CallerServed, FrameSink, HandOver, MovingSink, unheard
from .protocol import PROTOCOL_VERSION, Hello, parse_from_worker
from .watch import cpu_exceeded, cpu_seconds, memory_exceeded
from .worker_process import SIGXCPU, WorkerProcess, how_it_ended

HELLO_BYTES = 16 * 1024
"""Bound of the first frame; `frame_bytes` takes its place when the worker is leased."""
CLOSED_S = 0.1
"""A worker whose channel closed is dead, and the news takes less than a millisecond; or it lives, and is killed."""
DEATH_NOTICE_S = 5.0
"""For the news of the death of one that was killed. On a machine that stands still, its fork server does, too."""

TOLD_IN_A_ROW, BREATH_S = 16, 0.0002
"""After so many frames that want no answer this thread sleeps for a moment. A worker that sends them without end would
else keep the interpreter's lock in it, and every other thread of the host 5 ms late at each step. A guest's output
comes in few frames."""
ASKING_CPU_S = 0.0005
"""A question is on its way while its worker still goes to sleep; some 0.05 ms when it was measured."""


SERVES_CALLERS = hasattr(select, "poll")
"""Where a thread can wait for a worker without taking a byte of what it says. Not on Windows."""


class ProcessLink:
    """One worker process. `request` belongs to one thread at a time; everything else may come from any thread."""

    def __init__(self, frames: socket.socket, control: socket.socket, process: WorkerProcess) -> None:
        self.process = process
        self._frames = frames
        self._control = control
        self._reader = FrameReader(frames, HELLO_BYTES)
        if SERVES_CALLERS:
            self._arrivals = select.poll()
            self._arrivals.register(frames, select.POLLIN)
        self._owner = os.getpid()
        self._gate = threading.Lock()
        """Guards the four below, and the life of both descriptors. Held for a system call that cannot block at most."""
        self._serving = False
        self._closed = False
        self._released = False
        self._killed = False
        self._number = 0
        """Of the request that runs, modulo 256; the worker counts the same way."""
        self.requests = 0
        """How many have begun, `wait_hello` included."""
        self._asked_at: tuple[FrameSink, float] | None = None
        """Who answers a frame now, and the worker's CPU time when that began."""
        self._waited_cpu_s = 0.0
        """CPU time that the worker used while it waited for answers, in this request; see `waited_cpu_s`."""
        self._told = 0
        """Frames in a row that wanted no answer."""
        self.cpu_allowed_s: float | None = None
        """What the kernel ends the worker for; set when it is leased."""
        self._verdict: ClocheError | None = None
        self.group: Box | None = None
        """The memory cgroup that it is in."""
        self.memory_allowed_mb = 0.0
        """The cap of that cgroup; set when the worker is leased."""
        process.on_exit(self._wake_reader)

    extra_grace_s: float = 0.0
    """See `WorkerLink.extra_grace_s`."""
    extra_resident_bytes: int = 0
    """What an idle worker of its engine has in memory beyond one of the engine "wasmtime"."""

    def limit(self, limits: Limits) -> None:
        """Hold it to its tenant's limits from outside; a worker of the engine "wasmtime" does that itself.

        Raises:
            WorkerCrashed: it cannot be held to them. The caller closes it.
        """

    @property
    def exit_status(self) -> int | None:
        return self.process.exit_status

    @property
    def pid(self) -> int | None:
        """For a look from outside: CPU time, memory, walls."""
        return self.process.pid

    @property
    def serving(self) -> bool:
        """True while a request runs."""
        return self._serving

    def waited_cpu_s(self, now_s: float) -> float:
        """CPU seconds that the worker used in this request while it said that it waits for its host. An honest one
        needs next to none. `now_s`: what it has used in all."""
        asked, total = self._asked_at, self._waited_cpu_s
        if asked is not None and getattr(asked[0], "asked", False):
            total += max(0.0, now_s - asked[1])
        return total

    @property
    def gone(self) -> bool:
        """The process is dead and reaped."""
        return self.process.exited

    @property
    def released(self) -> bool:
        """True once both descriptors are closed."""
        return self._released

    @property
    def frame_bytes(self) -> int:
        """Bound of one frame of the worker."""
        return self._reader.max_bytes

    @frame_bytes.setter
    def frame_bytes(self, value: int) -> None:
        self._reader.max_bytes = value

    def wait_hello(self, timeout_s: float) -> Hello:
        """The worker's first frame: it is warm now and waits for its sandbox. On any error the worker is killed.

        Raises:
            WorkerCrashed: it died first, or it said nothing, or nobody told of its birth, for `timeout_s` seconds.
            PoolExhausted: the system had no process left for it, or this process no descriptor.
            ProtocolError: it speaks another protocol.
        """
        give_up_at = time.monotonic() + timeout_s
        self._begin()
        try:
            hello, _ = parse_from_worker(self._read_within(timeout_s), max_bytes=HELLO_BYTES)
            if not isinstance(hello, Hello) or hello.protocol_version != PROTOCOL_VERSION or self._reader.pending:
                raise ProtocolError(f"expected a lone `hello` of protocol {PROTOCOL_VERSION}")
            # Word of its birth comes on another channel. Before that nobody can look at it from outside.
            if not self.process.wait_birth(max(0.0, give_up_at - time.monotonic())):
                raise _not_ready(timeout_s)
            if self.process.failure is not None:
                raise self._crashed()
        except BaseException:
            self.kill()
            raise
        finally:
            self._end()
        self._number = 0
        return hello

    @property
    def for_callers(self) -> CallerServed | None:
        """Itself. See `WorkerLink.for_callers`."""
        return self if SERVES_CALLERS else None

    def request(self, frame: bytes, on_frame: FrameSink, begun: Callable[[], None] = unheard) -> None:
        """See `WorkerLink.request`."""
        self._begin()
        begun()
        self._converse(frame, on_frame)

    def request_here(self, frame: bytes, on_frame: MovingSink, begun: Callable[[], None] = unheard) -> None:
        """See `CallerServed`."""
        self._begin()
        begun()
        self._converse(frame, on_frame, here=True)

    def resume(self, on_frame: MovingSink) -> None:
        """See `CallerServed`."""
        self._converse(None, on_frame, first=on_frame.resume)

    def abandon(self) -> None:
        """See `CallerServed`."""
        self._end()

    def _converse(
        self,
        request: bytes | None,
        on_frame: FrameSink,
        *,
        first: Callable[[], bytes | None] | None = None,
        here: bool = False,
    ) -> None:
        """Everything after `_begin`. `first`: what a HandOver left to do, in place of a request."""
        goes_on = False
        try:
            if request is not None:
                self._send(request)
            if first is not None:
                self._reply(self._answer(first, on_frame))
            while not on_frame.finished:
                if here and not self._reader.pending:
                    self._rest()
                frame = self._read()
                self._reply(self._answer(partial(on_frame, frame), on_frame))
            if self._reader.pending:
                raise ProtocolError("the worker spoke after the end of the request")
        except HandOver:
            goes_on = True
            raise
        except ProtocolError:
            self.kill()
            raise
        finally:
            if not goes_on:
                self._end()

    def _rest(self) -> None:
        """Wait for the worker. An exception that comes meanwhile breaks off nothing: no byte was taken."""
        try:
            self._arrivals.poll()
        except BaseException as exc:  # noqa: BLE001  # the caller's: raised to him when the request is over
            raise HandOver(exc) from None

    def _answer(self, give: Callable[[], bytes | None], on_frame: FrameSink) -> bytes | None:
        """What the sink gives. CPU time that the worker uses meanwhile is noted, if it had asked for that."""
        pid = self.pid
        before_s = None if pid is None else cpu_seconds(pid)
        if pid is None or before_s is None:
            return give()
        self._asked_at = on_frame, before_s
        try:
            answer = give()
        finally:
            self._asked_at = None
        if answer is not None:
            used_s = (cpu_seconds(pid) or before_s) - before_s
            self._waited_cpu_s += max(0.0, used_s - ASKING_CPU_S)
        return answer

    def _reply(self, answer: bytes | None) -> None:
        if answer is not None:
            self._told = 0
            self._send(answer)
        else:
            self._breathe()

    def _breathe(self) -> None:
        self._told += 1
        if self._told % TOLD_IN_A_ROW == 0:
            time.sleep(BREATH_S)

    def interrupt(self) -> None:
        with self._gate:
            if self._serving and not self._released:
                # A full socket holds interrupts enough; a dead worker is for `request` to notice.
                with contextlib.suppress(OSError):
                    self._control.send(bytes((self._number,)), socket.MSG_DONTWAIT)

    def trap(self) -> bool:
        """False: modules of worker processes are compiled without epoch checks, for speed; `kill` does it all."""
        return False

    def kill(self) -> None:
        if os.getpid() != self._owner:
            return
        if not self.process.exited:
            self._killed = True
            self.process.kill()
        self._wake_reader()

    def condemn(self, error: ClocheError) -> None:
        """Kill the worker for a limit or a breach that was seen from outside: its request raises `error`, the first."""
        self._verdict = self._verdict or error
        self.kill()

    def close(self, timeout_s: float) -> None:
        if os.getpid() != self._owner:
            return  # a child made by os.fork: the worker is its parent's
        self.kill()
        with self._gate:
            self._closed = True
            if not self._serving:
                self._release()
        self.process.wait(timeout_s)

    # --- one request --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if os.getpid() != self._owner:
            raise UsedAfterFork("this sandbox belongs to the parent process; make a new one here")
        with self._gate:
            if self._closed:
                raise WorkerCrashed("the worker was closed", exit_status=self.exit_status)
            self._serving = True
            self._waited_cpu_s = 0.0
            self._number = (self._number + 1) & 255
            self.requests += 1

    def _end(self) -> None:
        with self._gate:
            self._serving = False
            if self._closed:
                self._release()

    def _send(self, frame: bytes) -> None:
        try:
            self._frames.sendall(frame)
        except OSError:
            raise self._crashed() from None

    def _read(self) -> bytes:
        try:
            return self._reader.read()
        except (EOFError, OSError):
            raise self._crashed() from None

    def _read_within(self, timeout_s: float) -> bytes:
        """One frame, with a deadline for its first byte; after that the worker's own supervisor is not needed: it has
        no tenant yet, and its `hello` is one small write."""
        give_up_at = time.monotonic() + timeout_s
        self._frames.settimeout(max(timeout_s, 0.001))
        try:
            return self._read()
        except WorkerCrashed as exc:
            if time.monotonic() >= give_up_at:
                raise _not_ready(timeout_s) from exc
            raise
        finally:
            with contextlib.suppress(OSError):
                self._frames.settimeout(None)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _crashed(self) -> ClocheError:
        """The error for a channel that broke. A worker that only closed its socket is killed first."""
        by_us = "it was killed by its host" if self._killed else ""
        if not self.process.wait(CLOSED_S):
            self.process.kill()
            self.process.wait(DEATH_NOTICE_S)
            by_us = by_us or "it closed its channel and was killed for that"
        if self.process.failure is not None:
            return PoolExhausted(self.process.failure, retry_after_s=MACHINE_RETRY_S)
        if self._verdict is not None:
            return self._verdict
        status = self.exit_status
        if status == -SIGXCPU and self.cpu_allowed_s is not None:
            return cpu_exceeded(self.cpu_allowed_s, self.cpu_allowed_s)
        if status == -signal.SIGKILL and self.group is not None and self.group.killed:
            return memory_exceeded(self.memory_allowed_mb)
        if status not in (None, -signal.SIGKILL):
            by_us = ""  # it was dead by then, and the news late
        reason = by_us or how_it_ended(status, self._last_words())
        return WorkerCrashed(f"the worker is gone: {reason}", exit_status=status)

    def _last_words(self) -> str:
        """What a failing worker said about it: hostile text, cut and made printable."""
        with self._gate:
            if self._released:
                return ""
            try:
                data = self._control.recv(LAST_WORDS_BYTES, socket.MSG_DONTWAIT)
            except OSError:
                return ""
        text = data.decode("utf-8", "replace")
        return "".join(char if char.isprintable() else " " for char in text).strip()

    def _wake_reader(self) -> None:
        """A thread in a read or write on the frames returns; what had arrived before can still be read."""
        with self._gate:
            if not self._released:
                with contextlib.suppress(OSError):
                    self._frames.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        """Close both descriptors, once. Only while nobody reads, or the number could be somebody else's by then."""
        self._released = True
        self._frames.close()
        self._control.close()


def _not_ready(timeout_s: float) -> WorkerCrashed:
    return WorkerCrashed(f"the worker was not ready within {timeout_s:g} s", exit_status=None)
