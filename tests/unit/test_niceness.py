"""When a worker counts as burning for long, and what happens to its priority then."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false, reportPrivateUsage=false
# looks into the watch
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cloche.runtime import watch
from cloche.runtime.errors import ClocheError
from cloche.runtime.limits import Limits
from cloche.runtime.niceness import BURST_S, Burner, lower_priority, priority_record
from cloche.runtime.watch import WorkerWatch

linux = pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")


def looks(share: float, seconds: float) -> bool:
    """Whether a worker that burns this share of a core is long at it at any look, ten times a second."""
    burner = Burner()
    return any(burner.burns_long(share * tick / 10, tick / 10) for tick in range(int(seconds * 10)))


def test_a_loop_is_noticed_after_little_more_than_a_second() -> None:
    assert not looks(1.0, BURST_S)
    assert looks(1.0, 1.6)


def test_a_worker_that_burns_little_is_never_noticed() -> None:
    assert not looks(0.04, 3600)
    assert not looks(0.0, 3600)


def test_a_loop_that_shares_its_core_with_nine_others_is_noticed_too() -> None:
    assert looks(0.1, 25)


def test_bursts_with_pauses_between_them_are_added_up() -> None:
    burner, cpu_s, found = Burner(), 0.0, False
    for tick in range(200):  # 0.9 s of every second, never a whole second at once
        cpu_s += 0.1 if tick % 10 < 9 else 0.0
        found = found or burner.burns_long(cpu_s, tick / 10)
    assert found


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys, threading; threading.Thread(target=sys.stdin.read, daemon=True).start(); print(1, flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", f"{code}threading.Event().wait()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield process
        process.kill()


def priorities(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, int(name)) for name in os.listdir(f"/proc/{pid}/task")]


@linux
def test_every_thread_steps_back_and_none_comes_forward(process: subprocess.Popen[bytes]) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    lower_priority(process.pid, 15)
    assert priorities(process.pid) == [max(own, 15)] * 2
    lower_priority(process.pid, 10)
    assert priorities(process.pid) == [max(own, 15)] * 2


@linux
def test_a_thread_that_ends_meanwhile_spares_none_of_the_others(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, listed = os.getpriority(os.PRIO_PROCESS, 0), os.listdir

    def with_one_that_is_gone(folder: str) -> list[str]:
        return ["4194304", *listed(folder)]  # above what a kernel gives

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", with_one_that_is_gone)
        lower_priority(process.pid, 15)
    assert priorities(process.pid) == [max(own, 15)] * 2


@linux
def test_a_thread_that_came_meanwhile_steps_back_too(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, listed = os.getpriority(os.PRIO_PROCESS, 0), os.listdir
    looks = iter(range(100))

    def one_more_each_time(folder: str) -> list[str]:
        return sorted(listed(folder), key=int)[: 1 + next(looks)]

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", one_more_each_time)
        lower_priority(process.pid, 15)
    assert priorities(process.pid) == [max(own, 15)] * 2


@linux
def test_the_question_whether_it_may_changes_nothing(process: subprocess.Popen[bytes]) -> None:
    before = priorities(process.pid)
    assert priority_record(process.pid).active
    assert priorities(process.pid) == before


@linux
def test_a_host_that_may_not_says_so(process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(os, "setpriority", refuse)
    record = priority_record(process.pid)
    assert not record.active
    assert record.why.startswith("the host may not change the priority of its workers: Operation not permitted")


class Link:
    """A worker that burns a core from now on."""

    serving, requests, gone, extra_resident_bytes = True, 1, False, 0

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def waited_cpu_s(self, now_s: float) -> float:
        return 0.0

    def condemn(self, error: ClocheError) -> None:
        raise AssertionError(error)


@linux
@pytest.mark.parametrize(("busy_nice", "expected"), [(12, 12), (0, 0)])
def test_the_watch_lowers_the_priority_of_a_worker_that_burns(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, busy_nice: int, expected: int
) -> None:
    now = iter(range(100))
    monkeypatch.setattr(watch, "cpu_seconds", lambda _: float(next(now)))
    watched = watch._Watched(Link(process.pid), Limits(), busy_nice)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for _ in range(5):
        assert not watched.look()
    assert priorities(process.pid) == [max(own, expected)] * 2


def test_a_watch_of_its_own_leaves_priorities_alone() -> None:
    assert WorkerWatch()._busy_nice == 0
