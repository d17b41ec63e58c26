"""A worker's program without wasm: a guest that does what the source of its cell says, good or bad.

Runs in real fork servers and workers of the tests (`WorkerProgram(("...",), "fake_program", folder)`).
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import os
import resource
import struct
import sys
import threading
from collections.abc import Callable

from cloche.wasm_sandbox.instance import Trapped
from cloche.wasm_sandbox.jail.profile import NO_JAIL, Jail
from cloche.wasm_sandbox.worker import Program

PREFIX = struct.Struct("<II")
_fork = os.fork
Send = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]


def made(header: dict[str, object], *parts: bytes) -> bytes:
    raw = json.dumps({**header, "attachments": [len(part) for part in parts]}).encode()
    return PREFIX.pack(4 + len(raw) + sum(map(len, parts)), len(raw)) + raw + b"".join(parts)


HELLO = made({"type": "hello", "protocol_version": 1, "engine": "fake", "image": "0" * 64})
DONE: dict[str, object] = {
    "type": "done",
    "id": 1,
    "cpu_s": 0.0,
    "memory_bytes": 0,
    "artifacts": [],
    "artifacts_dropped": 0,
}


class FakeGuest:
    def __init__(self, _jail: Jail = NO_JAIL) -> None:
        self.interrupted = threading.Event()

    def handle(self, frame: bytes, send: Send, ask: Ask) -> None:
        request = frame
        _, header_length = PREFIX.unpack_from(request)
        header = json.loads(request[8 : 8 + header_length])
        if header["type"] == "start":
            send(made({"type": "ready"}))
            return
        source = request[8 + header_length :][: header["attachments"][0]].decode()
        action, _, argument = source.partition(" ")
        getattr(self, f"do_{action}")(argument, send, ask)
        send(made(DONE))

    def interrupt(self) -> None:
        self.interrupted.set()

    def rehearse(self) -> None:
        """Nothing to touch."""

    def clear_interrupt(self) -> None:
        self.interrupted.clear()

    def do_nothing(self, _argument: str, _send: Send, _ask: Ask) -> None:
        pass

    def do_interrupted(self, _argument: str, send: Send, _ask: Ask) -> None:
        send(made({"type": "output", "stream": "stdout"}, str(self.interrupted.is_set()).encode()))

    def do_report(self, _argument: str, send: Send, _ask: Ask) -> None:
        report = {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "pgid_is_own": os.getpgid(0) == os.getpid(),
            "sid": os.getsid(0),
            "cwd": os.getcwd(),
            "environ": dict(os.environ),
            "descriptors": {int(name): _link(name) for name in os.listdir("/proc/self/fd") if _link(name)},
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "modules": sorted(sys.modules),
            "path": sys.path,
        }
        send(made({"type": "output", "stream": "stdout"}, json.dumps(report).encode()))

    def do_ask(self, argument: str, _send: Send, ask: Ask) -> None:
        size, _, times = argument.partition(" ")
        question = made({"type": "tool_call", "id": 1, "name": "echo"}, bytes(int(size)))
        for _ in range(int(times or 1)):
            ask(question)

    def do_print(self, argument: str, send: Send, _ask: Ask) -> None:
        size, _, times = argument.partition(" ")
        text = made({"type": "output", "stream": "stdout"}, b"x" * int(size))
        for _ in range(int(times or 1)):
            send(text)

    def do_spin(self, _argument: str, _send: Send, _ask: Ask) -> None:
        """Waits for the interrupt, like a loop that checks for it."""
        self.interrupted.wait()

    def do_stubborn(self, _argument: str, _send: Send, _ask: Ask) -> None:
        while True:
            self.interrupted.wait()

    def do_trap(self, argument: str, _send: Send, _ask: Ask) -> None:
        raise Trapped(argument)

    def do_fail(self, argument: str, _send: Send, _ask: Ask) -> None:
        raise ValueError(argument)

    def do_exit(self, argument: str, _send: Send, _ask: Ask) -> None:
        os._exit(int(argument))

    def do_signal(self, argument: str, _send: Send, _ask: Ask) -> None:
        os.kill(os.getpid(), int(argument))
        threading.Event().wait()  # whichever thread takes it

    def do_raw(self, argument: str, send: Send, _ask: Ask) -> None:
        """Sends what it is told, then waits for ever."""
        send(bytes.fromhex(argument))
        threading.Event().wait()

    def do_burst(self, argument: str, send: Send, _ask: Ask) -> None:
        """Sends what it is told, then ends."""
        send(bytes.fromhex(argument))
        os._exit(0)

    def do_hang_up(self, _argument: str, _send: Send, _ask: Ask) -> None:
        """A worker that closes its channels and lives on, without a watcher that would end it."""
        for descriptor in range(3, 64):  # the watcher sleeps in its read of a socket that only it still holds
            with contextlib.suppress(OSError):
                os.close(descriptor)
        threading.Event().wait()

    def do_chatter(self, argument: str, send: Send, _ask: Ask) -> None:
        """One frame too many after the end, in the same write."""
        send(made(DONE) + made({"type": "output", "stream": "stdout"}, argument.encode()))


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def load_program(mode: str = "good") -> Program:
    if mode == "broken_image":
        from cloche.runtime.errors import ImageError

        raise ImageError("the image is damaged: build it again")
    if mode == "threads":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if mode == "no_guest":
        return Program(HELLO, _no_guest)
    if mode == "silent":
        return Program(HELLO, _never)
    if mode == "old":
        return Program(HELLO.replace(b'"protocol_version": 1', b'"protocol_version": 9'), FakeGuest)
    if mode == "no_fork":
        os.fork = _no_fork
    return Program(HELLO, FakeGuest)


def _no_fork() -> int:
    here = inspect.currentframe()
    if here is None or here.f_back is None or not here.f_back.f_globals["__name__"].endswith(".fork_server"):
        return _fork()  # the jail's own
    raise BlockingIOError(errno.EAGAIN, "no more processes")


def _no_guest(_jail: Jail) -> FakeGuest:
    raise ValueError("no memory for an interpreter")


def _never(_jail: Jail) -> FakeGuest:
    threading.Event().wait()
    raise AssertionError
