"""The host's side of the fork server: starts it, asks it for workers, hears of their deaths.

The rule: one reader thread per server takes its messages, and no caller ever waits for the server itself. A caller
waits for its worker's `hello`, with a deadline; what the server says about pids and deaths arrives beside that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Collection

from ..wasm_sandbox.fork_protocol import CAPPED, CPU, EXITED, FAILED, FORK, FORKED, KILL, MEMORY, MESSAGE, READY
from ..wasm_sandbox.jail.report import REPORT_BYTES, Record, decode
from .errors import MACHINE_RETRY_S, PoolExhausted, UsedAfterFork, WorkerCrashed
from .interpreter import WorkerProgram
from .niceness import priority_record
from .pidfds import lost_descriptor, pid_of, receive
from .process_link import ProcessLink
from .server_start import ENTRY, START_DEADLINE_S, StartingServer, failed_start
from .threads import start_thread

EXIT_DEADLINE_S = 5.0
"""The server kills and reaps its workers first; after this it is killed, and the kernel kills them."""


class ForkServer:
    """One fork server process. Safe to use from any thread; the caller closes it."""

    def __init__(
        self,
        program: WorkerProgram | StartingServer,
        *,
        without: Collection[str] = (),
        entry: str = ENTRY,
        link: type[ProcessLink] = ProcessLink,
    ) -> None:
        """Start the process and wait until it has loaded its image and raised its jail.

        Args:
            program: what its workers run; or the process, if it was started before, with these arguments of its own.
            without: walls of the jail to leave out (`wasm_sandbox.jail.report`); for tests of the others.
            entry: the module that serves; another engine has its own.
            link: what a worker of it is to the host.

        Raises:
            ImageError: it could not load the image; the message has its words.
            ConfigError: no Python to start.
            PoolExhausted: this process has no descriptors or threads left.
        """
        started = program
        if not isinstance(started, StartingServer):
            started = StartingServer(started, without=without, entry=entry)
        self._owner = started.owner
        self._link = link
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._workers: dict[int, ForkedProcess] = {}
        self._alive = True
        self._socket, self._process = started.channel, started.process
        self._gives_pidfds = self._gives_pids = True
        """What its births must come with, as READY did: a pidfd, and a pid that can be read from it."""
        self._pid, jail = self._wait_ready()
        self.walls = [*jail, priority_record(self._pid)]
        try:
            self._listener = start_thread("cloche-fork-server", self._listen)
        except PoolExhausted:
            self._end_at_start()
            raise

    @property
    def alive(self) -> bool:
        """False once the process is gone; its workers died with it."""
        return self._alive

    @property
    def pid(self) -> int:
        """Of the process that forks. With a pid namespace the one that the host started only waits for it."""
        return self._pid

    def start_worker(self) -> ProcessLink:
        """A worker that is being forked; its `hello` is still to come. The caller closes it.

        Raises:
            WorkerCrashed: the server is gone.
            PoolExhausted: this process or the machine has no descriptors left.
        """
        if os.getpid() != self._owner:
            raise UsedAfterFork("this runtime belongs to the parent process; make a new one here")
        frames, their_frames, control, their_control = open_channels()
        with their_frames, their_control:
            process = ForkedProcess(self, next(self._numbers))
            link = self._link(frames, control, process)
            with self._lock:
                self._workers[process.number] = process
            try:
                self._send(FORK, process.number, [their_frames.fileno(), their_control.fileno()])
            except OSError:
                self._alive = False  # known before the kernel tells of its death
                self._forget(process.number, None)
                link.close(0)
                raise WorkerCrashed("the fork server is gone") from None
        if not self._alive:
            self._forget(process.number, None)
        return link

    def close(self) -> None:
        """End the server and with it all its workers; waits for that, for a bounded time. Idempotent."""
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(EXIT_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._listener is not threading.current_thread():
            self._listener.join(EXIT_DEADLINE_S)
        if not self._listener.is_alive():
            self._socket.close()

    def request_kill(self, number: int) -> None:
        """Where the host holds no pidfd: the server kills. Never blocks."""
        with contextlib.suppress(OSError):
            self._send(KILL, number, [])

    def request_limit(self, kind: int, number: int, value: int) -> bool:
        """Ask for a resource limit of a worker that cannot set it itself: `MEMORY` in MiB, which is answered with
        `CAPPED`, or `CPU` in seconds. Never blocks; False if the server is gone or takes nothing now."""
        try:
            self._send(kind, number, [], value)
        except OSError:
            return False
        return True

    # --- start --------------------------------------------------------------------------------------------------------

    def _wait_ready(self) -> tuple[int, list[Record]]:
        """Pid of the server, and the walls that it has raised."""
        self._socket.settimeout(START_DEADLINE_S)
        hangs = False
        try:
            message, pidfd = receive(self._socket, MESSAGE.size + REPORT_BYTES)
        except OSError as exc:
            message, pidfd, hangs = b"", None, isinstance(exc, TimeoutError)
        if len(message) > MESSAGE.size and MESSAGE.unpack_from(message)[0] == READY:
            self._socket.settimeout(None)
            if self._process.stderr is not None:
                self._process.stderr.close()
            return self._pid_at_start(MESSAGE.unpack_from(message)[1], pidfd), decode(message[MESSAGE.size :])
        self._socket.close()
        raise failed_start(self._process, hangs=hangs)

    def _pid_at_start(self, label: int, pidfd: int | None) -> int:
        """Pid of the server. A system without pidfds, or without /proc, is one where no worker will have them either.
        Raises PoolExhausted where this process had no descriptor for it; the server is ended then."""
        self._gives_pidfds = pidfd is not None
        try:
            if pidfd is None and label != self._process.pid:  # it counts in a namespace of its own, so it has sent one
                raise lost_descriptor()
            return (pidfd is not None and pid_of(pidfd)) or self._process.pid
        except (FileNotFoundError, PermissionError):
            self._gives_pids = False
            return self._process.pid
        except OSError as exc:
            self._end_at_start()
            raise PoolExhausted(f"no hold on the fork server: {exc.strerror}", retry_after_s=MACHINE_RETRY_S) from exc
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _end_at_start(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    # --- the reader thread --------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Until the server is gone, however that came: then all its workers are, too."""
        try:
            while self._take_message():
                pass
        except OSError:
            pass
        self._alive = False
        with self._lock:
            numbers = list(self._workers)
        for number in numbers:
            self._forget(number, None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_DEADLINE_S)

    def _take_message(self) -> bool:
        data, pidfd = receive(self._socket, MESSAGE.size)
        if len(data) != MESSAGE.size:
            return False
        kind, value, number = MESSAGE.unpack(data)
        with self._lock:
            process = self._workers.get(number)
        if kind == FORKED and process is not None:
            pidfd = None if self._note_birth(process, value, pidfd) else pidfd
        elif kind == CAPPED and process is not None:
            process.capped(value)
        elif kind == EXITED:
            self._forget(number, value)
        elif kind == FAILED:
            self._forget(number, None, f"no process for a worker: {os.strerror(value)}")
        if pidfd is not None:
            os.close(pidfd)
        return True

    def _note_birth(self, process: ForkedProcess, label: int, pidfd: int | None) -> bool:
        """Tell a worker its pid; True if it has taken the pidfd. `label`: its pid on the server's side, which may be
        another process's here. A worker that nobody could look at from outside is not used: its birth has failed."""
        pid = None
        try:
            if pidfd is None:
                if self._gives_pidfds:
                    raise lost_descriptor()
                pid = label
            elif self._gives_pids:
                pid = pid_of(pidfd)
                if pid is None:
                    return False  # it has ended already, and EXITED will say how
        except OSError as exc:
            process.miscarried(f"no hold on a new worker: {exc.strerror}")
            return False
        process.born(pid, pidfd)
        return True

    def _forget(self, number: int, status: int | None, failure: str | None = None) -> None:
        with self._lock:
            process = self._workers.pop(number, None)
        if process is not None:
            process.died(status, failure)

    def _send(self, kind: int, number: int, descriptors: list[int], value: int = 0) -> None:
        message = [MESSAGE.pack(kind, value, number)]
        with self._lock:
            if descriptors:
                socket.send_fds(self._socket, message, descriptors)
            else:
                self._socket.sendmsg(message, (), socket.MSG_DONTWAIT)


