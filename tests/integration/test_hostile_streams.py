"""A short slice of the fuzzer with live workers; `python -m tests.fuzz.frames --live 2000` runs it long."""

from __future__ import annotations

import sys

import pytest
from tests.fuzz.live_workers import run_live


@pytest.mark.security
@pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
@pytest.mark.guarantee("G16")
def test_workers_that_send_hostile_bytes_die_alone() -> None:
    ends = run_live(60, seed=3)

    assert sum(ends.values()) == 60
    assert set(ends) <= {"answered", "FrameTooLarge", "ProtocolError", "WorkerCrashed"}
    assert ends["ProtocolError"] > 10
