"""A scripted worker for agents: each cell's code names what the guest does, so that tests read like conversations."""

from __future__ import annotations

import itertools
import json
from typing import cast

from cloche.agents.observation import NAMES_CODE
from cloche.runtime.fake_link import FakeCell, crash, loop_in_c, loop_in_python
from cloche.runtime.protocol import Done, GuestError, Result, ToolCall
from cloche.runtime.values import ValueLimits, decode, encode

LIMITS = ValueLimits()


def serve(cell: FakeCell) -> None:
    """Runs one cell. Each line of code is a verb and, after a blank, its argument as JSON."""
    if cell.code == NAMES_CODE:
        return cell.finish({})
    for line in cell.code.splitlines():
        verb, _, argument = line.partition(" ")
        value: object = json.loads(argument) if argument else None
        if verb == "print":
            cell.print(f"{value}\n")
        elif verb == "final_answer":
            call(cell, "final_answer", value)
            return _end_by_tool(cell)
        elif verb == "ask_tool":
            name, argument_of_tool = cast("list[object]", value)
            cell.print(f"{call(cell, str(name), argument_of_tool)}\n")
        elif verb == "fail":
            return cell.finish(error=GuestError(type="ValueError", message=str(value), traceback="", line=1))
        elif verb in _ENDS:
            return _ENDS[verb](cell)
        else:
            raise AssertionError(f"no such verb: {line!r}")
    cell.finish()
    return None


_ENDS = {"loop": loop_in_python, "loop_in_c": loop_in_c, "crash": crash(-11)}


def call(cell: FakeCell, name: str, argument: object) -> object:
    """A blocking tool call; its result, or the message of its error."""
    payload: list[object] = [[argument], {}]
    answer, parts = cell.ask(ToolCall(id=next(_ids), name=name), encode(payload, LIMITS))
    assert answer.type == "tool_result"
    return decode(parts[0], LIMITS)


_ids = itertools.count()
"""They rise within a cell."""


def _end_by_tool(cell: FakeCell) -> None:
    result = Result(
        has_value=False, value_repr=None, value_error=None, error=None, interrupted=False, ended_by_tool=True
    )
    cell.send(result)
    cell.send(Done(id=getattr(cell.request, "id", 0), cpu_s=0.0, memory_bytes=0, artifacts=(), artifacts_dropped=0))


def block(*lines: str) -> str:
    """A model's reply with this code."""
    return "\n".join(["```python", *lines, "```"])
