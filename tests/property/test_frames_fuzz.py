"""A short slice of the frame fuzzer; `python -m tests.fuzz.frames` runs it long."""

from __future__ import annotations

import pytest
from tests.fuzz.frames import run


@pytest.mark.guarantee("G16")
def test_hostile_frames_give_answers_or_protocol_errors_and_cost_little() -> None:
    report = run(4_000, seed=3)

    assert report.cells > 20
    answered = {"output", "tool_call", "tool_start", "tool_cancel", "wait", "result", "done"}
    assert set(report.accepted) == answered | {"guest_limit", "engine_limit"}
    assert len(report.refused) > 40
