"""A Deno process as a `WorkerLink`: frames and interrupts share one stream, and the driver moves its limits.

The rule: a worker of this engine differs from any other in three things, and only in these. It gets its image with the
first bytes on its stream; an interrupt is a length that no frame has, written whole between two frames; and the caps on
its memory and CPU time are set from outside, because it has no call that could do it.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterable

from ..wasm_sandbox.jail.rlimits import CPU_SLACK_S, data_bytes
from .errors import WorkerCrashed
from .limits import MIB, Limits
from .process_link import ProcessLink
from .protocol import Hello
from .watch import cpu_seconds
from .worker_process import WorkerProcess

INTERRUPT = b"\xff\xff\xff\xff"
BASE_BYTES = 1536 * MIB
"""Writable memory of an idle worker where it cannot be read: V8 and its threads map far more than they touch."""
RESIDENT_BYTES = 224 * MIB
"""What an idle worker has resident beside its linear memory: code of Deno, compiled wasm, its heap."""
CPU_AHEAD = 3
"""The kernel's cap is moved for so many cells at once; the host's own watch is finer."""
SEND_BUFFER_BYTES = 1 * MIB
EXTRA_GRACE_S = 0.3
"""V8 compiles the guest's way out of a cell when it first goes there: up to 0.2 s on a busy machine."""
NOTICE_S = 5.0
"""The launcher tells the pid, and answers a request to cap memory, within microseconds."""
MOST = 2**31 - 1
"""What fits in a message to the launcher."""

BootFrame = Callable[[], Iterable[bytes | memoryview]]


class DenoLink(ProcessLink):
    """One Deno process. Its control channel is its standard error: last words, and nothing from us."""

    extra_grace_s = EXTRA_GRACE_S
    extra_resident_bytes = RESIDENT_BYTES

    def __init__(self, frames: socket.socket, control: socket.socket, process: WorkerProcess) -> None:
        super().__init__(frames, control, process)
        self.boot: BootFrame | None = None
        """What goes before everything else; set by its maker."""
        self._writing = False
        self._interrupt_wanted = False
        self._cpu_cap_s = 0

    def wait_hello(self, timeout_s: float) -> Hello:
        """Hand over the image, then as `ProcessLink.wait_hello`; one deadline for both."""
        give_up_at = time.monotonic() + timeout_s
        try:
            self._send_boot(timeout_s)
        except BaseException:
            self.kill()
            raise
        return super().wait_hello(max(0.0, give_up_at - time.monotonic()))

    def limit(self, limits: Limits) -> None:
        """Cap its memory for good. Called when it is leased, and done before the first byte of its tenant goes out."""
        size = self._mapped_bytes() + data_bytes(limits.memory_mb * MIB, limits.file_bytes, limits.value_bytes)
        refused = self.process.cap_memory(min(size // MIB, MOST), NOTICE_S)
        if refused is not None:
            raise WorkerCrashed(f"a worker's memory could not be capped: {refused}", exit_status=self.exit_status)

    def interrupt(self) -> None:
        with self._gate:
            if not self._serving or self._released:
                return
            if self._writing or not self._send_interrupt():
                self._interrupt_wanted = True  # whoever writes, or writes next, sends it behind its frame

    # --- the stream ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._allow_cpu()
        with self._gate:
            self._interrupt_wanted = False
            self._writing = True  # until the request is out, an interrupt would go before it and hit nothing
        try:
            super()._begin()
        except BaseException:
            self._writing = False
            raise

    def _send(self, frame: bytes) -> None:
        with self._gate:
            self._writing = True
        super()._send(frame)
        self._flush()

    def _flush(self) -> None:
        """A frame is out: an interrupt may go."""
        with self._gate:
            self._writing = False
            if self._interrupt_wanted and not self._released:
                self._interrupt_wanted = not self._send_interrupt()

    def _send_interrupt(self) -> bool:
        """False: the stream is full. Four bytes go whole or not at all."""
        try:
            self._frames.send(INTERRUPT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a dead worker is for `request` to notice
        return True

    def _send_boot(self, timeout_s: float) -> None:
        boot, self.boot = self.boot, None
        if boot is None:
            return
        give_up_at = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._frames.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            for piece in boot():
                self._frames.settimeout(max(0.001, give_up_at - time.monotonic()))
                self._frames.sendall(piece)
        except TimeoutError:
            raise WorkerCrashed(f"the worker took its image not within {timeout_s:g} s", exit_status=None) from None
        except OSError:
            raise self._crashed() from None
        finally:
            with contextlib.suppress(OSError):
                self._frames.settimeout(None)

    # --- limits -------------------------------------------------------------------------------------------------------

    def _allow_cpu(self) -> None:
        """CPU time for this request, in steps of a few, so that most requests cost a look at the clock. It is moved
        one request before it is needed: nobody waits until the launcher has done it."""
        if self.cpu_allowed_s is None or (pid := self._known_pid()) is None:
            return
        used_s = cpu_seconds(pid)
        if used_s is None or used_s + 2 * self.cpu_allowed_s + 1 <= self._cpu_cap_s:
            return
        cap_s = math.ceil(used_s + CPU_AHEAD * self.cpu_allowed_s) + CPU_SLACK_S
        if self.process.allow_cpu(min(cap_s, MOST)):
            self._cpu_cap_s = cap_s

    def _mapped_bytes(self) -> int:
        """Writable memory that the worker has mapped before its tenant came."""
        pid = self._known_pid()
        if pid is None:
            return BASE_BYTES
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                return int(file.read(200).split()[5]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return BASE_BYTES

    def _known_pid(self) -> int | None:
        """Its `hello` may be here before the launcher's word of its birth, which comes on another channel."""
        return self.pid or self.process.wait_pid(NOTICE_S)
