"""The CPU budget of a cell in a real sandbox: one over and one under, whatever the guest does with interrupts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from tests.support.places import params, where

from cloche.runtime.errors import LimitExceeded, SandboxClosed
from cloche.runtime.limits import Limits
from cloche.runtime.runtime import Runtime
from cloche.runtime.tools import tool

pytestmark = [
    pytest.mark.wasmtime,
    pytest.mark.skipif(sys.platform != "linux", reason="CPU time of workers is seen on Linux"),
]

DEAF = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        yield runtime


@tool
def wait(seconds: float) -> None:
    """Wait on the host.

    Args:
        seconds: how long.
    """
    time.sleep(seconds)


@pytest.mark.guarantee("G31")
@pytest.mark.parametrize("place", params())
def test_a_cell_over_its_cpu_budget_raises_and_the_sandbox_is_gone(runtime: Runtime, place: str) -> None:
    with runtime.sandbox(**where(place), limits=Limits(cpu_s=0.3, wall_s=60)) as box:
        with pytest.raises(LimitExceeded) as caught:
            box.run(DEAF)
        assert (type(caught.value), caught.value.limit, caught.value.allowed) == (LimitExceeded, "cpu_s", 0.3)
        assert 0.3 <= caught.value.used < 60  # exactly that where the kernel was before the watch
        with pytest.raises(SandboxClosed, match="CPU time, cpu_s allows"):
            box.run("1")


@pytest.mark.parametrize("place", params(sampled=False))
def test_the_budget_counts_per_cell_and_time_spent_in_tools_is_not_the_guests(runtime: Runtime, place: str) -> None:
    burn = "for n in range(300_000): pass\nn"
    with runtime.sandbox(**where(place), tools=[wait], limits=Limits(cpu_s=0.8, wall_s=60)) as box:
        for _ in range(8):
            assert box.run(burn).value == 299_999
        assert box.run("wait(1.2)\n'slept'").value == "slept"
