"""Whole sandboxes whose workers were taken over: what the host sees from outside ends them, and nothing else.

The worker runs tests/support/attack_program.py, which answers like an honest one until a cell tells it otherwise; so
all of the host is the real one, from `Sandbox.run` to the kernel.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.jail_attacks import PROGRAM
from tests.support.pids import pid_of_box, worker_of

from cloche import LimitExceeded, Limits, OutOfMemory, ProtocolError, Runtime, Sandbox, SandboxClosed, TimedOut
from cloche.runtime import process_link, process_source, server_start, watch
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.limits import MIB
from cloche.runtime.process_link import ProcessLink
from cloche.wasm_sandbox.jail import report
from cloche.wasm_sandbox.jail.rlimits import data_bytes
from cloche.wasm_sandbox.worker import Program, run_worker

pytestmark = [
    pytest.mark.wasmtime,  # the metadata of a runtime are those of an image, whatever its workers run
    pytest.mark.skipif(sys.platform != "linux", reason="the watch and the jail are made for Linux"),
]

SMALL_BUT_LONG = Limits(memory_mb=64, file_bytes=0, value_bytes=1024, cpu_s=30, wall_s=30)
SMALL = Limits(memory_mb=64, file_bytes=0, value_bytes=1024, cpu_s=0.3, wall_s=30)


@pytest.fixture(params=["jailed", "bare"])
def taken_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Runtime, ForkServer]]:
    """A runtime of hostile workers; with `bare` the jail's own limits do not help the watch."""
    server = ForkServer(PROGRAM, without=tuple(report.PURPOSES) if request.param == "bare" else ())

    def make(_image: object) -> ForkServer:
        return server

    def nothing(_path: object) -> None:
        """No honest server is started before it."""

    monkeypatch.setattr(process_source, "worker_maker", make)
    monkeypatch.setattr(server_start, "start_for_image", nothing)
    with Runtime(warm_workers=0) as runtime:
        yield runtime, server
    server.close()


def link_of(box: Sandbox) -> ProcessLink:
    link = worker_of(box)
    assert link is not None
    return link


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


@pytest.mark.guarantee("G32")
def test_a_worker_that_outgrows_its_cap_ends_with_out_of_memory_and_its_neighbour_lives(
    taken_over: tuple[Runtime, ForkServer],
) -> None:
    runtime, server = taken_over
    with runtime.sandbox(limits=SMALL_BUT_LONG) as box, runtime.sandbox(limits=SMALL_BUT_LONG) as neighbour:
        link = link_of(box)
        with pytest.raises(OutOfMemory) as caught:
            box.run("fill 600")
        assert caught.value.limit == "memory_mb"
        assert caught.value.used > caught.value.allowed
        with pytest.raises(SandboxClosed, match="OutOfMemory"):
            box.run("nothing")
        assert neighbour.run("nothing").complete
        assert link.process.wait(30)
        assert children(server.pid) == [link_of(neighbour).pid], "no zombie is left"


@pytest.mark.guarantee("G32")
def test_page_tables_count_as_memory_though_no_page_of_theirs_is_resident(
    taken_over: tuple[Runtime, ForkServer],
) -> None:
    runtime, _ = taken_over
    with runtime.sandbox(limits=SMALL_BUT_LONG) as box, pytest.raises(OutOfMemory) as caught:
        box.run("attack fill_page_tables 2000")
    assert caught.value.used > caught.value.allowed


@pytest.mark.guarantee("G32")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the attack is made of its numbers")
def test_a_worker_cannot_hide_its_memory_behind_a_dead_first_thread(taken_over: tuple[Runtime, ForkServer]) -> None:
    runtime, _ = taken_over
    with runtime.sandbox(limits=SMALL_BUT_LONG) as box, pytest.raises(OutOfMemory):
        box.run("attack end_first_thread_and_fill 2000")


def test_a_worker_under_its_cap_is_left_alone(taken_over: tuple[Runtime, ForkServer]) -> None:
    runtime, _ = taken_over
    with runtime.sandbox(limits=SMALL_BUT_LONG) as box:
        assert box.run("fill_and_go 60").complete
        assert box.run("nothing").complete


def test_a_worker_that_burns_cpu_while_no_cell_runs_is_ended(taken_over: tuple[Runtime, ForkServer]) -> None:
    runtime, _ = taken_over
    with runtime.sandbox(limits=SMALL) as box:
        assert box.run("answer_and_burn").complete
        assert link_of(box).process.wait(60)
        with pytest.raises(ProtocolError, match="the worker burns CPU while no request runs"):
            box.run("nothing")
        with pytest.raises(SandboxClosed, match="burns CPU"):
            box.run("nothing")


