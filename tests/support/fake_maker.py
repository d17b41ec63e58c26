"""Workers that are sockets and flags instead of processes, for tests of the pool."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from cloche.runtime.errors import WorkerCrashed
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import PROTOCOL_VERSION, Hello, render

HELLO = render(Hello(protocol_version=PROTOCOL_VERSION, engine="fake", image="0" * 64))


class FakeProcess:
    """Dies when it is told to, at once."""

    failure: str | None = None
    pid = None

    def __init__(self) -> None:
        self.exit_status: int | None = None
        self.exited = False
        self.callbacks: list[Callable[[], None]] = []

    def cap_memory(self, mebibytes: int, timeout_s: float) -> str | None:
        """There is no process to cap."""
        return None

    def allow_cpu(self, seconds: int) -> bool:
        return True

    def kill(self) -> None:
        self.die(-9)

    def die(self, status: int) -> None:
        if not self.exited:
            self.exit_status = status
            self.tell()
            self.exited = True

    def tell(self) -> None:
        """Who asked for it hears of its death. `exited` comes later, as it does in real life."""
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    def wait(self, timeout_s: float) -> bool:
        return self.exited

    def wait_birth(self, timeout_s: float) -> bool:
        return True

    def wait_pid(self, timeout_s: float) -> int | None:
        return self.pid

    def on_exit(self, callback: Callable[[], None]) -> None:
        if self.exited:
            callback()
        else:
            self.callbacks.append(callback)


class FakeMaker:
    """Counts what it makes. `broken`: workers die before they say hello."""

    def __init__(self) -> None:
        self.alive = True
        self.broken = 0
        self.made: list[FakeProcess] = []
        self.far_ends: list[socket.socket] = []
        self.started = threading.Semaphore(0)

    def start_worker(self) -> ProcessLink:
        if not self.alive:
            raise WorkerCrashed("the fork server is gone")
        frames, far = socket.socketpair()
        control, far_control = socket.socketpair()
        process = FakeProcess()
        self.made.append(process)
        self.far_ends += [far, far_control]
        link = ProcessLink(frames, control, process)
        if self.broken:
            self.broken -= 1
            process.die(82)
        else:
            far.sendall(HELLO)
        self.started.release()
        return link

    def close(self) -> None:
        self.alive = False
        for process in self.made:
            process.kill()
        for sock in self.far_ends:
            sock.close()

    @property
    def living(self) -> int:
        return sum(not process.exited for process in self.made)
