"""Signals that a guest sends to itself: its own handlers run, and nothing leaves the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.places import params, where

from cloche import Sandbox, WorkerCrashed

pytestmark = pytest.mark.wasmtime

HANDLED = """
import os, signal
seen = []
signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
signal.raise_signal(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
seen == [signal.SIGUSR1] * 2
"""


@pytest.fixture(params=params())
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(**where(request.param)) as made:
        yield made


def test_a_handler_of_the_guest_is_called(box: Sandbox) -> None:
    cell = box.run(HANDLED)
    assert (cell.error, cell.value) == (None, True)


@pytest.mark.parametrize("send", ["signal.raise_signal(signal.SIGINT)", "os.kill(os.getpid(), signal.SIGINT)"])
def test_sigint_is_a_keyboard_interrupt_and_the_state_stays(box: Sandbox, send: str) -> None:
    cell = box.run(f"import os, signal\nkept = 1\n{send}\nfor _ in range(10): pass\nkept = 2")
    assert cell.error is not None
    assert cell.error.type == "KeyboardInterrupt"
    assert box.run("kept").value == 1


def test_an_ignored_signal_does_nothing(box: Sandbox) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.raise_signal(signal.SIGTERM)\n'alive'"
    assert box.run(code).value == "alive"


def test_a_fatal_signal_ends_the_sandbox_alone(box: Sandbox) -> None:
    with pytest.raises(WorkerCrashed):
        box.run("import signal\nsignal.raise_signal(signal.SIGABRT)")
    box.reset()
    assert box.run("1 + 1").value == 2
