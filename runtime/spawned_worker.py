"""Workers without a fork server, where forking is not safe: each is a process of its own that loads the image itself.

The rule: the same code runs in it, behind the same link. It costs some 0.2 s and more memory per worker, which the
pool's spare hides, and a worker that ignores its closed channel can outlive a host that was killed.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable

from ..wasm_sandbox.jail.report import Record, all_missing
from .errors import UsedAfterFork
from .fork_server import open_channels
from .interpreter import WorkerProgram, start_python
from .process_link import ProcessLink

ENTRY = "cloche.wasm_sandbox.spawned"


class WorkerSpawner:
    """Makes spawned workers. Safe to use from any thread."""

    def __init__(self, program: WorkerProgram) -> None:
        self._program = program
        self._owner = os.getpid()
        self._gate = threading.Lock()
        self._links: set[ProcessLink] = set()

    @property
    def alive(self) -> bool:
        """There is no server that could die."""
        return True

    @property
    def pid(self) -> None:
        """There is no server."""

    @property
    def walls(self) -> list[Record]:
        """None of the jail's: it is made for fork servers."""
        return all_missing("a worker without a fork server has no jail")

    def start_worker(self) -> ProcessLink:
        """See `ForkServer.start_worker`."""
        if os.getpid() != self._owner:
            raise UsedAfterFork("this runtime belongs to the parent process; make a new one here")
        frames, their_frames, control, their_control = open_channels()
        with their_frames, their_control:
            given = [str(their_frames.fileno()), str(their_control.fileno())]
            try:
                started = start_python(ENTRY, given, self._program, [their_frames, their_control])
            except BaseException:
                frames.close()
                control.close()
                raise
        process = SpawnedProcess(started)
        link = ProcessLink(frames, control, process)
        with self._gate:
            self._links.add(link)
        process.on_exit(lambda: self._forget(link))
        return link

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        with self._gate:
            links = list(self._links)
        for link in links:
            link.kill()
        for link in links:
            link.close(1.0)

    def _forget(self, link: ProcessLink) -> None:
        with self._gate:
            self._links.discard(link)


class SpawnedProcess:
    """A `WorkerProcess` that the host started itself and reaps on a thread of its own."""

    failure: str | None = None

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._gate = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._dead = threading.Event()
        if process.stderr is not None:
            process.stderr.close()
        threading.Thread(target=self._reap, name="cloche-reap", daemon=True).start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        return self._process.returncode

    @property
    def exited(self) -> bool:
        return self._dead.is_set()

    def kill(self) -> None:
        self._process.kill()  # never a stranger: `Popen` knows whether it has reaped the process

    def cap_memory(self, mebibytes: int, timeout_s: float) -> str | None:
        """It caps its own memory: nothing is done from outside."""
        return None

    def allow_cpu(self, seconds: int) -> bool:
        """As its memory."""
        return True

    def wait(self, timeout_s: float) -> bool:
        return self._dead.wait(timeout_s)

    def wait_birth(self, timeout_s: float) -> bool:
        return True

    def wait_pid(self, timeout_s: float) -> int | None:
        return self.pid

    def on_exit(self, callback: Callable[[], None]) -> None:
        with self._gate:
            if not self._dead.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _reap(self) -> None:
        self._process.wait()
        while True:
            with self._gate:
                callbacks, self._callbacks = self._callbacks, []
                if not callbacks:
                    self._dead.set()
                    return
            for callback in callbacks:
                callback()
