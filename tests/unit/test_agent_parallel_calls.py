"""`ToolCallingAgent`: calls of one reply side by side, what is told of each, and whom a cancellation concerns."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from tests.support.agents import BOUND_S, calls

from cloche.agents.messages import Message
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.tool_calling_agent import ToolCallingAgent
from cloche.runtime.tools import ToolError

DONE = calls(("final_answer", {"value": 5}))


def told(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages if message.role == "tool"]


def agent_of(tools: list[object], *lines: object, **options: object) -> ToolCallingAgent:
    return ToolCallingAgent(tools, ScriptedModel(lines), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_record_has_the_order_of_the_calls_whichever_ends_first(backend: str) -> None:
    ended: list[int] = []

    async def wait(n: int) -> int:
        """Ends after all that were asked for later."""
        while len(ended) < 5 - n:
            await anyio.lowlevel.checkpoint()
        ended.append(n)
        if n > 2:
            raise ToolError(str(n))
        return n

    many = calls(*[("wait", {"n": n}) for n in range(6)])
    (step, *_) = anyio.run(agent_of([wait], many, DONE).arun, "x", backend=backend).steps
    assert ended == [5, 4, 3, 2, 1, 0]
    assert [record.arguments for record in step.tool_calls] == [f"n={n}" for n in range(6)]
    assert step.error is not None
    assert step.error.message == "3"


def test_a_tool_that_awaits_what_was_cancelled_has_failed_and_cancels_nobody_else() -> None:
    async def stray() -> None:
        """Awaits a task that something else has cancelled."""
        task = asyncio.ensure_future(asyncio.sleep(BOUND_S))
        task.cancel()
        await task

    async def fine() -> int:
        """Takes its time."""
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        return 1

    result = agent_of([stray, fine], calls(("stray", {}), ("fine", {})), DONE).run("x")
    assert (result.output, told(result.messages)[:2]) == (5, ["Error: Interrupted: the call was cancelled", "1"])
    assert [record.outcome for record in result.steps[0].tool_calls] == ["cancelled", "ok"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_is_cancelled_in_a_tool_hears_of_it(backend: str) -> None:
    seen: list[str] = []
    scopes: list[anyio.CancelScope] = []

    async def wait() -> None:
        """Waits."""
        scopes[0].cancel()
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await agent_of([wait], calls(("wait", {})), DONE).arun("x")
        seen.append("left" if scope.cancelled_caught else "went on")

    anyio.run(main, backend=backend)
    assert seen == ["cancelled", "left"]


def test_calls_of_one_reply_run_side_by_side_up_to_the_cap() -> None:
    running, most = 0, 0

    async def wait(n: int) -> int:
        """Waits."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return n

    many = calls(*[("wait", {"n": n}) for n in range(9)])
    result = agent_of([wait], many, DONE, parallel_tool_calls=3).run("x")
    assert told(result.messages)[:9] == [str(n) for n in range(9)]
    assert most == 3
