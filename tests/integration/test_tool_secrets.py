"""A secret that a tool holds stays on the host: not in the guest, the prompt, a repr, the log, or a recording."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.support.places import params, where

from cloche import CodeAgent, RecordingModel, Sandbox, SandboxOptions, ScriptedModel, Tool, ToolObserver, tool
from cloche.runtime.tool_hooks import ToolEvent

pytestmark = pytest.mark.wasmtime

SECRET = "sk-3f9c1d77"  # no real one
CELL = """
import gc, sys
found = []
for thing in [lookup, ticket, dir(lookup), vars(lookup) if hasattr(lookup, '__dict__') else '', lookup.__doc__]:
    found.append(repr(thing))
for name in ('__closure__', '__globals__', '__code__', '__defaults__', '__wrapped__', 'function', '_tool'):
    for thing in (lookup, ticket):
        found.append(repr(getattr(thing, name, None)))
        found.append(repr([c.cell_contents for c in getattr(thing, '__closure__', None) or ()]))
found += [repr(o) for o in gc.get_objects() if isinstance(o, (str, dict, list, tuple))]
errors = []
for call in (lambda: lookup('wrong'), lambda: lookup(3), lambda: ticket('wrong')):
    try:
        call()
    except Exception as exc:
        errors.append(f'{exc!r} {exc} {exc.args} {vars(exc)} {exc.__context__!r}')
print(errors)
''.join(reversed('c9f3-ks')) in ' '.join(found + errors), lookup('tea'), ticket('7')
"""


def tools() -> list[Tool]:
    key = SECRET  # the pattern: a closure, or an attribute of a Tool

    @tool(retries=1, retry_pause_s=0, read_only=True)
    def lookup(item: str) -> str:
        """Looks an item up."""
        if item == "wrong":
            raise RuntimeError(f"401 from https://api.example/?key={key}")
        return f"found {item} with a key of {len(key)} characters"

    class Ticket(Tool):
        name = "ticket"
        description = "Reads a ticket."
        inputs = {"number": {"type": "string", "description": "its number"}}
        output_type = "string"

        def __init__(self, token: str) -> None:
            super().__init__()
            self._token = token

        def forward(self, number: str) -> str:
            if number == "wrong":
                raise PermissionError(self._token)
            return f"ticket {number}"

    return [lookup, Ticket(key)]


@pytest.mark.parametrize("place", params())
def test_a_secret_reaches_nothing_of_the_guests(place: str) -> None:
    events: list[ToolEvent] = []
    with Sandbox(tools=tools(), **where(place)) as box:
        cell = box.run(CELL, on_tool=ToolObserver(on_event=events.append))
    assert cell.error is None
    assert cell.value == (False, "found tea with a key of 11 characters", "ticket 7")
    assert SECRET not in f"{cell} {events}"
    assert "RuntimeError: the tool failed; its message stays on the host" in cell.stdout


def test_a_secret_is_in_no_description_of_a_tool() -> None:
    for entry in tools():
        assert SECRET not in f"{entry!r} {entry.stub} {entry.schema()} {entry.guest_stub} {entry.signature} {entry.doc}"


def test_a_secret_is_in_no_prompt_recording_or_log_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recording = tmp_path / "run.json"
    code = "try:\n    lookup(3)\nexcept ToolError as e:\n    print(e)\nfinal_answer(lookup('tea') + ticket('7'))"
    model = RecordingModel(ScriptedModel([f"```python\n{code}\n```"]), recording)
    agent = CodeAgent(tools=tools(), model=model, sandbox=SandboxOptions(isolation="thread"))
    with caplog.at_level(logging.DEBUG):
        result = agent.run("look it up")
    assert result.output == "found tea with a key of 11 charactersticket 7"
    assert SECRET not in f"{result} {agent!r} {caplog.text}"
    assert SECRET not in recording.read_text(encoding="utf-8")


def test_the_log_of_the_host_alone_has_the_text_of_an_unexpected_exception(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox(tools=tools(), isolation="thread") as box:
        cell = box.run("lookup('wrong')")
    assert cell.error is not None
    assert SECRET not in f"{cell}"
    assert "401 from https://api.example/" in caplog.text
