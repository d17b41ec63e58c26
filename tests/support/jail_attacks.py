"""Attacks on the jail by native code inside a worker, and what came of them; `attack_program` makes them.

The rule: an attack either gains something (`GAINED ...`), is refused (`refused ...`), or ends its worker (`KILLED`).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cloche.runtime.errors import WorkerCrashed
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import RunCell, parse_from_worker, render

PROGRAM = WorkerProgram((), "attack_program", str(Path(__file__).resolve().parent))
FRAME_BYTES = 1024 * 1024
KILLED = "killed by SIGSYS"
ATTACKS = {
    "open_file /etc/passwd": "files",
    "list_folder /": "files",
    "look_at_file /etc/passwd": "files",
    "create_file /tmp/pwned-jail-HOST": "files",
    "read_environment self": "files",
    "make_socket": "network",
    "make_unix_socket": "network",
    "fork": "processes",
    "make_thread": "processes",
    "run_program": "processes",
    "kill_host HOST": "processes",
    "kill_parent": "processes",
    "trace_host VICTIM": "processes",
    "hold_process HOST": "processes",
    "map_code": "memory",
    "make_code": "memory",
    "share_memory": "memory",
    "memory_file": "memory",
    "raise_limits": "jail",
    "more_descriptors": "jail",
    "become_dumpable": "jail",
    "machine_name": "jail",
    "door bpf": "kernel",
    "door io_uring_setup": "kernel",
    "door userfaultfd": "kernel",
    "door perf_event_open": "kernel",
    "door add_key": "kernel",
    "door setns": "kernel",
    "door unshare": "kernel",
    "door process_vm_readv": "kernel",
    "door ptrace": "kernel",
    "door clone3": "kernel",
    "door seccomp": "kernel",
    "door capset": "kernel",
    "door personality": "kernel",
}
NEED_ROOT = {"door bpf", "door perf_event_open", "door add_key", "door userfaultfd", "trace_host VICTIM"}
"""Without root the kernel refuses these by itself (or by a sysctl), so that the control may fail."""


class Sink:
    """Collects what a worker prints, until its cell is done."""

    def __init__(self) -> None:
        self.finished = False
        self.text = ""

    def __call__(self, frame: bytes | memoryview) -> None:
        parsed, parts = parse_from_worker(frame, max_bytes=FRAME_BYTES)
        self.text += b"".join(map(bytes, parts)).decode()
        self.finished = parsed.type == "done"


def ready(server: ForkServer) -> ProcessLink:
    """A new worker that has said hello; the caller closes it."""
    link = server.start_worker()
    link.wait_hello(20)
    link.frame_bytes = FRAME_BYTES
    return link


def run(link: ProcessLink, source: str) -> str:
    """Lets the worker do what the source says; what it printed."""
    sink = Sink()
    cell = RunCell(id=1, output_bytes=0, artifacts=0, artifact_bytes=0)
    link.request(render(cell, (source.encode(), b"")), sink)
    return sink.text


def attack(server: ForkServer, what: str) -> str:
    """What became of an attack, in a worker of its own."""
    link = ready(server)
    try:
        return run(link, f"attack {what}")
    except WorkerCrashed as exc:
        return KILLED if exc.exit_status == -signal.SIGSYS else f"died: {exc}"
    finally:
        link.close(5)


def aimed(what: str, victim: int) -> str:
    """The attack with the pids of its targets."""
    return what.replace("HOST", str(os.getpid())).replace("VICTIM", str(victim))
