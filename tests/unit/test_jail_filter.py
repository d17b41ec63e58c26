"""The seccomp filters, run in a BPF machine of the test's own: what each call is answered, on both architectures."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

import pytest

from cloche.wasm_sandbox.jail.bpf import ALLOW, KILL_PROCESS, REFUSE, Check, Rules, assemble
from cloche.wasm_sandbox.jail.deno_calls import deno_filter
from cloche.wasm_sandbox.jail.seccomp import (
    SERVER_CALLS,
    SOFT_REFUSALS,
    WORKER_CALLS,
    server_filter,
    with_pid,
    worker_filter,
)
from cloche.wasm_sandbox.jail.syscalls import ARCHITECTURES, Architecture

MACHINES = pytest.mark.parametrize("machine", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
PID = 7
FORBIDDEN = (0x5000, 0xFFFF_FFFF)
"""Numbers of no call."""


def answer(code: bytes, arch: int, number: int, arguments: Iterable[int] = ()) -> int:
    """What the kernel would do: `code` run over `struct seccomp_data`."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *(word & (2**64 - 1) for word in words))
    accumulator, at = 0, 0
    for _ in range(len(code)):
        operation, if_true, if_false, value = struct.unpack_from("<HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            at += value
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= value else if_false
        elif operation == 0x06:
            return int(value)
        else:
            raise AssertionError(f"operation {operation:#x}")
    raise AssertionError("the filter does not end")


def worker(machine: Architecture, call: int | str, *arguments: int) -> int:
    number = machine.numbers[call] if isinstance(call, str) else call
    return answer(with_pid(worker_filter(machine), PID), machine.audit_arch, number, arguments)


def server(machine: Architecture, call: int | str, *arguments: int) -> int:
    number = machine.numbers[call] if isinstance(call, str) else call
    return answer(server_filter(machine), machine.audit_arch, number, arguments)


@MACHINES
def test_a_sealed_worker_gets_the_listed_calls_and_no_other(machine: Architecture) -> None:
    checked = {"mmap", "mprotect", "prlimit64", "kill", "tgkill"}
    for name in machine.numbers:
        expected = ALLOW if name in WORKER_CALLS else KILL_PROCESS
        if name in SOFT_REFUSALS:
            expected = REFUSE | SOFT_REFUSALS[name]
        if name not in checked:
            assert worker(machine, name) == expected, name
    for number in FORBIDDEN:
        assert worker(machine, number) == KILL_PROCESS


@MACHINES
def test_a_deno_worker_may_look_at_its_limits_and_not_move_them_through_any_pointer(machine: Architecture) -> None:
    def ask(*arguments: int) -> int:
        code = with_pid(deno_filter(machine), PID)
        return answer(code, machine.audit_arch, machine.numbers["prlimit64"], arguments)

    assert ask(0, 7, 0, 0x7FFF_0000_1234) == ALLOW
    for pointer in (0x1234, 0x7FFF_0000_1234, 0x7000_0000_0000):  # the low half of the last is that of a null pointer
        assert ask(0, 7, pointer) == REFUSE | errno.EPERM
    assert ask(9, 7, 0) == REFUSE | errno.EPERM


@MACHINES
def test_no_number_outside_the_lists_is_answered_by_either_filter(machine: Architecture) -> None:
    listed = set(machine.numbers.values())
    for number in set(range(1000)) - listed:
        assert worker(machine, number) == KILL_PROCESS
        assert server(machine, number) == REFUSE | errno.EPERM


@pytest.mark.parametrize("name", ["socket", "connect", "execve", "ptrace", "fork"])
def test_the_calls_of_an_escape_are_not_even_in_the_table(name: str) -> None:
    assert name not in WORKER_CALLS
    assert name not in SERVER_CALLS


@MACHINES
def test_another_architecture_is_killed_whatever_it_calls(machine: Architecture) -> None:
    for code in (worker_filter(machine), server_filter(machine)):
        for arch in (0x4000_0003, 0xC000_003E, 0xC000_00B7, 0x4000_0028):
            if arch != machine.audit_arch:
                assert answer(code, arch, machine.numbers["futex"]) == KILL_PROCESS


def test_the_x32_door_of_x86_64_is_shut() -> None:
    machine = ARCHITECTURES["x86_64"]
    for number in (machine.numbers["futex"], 0x1FF, 0x3FFF_FFFF):
        assert worker(machine, 0x4000_0000 | number) == KILL_PROCESS
        assert server(machine, 0x4000_0000 | number) == KILL_PROCESS


@MACHINES
@pytest.mark.parametrize(
    ("protection", "flags", "expected"),
    [
        (3, 0x22, ALLOW),
        (0, 0x4022, ALLOW),  # MAP_NORESERVE
        (3, 0x32, ALLOW),  # MAP_FIXED
        (5, 0x22, KILL_PROCESS),
        (7, 0x22, KILL_PROCESS),
        (4, 0x22, KILL_PROCESS),
        (1 << 32 | 4, 0x22, KILL_PROCESS),
        (3, 0x02, KILL_PROCESS),  # a file
        (3, 0x21, KILL_PROCESS),  # shared
        (3, 0x23, KILL_PROCESS),  # MAP_SHARED_VALIDATE
        (3, 0x20, KILL_PROCESS),
    ],
)
def test_a_worker_maps_private_memory_without_code_only(
    machine: Architecture, protection: int, flags: int, expected: int
) -> None:
    assert worker(machine, "mmap", 0, 4096, protection, flags, 2**64 - 1, 0) == expected


@MACHINES
@pytest.mark.guarantee("G14")
def test_a_worker_makes_nothing_executable(machine: Architecture) -> None:
    assert worker(machine, "mprotect", 0x1000, 4096, 3) == ALLOW
    assert worker(machine, "mprotect", 0x1000, 4096, 0) == ALLOW
    for protection in (4, 5, 6, 7):
        assert worker(machine, "mprotect", 0x1000, 4096, protection) == KILL_PROCESS


@MACHINES
@pytest.mark.parametrize("call", ["kill", "tgkill"])
@pytest.mark.guarantee("G13")
def test_a_worker_signals_itself_only(machine: Architecture, call: str) -> None:
    assert worker(machine, call, PID, 6) == ALLOW
    for other in (0, 1, PID + 1, -1, -PID):
        assert worker(machine, call, other, 6) == KILL_PROCESS


@MACHINES
def test_a_worker_changes_its_own_limits_only(machine: Architecture) -> None:
    assert worker(machine, "prlimit64", 0, 2, 0x1000, 0) == ALLOW
    assert worker(machine, "prlimit64", 1, 2, 0x1000, 0) == KILL_PROCESS


@MACHINES
def test_the_fork_server_forks_without_making_a_namespace(machine: Architecture) -> None:
    child, thread = 0x0120_0011, 0x003D_0F00
    assert server(machine, "clone", child) == ALLOW
    assert server(machine, "clone", thread) == ALLOW
    for flag in (0x20000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert server(machine, "clone", child | flag) == REFUSE | errno.EPERM
    assert server(machine, "clone3") == REFUSE | errno.ENOSYS
    assert worker(machine, "clone", child) == KILL_PROCESS


@MACHINES
def test_a_worker_may_do_nothing_that_its_fork_server_may_not(machine: Architecture) -> None:
    """Both filters hold for a worker; the sharper answer wins, so that a call allowed by one alone would be a trap."""
    assert set(WORKER_CALLS) <= set(SERVER_CALLS)
    for name in ("mmap", "mprotect", "kill", "tgkill", "prlimit64"):
        assert server(machine, name) == ALLOW
    assert machine.numbers["rt_sigreturn"] in machine.known(*WORKER_CALLS)


def test_a_check_of_several_arguments_asks_for_all() -> None:
    checks = (Check(0, 1), Check(1, 2), Check(5, 4, 6))
    code = assemble(Rules(0xA, None, [], {}, {9: checks}, KILL_PROCESS))
    assert answer(code, 0xA, 9, (1, 2, 0, 0, 0, 5)) == ALLOW
    for arguments in ((0, 2, 0, 0, 0, 5), (1, 0, 0, 0, 0, 5), (1, 2, 0, 0, 0, 6)):
        assert answer(code, 0xA, 9, arguments) == KILL_PROCESS


def test_a_list_too_long_for_one_jump_is_refused() -> None:
    with pytest.raises(ValueError, match="too many calls"):
        assemble(Rules(0xA, None, list(range(300)), {}, {}, KILL_PROCESS))


def test_a_misspelt_call_is_an_error() -> None:
    with pytest.raises(KeyError):
        ARCHITECTURES["x86_64"].known("sendtoo")
