"""The launcher of Deno workers: a process with one thread that starts a jailed Deno for each request of its host.

The rule: it is a fork server like that of the other engine, with the same messages, deaths and reaping; only what a
forked process does differs. It puts its frames channel on standard input and output, its control channel on standard
error, closes the jail and becomes Deno. The launcher itself reads nothing that a guest wrote.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

from . import process_state
from .fork_protocol import EXIT_NO_GUEST, LAST_WORDS_BYTES
from .fork_server import Host, Server, run
from .jail import one_start
from .jail.deno_profile import DenoJail, Exhibits, raise_walls
from .jail.report import PID


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker becomes, as the host found it."""

    exhibits: Exhibits
    arguments: tuple[str, ...]
    """Behind the program's name. The last is the script to run, in the exhibits' folder of scripts."""
    environment: dict[str, str]


def encode_start(start: Start) -> str:
    """The start as one argument of a command line."""
    exhibits = start.exhibits
    return json.dumps(
        {
            "program": exhibits.program,
            "interpreter": exhibits.interpreter,
            "files": exhibits.files,
            "scripts": exhibits.scripts,
            "arguments": start.arguments,
            "environment": start.environment,
        }
    )


def decode_start(text: str) -> Start:
    """What `encode_start` wrote; both ends are ours."""
    fields: dict[str, Any] = json.loads(text)
    exhibits = Exhibits(fields["program"], fields["interpreter"], tuple(fields["files"]), fields["scripts"])
    return Start(exhibits, tuple(fields["arguments"]), dict(fields["environment"]))


class Launcher(Server):
    """Forks, lets the child start its one program, and reaps it."""

    def __init__(self, channel: socket.socket, host: Host, start: Start, jail: DenoJail) -> None:
        super().__init__(channel, host, jail.records, self._become_deno)
        self._start = start
        self._jail = jail
        self._permission: socket.socket | None = None
        """The child's end of the channel on which the launcher hears of its start."""

    def _fork(self, number: int, frames_fd: int, control_fd: int) -> None:
        if not self._jail.asks:
            super()._fork(number, frames_fd, control_fd)
            return
        ours, self._permission = socket.socketpair()
        with ours:
            try:
                super()._fork(number, frames_fd, control_fd)
            finally:
                self._permission.close()
            one_start.let_start(ours)

    def _cap_memory(self, number: int, mebibytes: int) -> int:
        return super()._cap_memory(number, mebibytes) if self._jail.limits else 0  # the report says that none is

    def _become_deno(self, frames: socket.socket, control: socket.socket) -> NoReturn:
        try:
            permission = None if self._permission is None else socket.socket(fileno=self._permission.detach())
            kept = _take_standard_streams(frames, control, permission)
            self._jail.seal(kept)
            seen = self._jail.seen or self._start.exhibits
            *arguments, script = self._start.arguments
            command = [seen.program, *arguments, os.path.join(seen.scripts, os.path.basename(script))]
            os.execve(seen.program, command, self._start.environment)  # noqa: S606  # found by us
        except OSError as exc:
            os.write(2, f"{type(exc).__name__}: {exc}".encode()[:LAST_WORDS_BYTES])
        finally:
            os._exit(EXIT_NO_GUEST)


def _take_standard_streams(
    frames: socket.socket, control: socket.socket, permission: socket.socket | None
) -> socket.socket | None:
    """Leave nothing open but the channels at 0, 1 and 2, and the permission, which moves to 3 and is not inherited."""
    held = [frames.detach(), control.detach()]
    if permission is not None:
        held.append(permission.detach())
    clear = [os.dup(number) for number in held]  # none of these is 0 to 3 any more, or is above them
    while min(clear) <= 3:
        clear = [os.dup(number) for number in clear]
    for target, number in ((0, clear[0]), (1, clear[0]), (2, clear[1])):
        os.dup2(number, target)
    if permission is None:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        return None
    os.dup2(clear[2], 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=3)


def main(arguments: list[str]) -> NoReturn:
    """Descriptor of the host's socket, pid of the host, walls to leave out, our own module, the start.

    Raises:
        RuntimeError: before anything is served: this process has a second thread, so a fork would be unsafe.
    """
    process_state.prepare("cloche-denos")
    if threading.active_count() != 1 or process_state.thread_count() != 1:
        raise RuntimeError("a launcher must have one thread")
    host, start = Host(int(arguments[1])), decode_start(arguments[4])
    without = arguments[2].split(",")
    jail = raise_walls(start.exhibits, [*without, PID] if host.pidfd is None else without)
    run(Launcher(socket.socket(fileno=int(arguments[0])), host, start, jail))
