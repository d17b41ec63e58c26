"""The threads that serve cells: reuse, stack size, the end."""

from __future__ import annotations

import threading
import weakref

import pytest

from cloche.runtime.errors import RuntimeClosed
from cloche.runtime.servers import STACK_BYTES, ServerThreads

BOUND_S = 30.0


def run(servers: ServerThreads) -> threading.Thread:
    """The thread that served one job, after it is idle again."""
    seen: list[threading.Thread] = []
    done = threading.Event()

    def job() -> None:
        seen.append(threading.current_thread())
        done.set()

    servers.submit(job)
    assert done.wait(BOUND_S)
    wait_for_idle(servers)
    return seen[0]


def wait_for_idle(servers: ServerThreads) -> None:
    poll = threading.Event()
    for _ in range(1000):
        if servers.idle:
            return
        poll.wait(0.005)
    raise AssertionError("no thread became idle")


def test_an_idle_thread_serves_the_next_job() -> None:
    servers = ServerThreads()
    assert run(servers) is run(servers)
    servers.close()


def test_jobs_never_queue_behind_one_another() -> None:
    servers = ServerThreads()
    both = threading.Barrier(3)

    def meet() -> None:
        both.wait(BOUND_S)

    servers.submit(meet)
    servers.submit(meet)
    both.wait(BOUND_S)  # breaks unless both jobs run at the same time
    servers.close()


def test_threads_over_the_idle_cap_end_with_their_job() -> None:
    servers = ServerThreads(idle_threads=0)
    seen: list[threading.Thread] = []
    servers.submit(lambda: seen.append(threading.current_thread()))
    poll = threading.Event()
    while not seen:
        poll.wait(0.001)
    seen[0].join(BOUND_S)
    assert not seen[0].is_alive()


def test_a_finished_job_is_not_kept_alive() -> None:
    class Job:
        def __call__(self) -> None:
            done.set()

    done = threading.Event()
    servers = ServerThreads()
    job = Job()
    gone = weakref.ref(job)
    servers.submit(job)
    assert done.wait(BOUND_S)
    wait_for_idle(servers)
    del job
    assert gone() is None
    servers.close()


def test_a_closed_pool_ends_its_idle_threads_and_refuses_jobs() -> None:
    servers = ServerThreads()
    thread = run(servers)
    servers.close()
    thread.join(BOUND_S)
    assert not thread.is_alive()
    with pytest.raises(RuntimeClosed):
        servers.submit(lambda: None)


def test_a_server_thread_gets_the_large_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    start = threading.Thread.start

    def spy(thread: threading.Thread) -> None:
        sizes.append(threading.stack_size())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", spy)
    servers = ServerThreads()
    run(servers)
    servers.close()
    assert sizes == [STACK_BYTES]
