"""Approval and denial of tool calls in whole runs of both agents."""

from __future__ import annotations

import anyio
import pytest

from cloche import (
    CodeAgent,
    Deny,
    ModelReply,
    RunResult,
    Sandbox,
    SandboxOptions,
    ScriptedModel,
    ToolCallingAgent,
    ToolRequest,
    tool,
)
from cloche.agents.messages import ToolCallRequest

pytestmark = pytest.mark.wasmtime
BOUND_S = 60.0
THREAD = SandboxOptions(isolation="thread")


@tool(requires_approval=True)
def pay(euros: int) -> str:
    """Pays."""
    return f"paid {euros}"


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


async def decide(request: ToolRequest) -> bool | Deny:
    euros: int = request.arguments["euros"]
    return Deny("far too much", end_run=True) if euros > 1000 else euros <= 10


def test_an_agent_asks_for_approval_and_its_code_sees_a_denial() -> None:
    code = cell("try:\n    pay(50)\nexcept ToolError as e:\n    why = str(e)\nfinal_answer([pay(5), why])")
    agent = CodeAgent(tools=[pay], model=ScriptedModel([code]), sandbox=THREAD, approve=decide)

    result = agent.run("pay")
    assert result.output == ["paid 5", "ToolDenied: not approved"]


def test_a_denial_that_ends_the_run_is_its_stop_reason() -> None:
    replies = [cell("pay(5000)\nfinal_answer('paid')"), cell("final_answer('later')")]
    result = CodeAgent(tools=[pay], model=ScriptedModel(replies), sandbox=THREAD, approve=decide).run("pay")

    assert (result.stop_reason, result.output, len(result.steps)) == ("denied", None, 1)


def test_without_approve_such_a_tool_is_denied() -> None:
    code = cell("try:\n    pay(5)\nexcept ToolError as e:\n    final_answer(str(e))")
    result = CodeAgent(tools=[pay], model=ScriptedModel([code]), sandbox=THREAD).run("pay")

    assert result.output == "ToolDenied: pay needs approval, and nobody is here to give it"


def test_an_agent_that_calls_tools_by_json_takes_the_same_way() -> None:
    def asks(*calls: tuple[str, dict[str, object]]) -> ModelReply:
        requests = [ToolCallRequest(id=f"c{n}", name=name, arguments=given) for n, (name, given) in enumerate(calls)]
        return ModelReply(text="", tool_calls=tuple(requests))

    replies = [asks(("pay", {"euros": 50}), ("pay", {"euros": 5})), asks(("pay", {"euros": 5000}))]
    result = ToolCallingAgent(tools=[pay], model=ScriptedModel(replies), approve=decide).run("pay")

    assert result.stop_reason == "denied"
    assert "not approved" in result.steps[0].observation
    assert "paid 5" in result.steps[0].observation


def test_a_call_waits_for_a_persons_answer_while_other_runs_go_on() -> None:
    async def main() -> None:
        asked, answered = anyio.Event(), anyio.Event()

        async def ask_a_person(request: ToolRequest) -> bool:
            asked.set()
            await answered.wait()
            return True

        model = ScriptedModel([cell("before = 1\npaid = pay(5)\nfinal_answer([before, paid])")])
        waiting = CodeAgent(tools=[pay], model=model, sandbox=THREAD, approve=ask_a_person)
        other = CodeAgent(tools=[], model=ScriptedModel([cell("final_answer('done')")]), sandbox=THREAD)
        results: list[RunResult] = []

        async def run_it() -> None:
            results.append(await waiting.arun("pay"))

        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_it)
                await asked.wait()
                assert (await other.arun("go on")).output == "done"
                assert results == []
                answered.set()
        assert [result.output for result in results] == [[1, "paid 5"]]

    anyio.run(main)


def test_an_answer_that_never_comes_ends_with_the_deadline_of_the_run() -> None:
    async def nobody(request: ToolRequest) -> bool:
        await anyio.sleep_forever()
        raise AssertionError

    Sandbox(isolation="thread").close()  # the engine is loaded: the deadline is for the run alone
    agent = CodeAgent(
        tools=[pay], model=ScriptedModel([cell("print('asking')\npay(5)")]), sandbox=THREAD, approve=nobody
    )
    result = agent.run("pay", deadline_s=5)
    assert result.stop_reason == "timeout"
    assert result.steps[0].cell is not None
    assert result.steps[0].cell.stdout == "asking\n"
