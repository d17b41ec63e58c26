"""A blocking sandbox that is given to an agent: who is cancelled leaves no cell behind that begins or runs on."""

from __future__ import annotations

import threading
from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from tests.support.background import BOUND_S

from cloche import Runtime, Sandbox
from cloche.agents.box import Box, opener
from cloche.runtime.execution import Execution
from cloche.runtime.fake_link import FakeCell, FakeSource, answer, loop_in_python
from cloche.runtime.loop_hook import LoopHook
from cloche.runtime.sandbox_core import SandboxCore

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def lent(box: Sandbox) -> AbstractAsyncContextManager[Box]:
    """As an agent gets it."""
    return opener(box)(box.tools)


@pytest.mark.usefixtures("patient")
def test_a_run_that_is_cancelled_before_its_cell_begins_runs_nothing_of_it_later(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = SandboxCore.begin_cell, threading.Event()

    async def main() -> None:
        hook, scope, here = LoopHook(), anyio.CancelScope(), threading.get_ident()

        def begin_cell(self: SandboxCore, *args: object, **options: object) -> Execution[object]:
            hook.call(scope.cancel)
            if threading.get_ident() != here:  # on a thread of its own nobody waits for it
                left.wait(BOUND_S)
            return real(self, *args, **options)  # type: ignore[arg-type,return-value]

        monkeypatch.setattr(SandboxCore, "begin_cell", begin_cell)
        async with lent(box) as lent_box:
            with anyio.fail_after(BOUND_S), scope:
                await lent_box.run("while True: pass")
        assert scope.cancelled_caught
        left.set()

    source = FakeSource(loop_in_python, answer("alive"))
    with Runtime(sources={"process": source}) as runtime, runtime.sandbox() as box:
        anyio.run(main, backend=backend)
        monkeypatch.undo()
        assert box.run("1").value == "alive", "the cell of the run has ended, by the one interrupt"
        assert source.leased[0].interrupts == 1


@pytest.mark.usefixtures("patient")
def test_a_run_that_is_cancelled_in_its_cell_ends_after_it(backend: str) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        loop_in_python(cell)

    async def main() -> None:
        async with lent(box) as lent_box, anyio.create_task_group() as group:
            group.start_soon(lent_box.run, "while True: pass")
            await anyio.to_thread.run_sync(running.wait, BOUND_S)
            group.cancel_scope.cancel()

    source = FakeSource(loop, answer("alive"))
    with Runtime(sources={"process": source}) as runtime, runtime.sandbox() as box:
        anyio.run(main, backend=backend)
        assert box.run("1").value == "alive"


@pytest.mark.usefixtures("short_graces")
def test_a_guest_deaf_to_the_cancelled_run_is_killed_and_not_left_to_its_deadline(backend: str) -> None:
    running = threading.Event()

    def loop(cell: FakeCell) -> None:
        running.set()
        cell.wait_for_end()

    async def main() -> None:
        async with lent(box) as lent_box, anyio.create_task_group() as group:
            group.start_soon(lent_box.run, "...")
            await anyio.to_thread.run_sync(running.wait, BOUND_S)
            group.cancel_scope.cancel()

    source = FakeSource(loop)
    with Runtime(sources={"process": source}) as runtime, runtime.sandbox() as box:
        anyio.run(main, backend=backend)
        assert box.closed
        source.scripts = (answer("fresh"),)
        box.reset()
        assert box.run("1").value == "fresh"
