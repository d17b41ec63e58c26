"""Options of agents and runs that cannot be are named when the agent is made or the run is asked for."""

from __future__ import annotations

import pytest
from tests.support.agents import tool_agent

from cloche.runtime.errors import ConfigError


def test_stop_sequences_are_a_list_of_texts() -> None:
    assert tool_agent(stop=["<end>", "STOP"]).spec.stop == ("<end>", "STOP")
    assert tool_agent(stop=[]).spec.stop == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("<end>", r"^stop is a list, not '<end>'; write stop=\['<end>'\]$"),
        (5, r"^stop is a list, not 5; write stop=\[\.\.\.\]$"),
        ([5], r'^stop holds texts that are not empty, not 5; write stop=\["\.\.\."\]$'),
        ([""], "^stop holds texts that are not empty, not ''"),
    ],
)
def test_other_stop_sequences_are_refused(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tool_agent(stop=given)
