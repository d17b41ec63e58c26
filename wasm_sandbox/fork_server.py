"""The fork server: a process with one thread that loads an image once and forks a worker for each request of its host.

The rule: it never sees tenant data, because code, inputs and tools travel on each worker's own channel, of which it
keeps no copy. Nobody outlives anybody: it ends with its host (closed socket, or the host's pidfd) and kills its workers
first; should it die itself, the kernel kills them. Messages: fork_protocol.py.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import NoReturn

from ..runtime.plain import compile_records
from . import process_state
from .fork_protocol import CAPPED, CPU, EXIT_BROKEN, EXITED, FAILED, FORK, FORKED, KILL, MEMORY, MESSAGE, READY
from .jail import rlimits
from .jail.profile import raise_walls
from .jail.report import PID, Record, encode
from .worker import Program, run_worker

LAST_REAP_S = 2.0
"""A killed process is gone at once, unless the kernel holds it in a driver."""
Become = Callable[[socket.socket, socket.socket], NoReturn]
"""What a forked process does with its two channels for the rest of its life."""
PARENT_CHECK_MS = 1000
"""How often a system without pidfds is asked whether the host still lives."""


def serve(host_fd: int, host_pid: int, program: Program, without: Collection[str] = ()) -> NoReturn:
    """Raise the jail, then fork workers for the host at the other end of `host_fd` until it is gone. Ends the process.

    Args:
        without: walls to leave out.

    Raises:
        RuntimeError: before anything is served: this process has a second thread, so a fork would be unsafe.
    """
    if threading.active_count() != 1 or process_state.thread_count() != 1:
        raise RuntimeError("a fork server must have one thread")
    host = Host(host_pid)
    # Without a pidfd only the parent's pid tells whether the host lives, and that is not to be seen from inside.
    jail = raise_walls([*without, PID] if host.pidfd is None else without)
    server = Server(
        socket.socket(fileno=host_fd),
        host,
        jail.records,
        lambda frames, control: run_worker(frames, control, program, jail),
    )
    run(server)


def run(server: Server) -> NoReturn:
    """Serve, and end this process."""
    try:
        server.run()
    finally:
        server.kill_all()
        os._exit(0)


class Host:
    """The process to serve, looked up while it can be seen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = process_state.pidfd_open(pid)
        self.gone = os.getppid() != pid


class Server:
    """Forks a worker for each request of its host, and reaps it."""

    def __init__(self, channel: socket.socket, host: Host, records: Sequence[Record], become: Become) -> None:
        self._host = channel
        self._host_pid = host.pid
        self._host_pidfd = host.pidfd
        self._host_gone = host.gone
        self._records = records
        self._become = become
        self._pid = os.getpid()
        self._workers: dict[int, int] = {}
        """pid -> number of the worker, for each child that was not reaped yet."""
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> None:
        """Serve until the host is gone."""
        self._listen_to_children()
        compile_records()
        gc.freeze()  # a collection in a worker must not write to the pages that all share
        process_state.silence_stderr()
        self._tell(READY, self._pid, descriptor=process_state.pidfd_open(self._pid), more=encode(self._records))
        poll = select.poll()
        for descriptor in (self._host.fileno(), self._wake_read, self._host_pidfd):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        pause_ms = PARENT_CHECK_MS if self._host_pidfd is None else None
        while not self._host_gone:
            for descriptor, _ in poll.poll(pause_ms):
                self._serve_event(descriptor)
            if pause_ms is not None and os.getppid() != self._host_pid:
                return

    def _serve_event(self, descriptor: int) -> None:
        if descriptor == self._wake_read:
            os.read(self._wake_read, 4096)
            self._reap()
        elif descriptor == self._host_pidfd or not self._answer():
            self._host_gone = True

    def kill_all(self) -> None:
        """SIGKILL to every worker, and wait for them a short while."""
        self._host_gone = True
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        give_up_at = time.monotonic() + LAST_REAP_S
        while self._workers and time.monotonic() < give_up_at:
            if select.select([self._wake_read], [], [], 0.05)[0]:
                os.read(self._wake_read, 4096)
            self._reap()

    def _listen_to_children(self) -> None:
        os.set_blocking(self._wake_write, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _answer(self) -> bool:
        """Serve one message of the host. False: it is gone."""
        data, descriptors, _flags, _address = socket.recv_fds(self._host, MESSAGE.size, 2)
        if len(data) != MESSAGE.size:
            return False
        kind, value, number = MESSAGE.unpack(data)
        if kind == FORK and len(descriptors) == 2:
            self._fork(number, descriptors[0], descriptors[1])
        elif kind == KILL:
            self._kill(number)
        elif kind == MEMORY:
            self._tell(CAPPED, self._cap_memory(number, value), number)
        elif kind == CPU:
            for pid in self._pids_of(number):
                rlimits.limit_cpu_of(pid, value)
        else:
            return False
        return True

    def _fork(self, number: int, frames_fd: int, control_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError as exc:
            pid = -1
            self._tell(FAILED, exc.errno or 0, number)
        if pid == 0:
            self._become_worker(frames_fd, control_fd)
        os.close(frames_fd)
        os.close(control_fd)
        if pid > 0:
            self._workers[pid] = number
            self._tell(FORKED, pid, number, process_state.pidfd_open(pid))

    def _become_worker(self, frames_fd: int, control_fd: int) -> NoReturn:
        try:
            process_state.die_with_parent(self._pid)
            signal.set_wakeup_fd(-1)
            self._host.close()
            self._become(socket.socket(fileno=frames_fd), socket.socket(fileno=control_fd))
        finally:
            os._exit(EXIT_BROKEN)

    def _kill(self, number: int) -> None:
        """For hosts without pidfds. A child that was not reaped keeps its pid, so this cannot hit a stranger."""
        for pid in self._pids_of(number):
            os.kill(pid, signal.SIGKILL)

    def _cap_memory(self, number: int, mebibytes: int) -> int:
        """0, or the errno. A worker that is gone cannot be capped, and needs no cap."""
        try:
            for pid in self._pids_of(number):
                rlimits.limit_memory_of(pid, mebibytes)
        except ProcessLookupError:
            pass
        except OSError as exc:
            return exc.errno or errno.EPERM
        return 0

    def _pids_of(self, number: int) -> list[int]:
        """Of the worker with this number: one, or none that was not reaped."""
        return [pid for pid, owner in self._workers.items() if owner == number]

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._workers.pop(pid, None)
            if number is not None:
                self._tell(EXITED, os.waitstatus_to_exitcode(status), number)

    def _tell(self, kind: int, value: int, number: int = 0, descriptor: int | None = None, more: bytes = b"") -> None:
        """A message to the host; a host that is gone is noted and nothing else."""
        message = MESSAGE.pack(kind, value, number) + more
        try:
            if self._host_gone:
                return
            if descriptor is None:
                self._host.sendall(message)
            else:
                socket.send_fds(self._host, [message], [descriptor])
        except OSError:
            self._host_gone = True
        finally:
            if descriptor is not None:
                os.close(descriptor)


def main(arguments: list[str]) -> NoReturn:
    """Descriptor of the host's socket, pid of the host, walls to leave out, module of the program, then what its
    `load_program` takes."""
    process_state.prepare("cloche-forks")
    program: Program = import_module(arguments[3]).load_program(*arguments[4:])
    serve(int(arguments[0]), int(arguments[1]), program, arguments[2].split(","))
