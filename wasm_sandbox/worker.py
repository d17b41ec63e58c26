"""What runs in a worker process: one sandbox, from `hello` to the end of the process.

The main thread only watches the control channel: a byte interrupts the guest, the end of the stream ends the process. A
second thread, with a stack for deep recursion in wasm, serves the frames. The rule: nothing returns from here and
nothing is repaired. Every way out is `os._exit`, with a code that the host can name and at most one line of last words.
"""

from __future__ import annotations

import _thread
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import NoReturn, Protocol

from ..runtime.plain import record
from .channel import MAX_REQUEST_BYTES, FrameReader
from .fork_protocol import EXIT_BROKEN, EXIT_HOST_GONE, EXIT_NO_GUEST, EXIT_TRAPPED, LAST_WORDS_BYTES
from .instance import Trapped
from .jail.profile import NO_JAIL, Jail
from .native import THREAD_STACK_BYTES

REHEARSE_AFTER_MS = 20
"""Nobody wants this worker yet: it is a warm one, and rehearses. A cold one hears `start` within a millisecond."""

Send = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]


class Guest(Protocol):
    """One sandbox: `relay.GuestHost`, or a test's stand-in."""

    def handle(self, frame: bytes, send: Send, ask: Ask) -> None:
        """Serve one request of the host and send the frame that ends it."""
        ...

    def interrupt(self) -> None:
        """KeyboardInterrupt in the guest. Any thread."""
        ...

    def clear_interrupt(self) -> None:
        """Take back an interrupt that the guest has not seen."""
        ...

    def rehearse(self) -> None:
        """Touch what a first request needs, while nobody waits."""
        ...


@record
class Program:
    """What the workers of one image have in common."""

    hello: bytes
    """The first frame of each worker's life."""
    make_guest: Callable[[Jail], Guest]
    """A fresh sandbox; called once per worker, on the thread that will serve it. The jail is still open; it
    sets the limits of the process when those of the tenant are known."""


class InterruptGate:
    """Lets an interrupt reach only the request that it was meant for.

    Frames and interrupts travel on two channels, so one may overtake the other. Each interrupt carries the number of
    its request, modulo 256: one for a request that is over is dropped, one for a request on its way is kept for it.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._lock = threading.Lock()
        self._number = 0
        self._open = False
        self._early: int | None = None

    def open(self) -> None:
        """The next request begins."""
        with self._lock:
            self._number = (self._number + 1) & 255
            self._open = True
            early, self._early = self._early, None
            if early == self._number:
                self._guest.interrupt()

    def shut(self) -> None:
        """The request is over; what the guest has not seen of an interrupt is taken back."""
        with self._lock:
            self._open = False
            self._guest.clear_interrupt()

    def deliver(self, number: int) -> None:
        """An interrupt for request `number`. Any thread."""
        with self._lock:
            if self._open and number == self._number:
                self._guest.interrupt()
            else:
                self._early = number


def run_worker(frames: socket.socket, control: socket.socket, program: Program, jail: Jail = NO_JAIL) -> NoReturn:
    """Serve one sandbox in this process until its host is done with it. On the main thread, with no other alive."""
    worker = _Worker(frames, control, program, jail)
    _thread.stack_size(THREAD_STACK_BYTES)
    _thread.start_new_thread(worker.serve, ())  # `threading` would add 0.5 ms of bookkeeping that nobody reads
    worker.watch()


class _Worker:
    def __init__(self, frames: socket.socket, control: socket.socket, program: Program, jail: Jail) -> None:
        self._frames = frames
        self._control = control
        self._program = program
        self._jail = jail
        self._gate: InterruptGate | None = None

    def watch(self) -> NoReturn:
        """Main thread. Between two bytes it holds no lock and no GIL, so that serving pays nothing for it."""
        try:
            while numbers := self._control.recv(64):
                if self._gate is not None:
                    self._gate.deliver(numbers[-1])
        finally:
            os._exit(EXIT_HOST_GONE)

    def serve(self) -> NoReturn:
        """Second thread. A named place of a broad `except`: whatever happens, the process ends here."""
        code = EXIT_NO_GUEST
        try:
            guest = self._program.make_guest(self._jail)
            self._seal()
            self._gate = InterruptGate(guest)
            code = EXIT_BROKEN
            self._serve_requests(guest, self._gate)
        except (EOFError, ConnectionError):
            code = EXIT_HOST_GONE
        except Trapped as exc:
            code = EXIT_TRAPPED if code == EXIT_BROKEN else code
            self._last_words(str(exc))
        except BaseException as exc:  # noqa: BLE001  # the worker loop
            self._last_words(f"{type(exc).__name__}: {exc}")
        finally:
            os._exit(code)

    def _serve_requests(self, guest: Guest, gate: InterruptGate) -> NoReturn:
        reader = FrameReader(self._frames, MAX_REQUEST_BYTES)
        send = self._frames.sendall

        def ask(question: bytes) -> bytes:
            send(question)
            return reader.read()

        send(self._program.hello)
        incoming = select.poll()
        incoming.register(self._frames, select.POLLIN)
        if not incoming.poll(REHEARSE_AFTER_MS):
            guest.rehearse()
        while True:
            frame = reader.read()
            gate.open()
            guest.handle(frame, send, ask)
            gate.shut()

    def _seal(self) -> None:
        """Leave nothing open but the null device and the two channels, and close the jail around both threads.

        Not before the instance is made: its memory is mapped from the compiled module's file. This is after the last
        thing that needs the outside, and before the first byte of a tenant.
        """
        channels = self._frames.fileno(), self._control.fileno()
        close_other_descriptors(*channels)
        self._jail.seal(max(channels) + 1)

    def _last_words(self, text: str) -> None:
        """One line for the host's error message. It has room for it: nothing else is ever sent this way."""
        try:
            self._control.send(text.encode("utf-8", "replace")[:LAST_WORDS_BYTES])
        except OSError:
            return


def close_other_descriptors(*keep: int) -> None:
    """Close every descriptor of this process above 2 that is not named."""
    low = 3
    for descriptor in sorted(keep):
        if descriptor >= low:
            os.closerange(low, descriptor)
            low = descriptor + 1
    os.closerange(low, max(low, os.sysconf("SC_OPEN_MAX")))
