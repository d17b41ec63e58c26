"""A sandbox that is over is gone: nothing of it is left for the garbage collector, whatever ran in it."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import types
from collections.abc import Iterator

import pytest
from tests.soak.kinds import ATTACKS, HOSTILE_LIMITS
from tests.support.waiting import wait_until

from cloche import ClocheError, PoolExhausted, Runtime, TenantLimits

SLOW = {"sleep", "huge frame"}
"""Attacks that say nothing here that others do not."""


others: set[threading.Thread] = set()
"""Threads of other tests' runtimes."""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    others.update(threading.enumerate())
    with Runtime(tenant_limits=TenantLimits(sandboxes=2)) as runtime:
        yield runtime


def double(x: int) -> int:
    """Twice the number."""
    return 2 * x


def one_life(runtime: Runtime, code: str) -> None:
    with runtime.sandbox(tools=[double], limits=HOSTILE_LIMITS, tenant="acme") as box:
        try:
            box.run("double(21)")
            box.run(code)
        except ClocheError:
            return


def garbage_of(runtime: Runtime, code: str) -> list[str]:
    """What only the collector would free after such a life."""
    one_life(runtime, code)  # what is made once is made
    wait_until(lambda: runtime.core.servers.idle == server_threads())
    gc.collect()
    gc.disable()
    try:
        one_life(runtime, code)
        wait_until(lambda: runtime.core.servers.idle == server_threads())  # a thread keeps its job to the end
        return collected()
    finally:
        gc.enable()


def collected() -> list[str]:
    """What the collector frees now of our own making: types of objects, names of functions and of code in frames.

    Threads of pytest and of other tests may leave garbage too, at any time.
    """
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = [made for thing in gc.garbage if (made := _made_by(thing))[0].startswith("cloche")]
        return sorted({name for _, name in found})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def _made_by(thing: object) -> tuple[str, str]:
    """The module that an object comes from, and a name for it."""
    if isinstance(thing, types.FrameType):
        return str(thing.f_globals.get("__name__")), thing.f_code.co_qualname
    if isinstance(thing, types.FunctionType):
        return str(thing.__module__), thing.__qualname__
    return type(thing).__module__, type(thing).__name__


def server_threads() -> int:
    """Its server threads, busy ones included."""
    return sum(thread.name.startswith("cloche-server-") for thread in set(threading.enumerate()) - others)


@pytest.mark.wasmtime
@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - SLOW))
def test_an_attack_leaves_no_garbage_in_its_host(attack: str, runtime: Runtime) -> None:
    assert garbage_of(runtime, ATTACKS[attack].code) == []


@pytest.mark.wasmtime
def test_a_good_life_and_a_refused_one_leave_no_garbage(runtime: Runtime) -> None:
    assert garbage_of(runtime, "print(1); 1") == []
    with runtime.sandbox(tenant="acme"), runtime.sandbox(tenant="acme"):
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                try:
                    runtime.sandbox(tools=[double], tenant="acme")
                except PoolExhausted:
                    continue
                raise AssertionError("it was not refused")
            assert collected() == []
        finally:
            gc.enable()


@pytest.mark.wasmtime
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are looked up in /proc")
def test_a_closed_runtime_keeps_no_file_open_until_the_collector_comes() -> None:
    def one_runtime() -> None:
        with Runtime() as runtime, runtime.sandbox(tenant="acme") as box:
            assert box.run("1 + 1").value == 2

    one_runtime()
    gc.collect()
    gc.disable()
    try:
        before = open_images()
        one_runtime()
        wait_until(lambda: open_images() == before)
    finally:
        gc.enable()


def open_images() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").endswith(".wasm")
    return found