class ForkedProcess:
    """A `WorkerProcess` that the fork server made and reaps; the host kills it through a pidfd."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self.number = number
        self._server = server
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._pidfd: int | None = None
        self._status: int | None = None
        self.failure: str | None = None
        """Why it never ran."""
        self._dead = threading.Event()
        self._known = threading.Event()
        """Set once the pid is known, or will never be."""
        self._kill_asked = False
        self._answered = threading.Event()
        """Set once its memory is capped, or will never be."""
        self._refusal: str | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def exit_status(self) -> int | None:
        return self._status

    @property
    def exited(self) -> bool:
        return self._dead.is_set()

    def kill(self) -> None:
        with self._lock:
            self._kill_asked = True
            if self._dead.is_set() or (self._pid is None and self._pidfd is None and self.failure is None):
                return  # a worker that is not born yet is killed at birth
            if self._pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                return
        self._server.request_kill(self.number)

    def cap_memory(self, mebibytes: int, timeout_s: float) -> str | None:
        if not self._server.request_limit(MEMORY, self.number, mebibytes):
            return "its launcher takes no message"
        if not self._answered.wait(timeout_s):
            return f"its launcher did not answer within {timeout_s:g} s"
        return self._refusal

    def allow_cpu(self, seconds: int) -> bool:
        return self._server.request_limit(CPU, self.number, seconds)

    def wait(self, timeout_s: float) -> bool:
        return self._dead.wait(timeout_s)

    def wait_birth(self, timeout_s: float) -> bool:
        return self._known.wait(timeout_s)

    def wait_pid(self, timeout_s: float) -> int | None:
        self._known.wait(timeout_s)
        return self._pid

    def on_exit(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._dead.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def born(self, pid: int | None, pidfd: int | None) -> None:
        """The server forked it. `pid`: None where nothing tells it. The pidfd is the worker's from now on."""
        with self._lock:
            self._pid, self._pidfd = pid, pidfd
            kill_now = self._kill_asked
        self._known.set()
        if kill_now:
            self.kill()

    def miscarried(self, failure: str) -> None:
        """The server forked it, but it cannot be used, for this reason. The server kills it and will tell of its death;
        should the message not get through, the next `kill` or the end of its channel ends it."""
        self.failure = failure
        self._known.set()
        self._server.request_kill(self.number)

    def capped(self, refused: int) -> None:
        """The server capped its memory, or could not, for this errno."""
        self._refusal = os.strerror(refused) if refused else None
        self._answered.set()

    def died(self, status: int | None, failure: str | None = None) -> None:
        """The server reaped it, could not fork it (`failure` says why), or is gone itself (neither is known)."""
        with self._lock:
            self._status, self.failure = status, self.failure or failure
            self._known.set()
            self._answered.set()
            pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            if status is None:  # the kernel kills it too, for the death of its parent
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        while True:  # callbacks come first: after `wait` its place in the pool is free
            with self._lock:
                callbacks, self._callbacks = self._callbacks, []
                if not callbacks:
                    self._dead.set()
                    return
            for callback in callbacks:
                callback()


def open_channels() -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
    """Two connected pairs: frames (ours, the worker's), control (ours, the worker's)."""
    pairs: list[socket.socket] = []
    try:
        for _ in range(2):
            pairs += socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as exc:
        for sock in pairs:
            sock.close()
        raise PoolExhausted(f"no channel for a worker: {exc.strerror}", retry_after_s=MACHINE_RETRY_S) from exc
    return pairs[0], pairs[1], pairs[2], pairs[3]