@pytest.mark.guarantee("G31")
@pytest.mark.parametrize("what", ["wait_and_burn 4", "burn_in_short_waits"])
def test_a_worker_that_burns_cpu_while_it_says_that_it_waits_is_ended(
    taken_over: tuple[Runtime, ForkServer], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tenant's place serves another cell meanwhile."""
    # The worker is niced soon: beside other work it does not get the 2 s that are allowed while it waits.
    monkeypatch.setattr(watch, "WAITING_CPU_S", 0.2)
    runtime, _ = taken_over
    box = runtime.sandbox(limits=SMALL_BUT_LONG, tenant="acme")
    assert pid_of_box(box), "before it is known nobody can see what it burns"
    with box, pytest.raises(ProtocolError, match="burns CPU while it says that it waits"):
        box.run(what)


@pytest.mark.guarantee("G31")
def test_a_flood_of_valid_frames_leaves_the_hosts_other_threads_their_turns(
    taken_over: tuple[Runtime, ForkServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the breaths of the link they have more than without. Up to five rounds, since other work on the machine may
    hit the one half of a round and spare the other."""
    runtime, _ = taken_over
    breathing, breathless = process_link.TOLD_IN_A_ROW, 1 << 40
    rounds: list[dict[int, int]] = []
    for _ in range(5):
        turns = {breathing: 0, breathless: 0}
        for in_a_row in [*turns] * 2:
            monkeypatch.setattr(process_link, "TOLD_IN_A_ROW", in_a_row)
            turns[in_a_row] += _turns_beside_a_flood(runtime)
        rounds.append(turns)
        if turns[breathing] > 1.5 * turns[breathless]:
            return
    pytest.fail(f"turns by frames told in a row: {rounds}")


def _turns_beside_a_flood(runtime: Runtime) -> int:
    """Of a thread that wants the interpreter all the time."""
    turns = 0
    with runtime.sandbox(limits=Limits(wall_s=2.0, memory_mb=64)) as box:
        flood = threading.Thread(target=_timed_out, args=(box, "tell_without_end"))
        flood.start()
        stop_at = time.monotonic() + 1.5
        while time.monotonic() < stop_at:
            time.sleep(0.001)
            turns += 1
        flood.join(30)
    return turns


def _timed_out(box: Sandbox, code: str) -> None:
    with pytest.raises(TimedOut):
        box.run(code)


def test_a_worker_that_burns_in_its_cell_ends_at_the_cells_budget(taken_over: tuple[Runtime, ForkServer]) -> None:
    runtime, _ = taken_over
    with runtime.sandbox(limits=SMALL) as box, pytest.raises(LimitExceeded) as caught:
        box.run("burn")
    assert (caught.value.limit, caught.value.allowed) == ("cpu_s", 0.3)


def test_the_kernels_memory_limit_is_the_tenants_before_its_first_cell() -> None:
    limits = Limits(memory_mb=100, file_bytes=2 * MIB, value_bytes=3 * MIB)
    with Runtime() as runtime:
        active = {wall.name for wall in runtime.walls() if wall.active}
        if report.RLIMITS not in active:
            pytest.skip("no resource limits on this machine")
        with runtime.sandbox(limits=limits) as box:
            size = data_bytes(100 * MIB, 2 * MIB, 3 * MIB)
            limits_of = Path(f"/proc/{pid_of_box(box)}/limits").read_text(encoding="utf-8")
            (line,) = (line for line in limits_of.splitlines() if line.startswith("Max data size"))
            assert line.split()[3:5] == [str(size), str(size)]


# --- the jail comes before the first byte -----------------------------------------------------------------------------


class Guest:
    """Says what it was given."""

    def handle(self, frame: bytes, send: Callable[[bytes], None], ask: Callable[[bytes], bytes]) -> None:
        send(b"|read " + frame)

    def interrupt(self) -> None:
        """Nobody interrupts."""

    def clear_interrupt(self) -> None:
        """Nothing to take back."""

    def rehearse(self) -> None:
        """Nothing to touch."""


class TellingJail:
    """Says, when it is closed, how much of the channel has been read by then."""

    def __init__(self, frames: socket.socket) -> None:
        self._frames = frames

    def seal(self, descriptors: int) -> None:
        waiting = self._frames.recv(1000, socket.MSG_PEEK)
        self._frames.sendall(b"sealed with %d bytes unread|" % len(waiting))


@pytest.mark.guarantee("G02")
def test_a_worker_closes_its_jail_before_it_reads_a_byte_and_before_it_says_hello() -> None:
    """The host's half: nothing is sent before `hello` (`WorkerPool` leases only workers that said it)."""
    frames, their_frames = socket.socketpair()
    control, their_control = socket.socketpair()
    request = (4 + 2).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"{}"
    frames.sendall(request)
    pid = os.fork()
    if pid == 0:
        try:
            frames.close()
            control.close()
            jail: Any = TellingJail(their_frames)
            run_worker(their_frames, their_control, Program(b"hello", lambda _: Guest()), jail)
        finally:
            os._exit(1)
    with frames, control, their_frames, their_control:
        frames.settimeout(60)
        told = b""
        while b"|read " + request not in told:
            part = frames.recv(1000)
            assert part, told
            told += part
    os.waitpid(pid, 0)
    assert told == b"sealed with %d bytes unread|hello|read " % len(request) + request


def test_a_worker_that_cannot_close_its_jail_never_says_hello() -> None:
    frames, their_frames = socket.socketpair()
    control, their_control = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:

            class Broken:
                def seal(self, descriptors: int) -> None:
                    raise OSError(1, "no")

            jail: Any = Broken()
            run_worker(their_frames, their_control, Program(b"hello", lambda _: Guest()), jail)
        finally:
            os._exit(1)
    with frames, control:
        their_frames.close()
        their_control.close()
        frames.settimeout(60)
        assert frames.recv(1000) == b""
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 83
