"""A worker's program whose guest has already won: its cells are attacks by native means from inside the worker process.

Each attack returns what it gained, or raises OSError when the kernel refused it. What the jail does to the same calls
is the test's business.
"""

from __future__ import annotations

import _thread
import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable

from cloche.wasm_sandbox.jail.profile import Jail
from cloche.wasm_sandbox.relay import build_frame
from cloche.wasm_sandbox.worker import Program

Send = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_CALLS = {  # name: (x86_64, aarch64)
    "add_key": (248, 217), "bpf": (321, 280), "capset": (126, 91), "clone3": (435, 435), "io_uring_setup": (425, 425),
    "memfd_create": (319, 279), "perf_event_open": (298, 241), "personality": (135, 92), "process_vm_readv": (310, 270),
    "ptrace": (101, 117), "seccomp": (317, 277), "setns": (308, 268), "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip
NUMBERS = {name: numbers[os.uname().machine == "aarch64"] for name, numbers in _CALLS.items()}
PRIVATE_ANONYMOUS, SHARED_ANONYMOUS, NO_RESERVE = 0x22, 0x21, 0x4000
NO_HUGE_PAGES = 15
_callback = ctypes.CFUNCTYPE(None)(lambda: None)
READ_ONLY, READ_WRITE, READ_EXEC, ALL = 1, 3, 5, 7


def checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def call(name: str, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return checked(libc.syscall(ctypes.c_long(NUMBERS[name]), *words))


def mapping(protection: int, flags: int = PRIVATE_ANONYMOUS, size: int = 4096) -> int:
    address = libc.mmap(None, size, protection, flags, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        checked(-1)
    return int(address)


# --- files ------------------------------------------------------------------------------------------------------------


def open_file(path: str) -> object:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def create_file(path: str) -> object:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)
    return path


def list_folder(path: str) -> object:
    return os.listdir(path) or "empty"


def look_at_file(path: str) -> object:
    return os.stat(path).st_size


def read_environment(pid: str) -> object:
    return open_file(f"/proc/{pid}/environ")


def change_root(_: str) -> object:
    os.chroot("/")
    return "chrooted"


# --- network ----------------------------------------------------------------------------------------------------------


def make_socket(_: str) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made_socket:
        return made_socket.fileno()


def make_unix_socket(_: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made_socket:
        return made_socket.fileno()


def connect_to(port: str) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made_socket:
        made_socket.settimeout(2)
        made_socket.connect(("127.0.0.1", int(port)))
        return "connected"


def connect_to_abstract(name: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made_socket:
        made_socket.connect("\0" + name)
        return "connected"


# --- processes --------------------------------------------------------------------------------------------------------


def fork(_: str) -> object:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def make_thread(_: str) -> object:
    try:
        return _thread.start_new_thread(time.monotonic, ())
    except RuntimeError:
        raise BlockingIOError("no thread") from None


def run_program(_: str) -> object:
    os.execv("/bin/true", ["true"])  # noqa: S606  # the attack


def kill_host(pid: str) -> object:
    os.kill(int(pid), 0)
    return "could be killed"


def kill_parent(_: str) -> object:
    os.kill(os.getppid(), 0)
    return "could be killed"


def kill_all_others(_: str) -> object:
    os.kill(-1, signal.SIGCONT)
    return "signalled"


def trace_host(pid: str) -> object:
    call("ptrace", 0x4206, int(pid), 0, 0)  # PTRACE_SEIZE, which does not stop it
    return "traced"


def read_host_memory(pid: str) -> object:
    call("process_vm_readv", int(pid), 0, 0, 0, 0, 0)
    return "read"


def hold_process(pid: str) -> object:
    os.close(os.pidfd_open(int(pid)))
    return "held"


# --- memory and code --------------------------------------------------------------------------------------------------


def map_code(_: str) -> object:
    return mapping(READ_EXEC)


def make_code(_: str) -> object:
    return checked(libc.mprotect(mapping(READ_WRITE), 4096, READ_EXEC)) or "executable"


def write_code(_: str) -> object:
    """Code of ctypes, as every worker has it for its imports. The kernel says whether it can be written."""
    place = ctypes.cast(_callback, ctypes.c_void_p).value or 0
    checked(libc.getrandom(ctypes.c_void_p(place | 4095), ctypes.c_size_t(1), 0))  # past all code of the page
    return "written"


def share_memory(_: str) -> object:
    return mapping(READ_WRITE, SHARED_ANONYMOUS)


def memory_file(_: str) -> object:
    return call("memfd_create", b"x", 0)


def take_memory(mebibytes: str) -> object:
    """Private and written, past everything that a sandbox's limits allow."""
    size = int(mebibytes) << 20
    address = mapping(READ_WRITE, PRIVATE_ANONYMOUS, size)
    return address


def fill_page_tables(mebibytes: str) -> object:
    """Memory that is only read is resident nowhere; what the kernel notes about it is, in no count of the process."""
    step = 2 << 20
    count = (int(mebibytes) << 20) // 4096
    address = mapping(READ_ONLY, PRIVATE_ANONYMOUS | NO_RESERVE, count * step)
    checked(libc.madvise(address, count * step, NO_HUGE_PAGES))
    for at in range(address, address + count * step, step):
        ctypes.string_at(at, 1)
    return "filled"


def end_first_thread_and_fill(mebibytes: str) -> object:
    """The handler of signal 60 is `syscall`, whose first argument is then 60: `exit` on x86_64, which ends one
    thread."""
    libc.signal(60, libc.syscall)
    checked(libc.tgkill(os.getpid(), os.getpid(), 60))
    return fill_page_tables(mebibytes)


# --- the jail itself --------------------------------------------------------------------------------------------------


def raise_limits(_: str) -> object:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10_000, 10_000))
    except ValueError:  # how this module says EPERM
        raise PermissionError from None
    return "raised"


def more_descriptors(_: str) -> object:
    return [os.dup(1) for _ in range(64)][-1]


def become_dumpable(_: str) -> object:
    checked(libc.prctl(4, 1, 0, 0, 0))
    return "dumpable"


def leave_namespace(_: str) -> object:
    return call("unshare", 0x10000000) or "left"  # works nowhere with two threads: the control does another


def mount(_: str) -> object:
    return checked(libc.mount(b"none", b"/tmp", b"tmpfs", 4096, None)) or "mounted"


def change_user(_: str) -> object:
    os.setresuid(0, 0, 0)
    return "root"


def machine_name(_: str) -> object:
    return os.uname().nodename


# --- doors of the kernel ----------------------------------------------------------------------------------------------


def door(name: str) -> object:
    """A call with arguments that are wrong: EINVAL, EFAULT and the like show that the kernel would have listened."""
    try:
        return call(name, 0xFFFF, 0, 0, 0, 0) or "open"
    except OSError as exc:
        if exc.errno in (1, 13, 38):
            raise
        return f"listens ({exc.errno})"


HELLO = build_frame({"type": "hello", "protocol_version": 1, "engine": "fake", "image": "0" * 64, "attachments": []})
READY = build_frame({"type": "ready", "attachments": []})


def _wait(seconds: float) -> bytes:
    return build_frame({"type": "wait", "timeout_s": seconds, "any_result": True, "attachments": []})


def done(cell_id: int) -> bytes:
    header: dict[str, object] = {"type": "done", "id": cell_id, "cpu_s": 0.0, "memory_bytes": 0}
    return build_frame({**header, "artifacts": [], "artifacts_dropped": 0, "attachments": []})


class Attacker:
    """Serves cells of the form `action argument`."""

    def __init__(self, jail: Jail) -> None:
        self._jail = jail
        self._interrupted = threading.Event()
        self._kept = bytearray()
        self._burns_on = False

    def handle(self, frame: bytes, send: Send, ask: Ask) -> None:
        self._send, self._ask = send, ask
        header_length = int.from_bytes(frame[4:8], "little")
        header = json.loads(frame[8 : 8 + header_length])
        if header["type"] == "start":
            send(READY)
            return
        source = frame[8 + header_length :][: header["attachments"][0]].decode()
        action, _, argument = source.partition(" ")
        text = getattr(self, f"do_{action}")(argument)
        if text is not None:
            output = {"type": "output", "stream": "stdout", "attachments": [len(text)]}
            send(build_frame(output, (text.encode(),)))
        send(done(header["id"]))
        while self._burns_on:
            pass

    def interrupt(self) -> None:
        self._interrupted.set()

    def rehearse(self) -> None:
        """Nothing to touch."""

    def clear_interrupt(self) -> None:
        self._interrupted.clear()

    def do_nothing(self, _: str) -> None:
        pass

    def do_attack(self, argument: str) -> str:
        name, _, rest = argument.partition(" ")
        try:
            return f"GAINED {globals()[name](rest)!r}"
        except (OSError, MemoryError) as exc:
            return f"refused {type(exc).__name__}"

    def do_burn(self, _: str) -> None:
        while True:
            pass

    def do_wait_and_burn(self, seconds: str) -> None:
        """It says that it waits, and gives its tenant's place away by that."""
        self._send(_wait(float(seconds)))
        while True:
            pass

    def do_burn_in_short_waits(self, _: str) -> None:
        while True:
            self._send(_wait(0.05))
            stop_at = time.monotonic() + 0.045
            while time.monotonic() < stop_at:
                pass
            self._ask(_wait(0.0))  # reads the answer to the one before

    def do_tell_without_end(self, _: str) -> None:
        """Valid frames that want no answer, as fast as the host takes them."""
        frames = build_frame({"type": "output", "stream": "stdout", "attachments": [0]}, (b"",)) * 200
        while True:
            self._send(frames)

    def do_answer_and_burn(self, _: str) -> None:
        """The cell ends in order, and the worker does not."""
        self._burns_on = True

    def do_limit_cpu(self, argument: str) -> None:
        self._jail.limit_cpu(float(argument))

    def do_limit_memory(self, argument: str) -> None:
        memory, files, value = map(int, argument.split())
        self._jail.limit_memory(memory, files, value)

    def do_fill(self, argument: str) -> None:
        """Touch that many MiB and keep them."""
        self._kept = bytearray(int(argument) << 20)
        for at in range(0, len(self._kept), mmap.PAGESIZE):
            self._kept[at] = 1
        self._interrupted.wait()

    def do_fill_and_go(self, argument: str) -> None:
        """Touch that many MiB and let them go."""
        self._kept = bytearray(int(argument) << 20)
        for at in range(0, len(self._kept), mmap.PAGESIZE):
            self._kept[at] = 1
        self._kept = bytearray()

    def do_abort(self, _: str) -> None:
        os.abort()


def load_program() -> Program:
    return Program(HELLO, Attacker)
