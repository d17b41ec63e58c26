"""Sub-agents: tools with a sandbox of their own, that end with their call and never call themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import anyio
import pytest
from pydantic import BaseModel
from tests.support.agent_worker import block, serve
from tests.support.agents import BOUND_S, REACHED_S, calls, code_agent, fake_runtime, tool_agent

from cloche.agents.code_agent import CodeAgent
from cloche.agents.events import CodeParsed, Event, RunFinished, StepFinished, SubAgentEvent
from cloche.agents.managed import ManagedAgent
from cloche.agents.messages import Message, ModelReply
from cloche.agents.models.scripted import ScriptedModel
from cloche.runtime.errors import ConfigError
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.runtime import Runtime


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(serve)


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with fake_runtime(source) as made:
        yield made


def expert(runtime: Runtime, *lines: object, **options: object) -> CodeAgent:
    given: dict[str, object] = {"name": "expert", "description": "Knows prices.", **options}
    return code_agent(runtime, *lines, **given)  # type: ignore[arg-type]


ASK = block('ask_tool ["expert", "how much?"]')
DONE = block("final_answer 1")


def test_a_sub_agent_is_a_tool_with_a_sandbox_of_its_own(runtime: Runtime, source: FakeSource) -> None:
    boss = code_agent(runtime, ASK, DONE, managed_agents=[expert(runtime, block("final_answer 3.5"))])
    assert "def expert(task: str, inputs: dict[str, Any] | None = None)" in boss.system_prompt
    assert "Knows prices." in boss.system_prompt
    result = boss.run("Ask.")
    assert (result.output, result.steps[0].observation.split("\n")[1]) == (1, "3.5")
    assert [link.requests for link in source.leased] == [["start", "cell", "cell"], ["start", "cell"]]
    assert [record.name for record in result.steps[0].tool_calls] == ["expert"]


def test_its_events_come_with_its_name(runtime: Runtime) -> None:
    boss = code_agent(runtime, ASK, DONE, managed_agents=[expert(runtime, block("final_answer 3.5"))])
    with boss.stream("Ask.") as events:
        inner = [event for event in events if isinstance(event, SubAgentEvent)]
    assert {(event.step, event.agent) for event in inner} == {(1, "expert")}
    assert len({event.run_id for event in inner}) == 1
    kinds = [type(event.event) for event in inner]
    assert (kinds[0].__name__, kinds[-1]) == ("StepStarted", RunFinished)


def test_the_tool_calling_agent_has_sub_agents_too(runtime: Runtime) -> None:
    boss = tool_agent(
        calls(("expert", {"task": "how much?", "inputs": {"item": "tea"}})),
        calls(("final_answer", {"value": 1})),
        managed_agents=[expert(runtime, block("final_answer 3.5"))],
    )
    result = boss.run("Ask.")
    assert [message.content for message in result.messages if message.role == "tool"][0] == "3.5"


def test_a_sub_agent_without_an_answer_is_an_error_of_the_call(runtime: Runtime) -> None:
    boss = code_agent(runtime, ASK, DONE, managed_agents=[expert(runtime, block('print "x"'), max_steps=1)])
    assert "expert gave no answer: it used all its steps" in boss.run("Ask.").steps[0].observation


def test_a_failed_model_of_a_sub_agent_does_not_end_the_caller(runtime: Runtime) -> None:
    boss = code_agent(runtime, ASK, DONE, managed_agents=[expert(runtime)])
    result = boss.run("Ask.")
    assert result.output == 1
    assert result.steps[0].tool_calls[0].error is not None


def test_a_summary_of_its_thoughts_may_come_with_the_answer(runtime: Runtime) -> None:
    inner = expert(runtime, "I know it.\n" + block("final_answer 3.5"))
    boss = code_agent(runtime, ASK, DONE, managed_agents=[ManagedAgent(agent=inner, summary=True)])
    assert "{'answer': 3.5, 'report': 'I know it.'}" in boss.run("Ask.").steps[0].observation


def test_it_may_be_called_by_another_name(runtime: Runtime) -> None:
    managed = ManagedAgent(agent=code_agent(runtime, DONE), name="helper", description="Helps.")
    boss = code_agent(runtime, block('ask_tool ["helper", "x"]'), DONE, managed_agents=[managed])
    assert boss.run("Ask.").steps[0].observation.split("\n")[1] == "1"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": ""}, "needs a name and a description"),
        ({"description": ""}, "needs a name and a description"),
        ({"name": "get_price"}, "two tools are named 'get_price'"),
        ({"name": "not a name"}, "not a Python name"),
    ],
)
def test_a_sub_agent_needs_a_name_of_its_own_and_a_description(
    runtime: Runtime, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        code_agent(runtime, managed_agents=[expert(runtime, **options)])


@pytest.mark.parametrize("share", [0.0, 1.5, -1])
def test_a_share_is_a_part(runtime: Runtime, share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        code_agent(runtime, managed_agents=[ManagedAgent(agent=expert(runtime), share=share)])


def test_no_agent_calls_itself_however_many_lie_between(runtime: Runtime) -> None:
    """Agents are made from the inside out, so a circle needs a tool that closes it later."""
    made: list[CodeAgent] = []

    async def back(task: str) -> object:
        """Asks the first agent again."""
        from cloche.agents.managed import managed_tools

        [tool] = managed_tools([made[0]])
        return await tool(task)

    inner = CodeAgent(
        [back], ScriptedModel([block('ask_tool ["back", "x"]'), DONE]), runtime=runtime, name="inner", description="I."
    )
    outer = code_agent(
        runtime, block('ask_tool ["inner", "x"]'), DONE, managed_agents=[inner], name="outer", description="O."
    )
    made.append(outer)
    seen: list[Event] = []
    with outer.stream("Ask.") as events:
        seen.extend(events)
    inner_events = [event.event for event in seen if isinstance(event, SubAgentEvent)]
    told = [event.step.observation for event in inner_events if isinstance(event, StepFinished)]
    assert "outer is at work already and waits for this answer" in told[0]


def test_cancelling_the_caller_ends_the_sub_agent_and_closes_both_sandboxes(
    runtime: Runtime, source: FakeSource
) -> None:
    boss = code_agent(runtime, ASK, managed_agents=[expert(runtime, block("loop"))])
    with boss.stream("Ask.") as events:
        for event in events:
            if isinstance(event, SubAgentEvent) and isinstance(event.event, CodeParsed):
                events.cancel()
        assert events.result is not None
        assert events.result.stop_reason == "cancelled"
    assert all(link.gone.wait(BOUND_S) for link in source.leased)


def test_cancelling_the_caller_ends_a_sub_agent_whose_model_does_not_answer(runtime: Runtime) -> None:
    ended = threading.Event()

    class Slow:
        name = "slow"

        async def complete(self, messages: object, **options: object) -> ModelReply:
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError

    inner = CodeAgent([], Slow(), runtime=runtime, name="expert", description="Slow.")
    boss = code_agent(runtime, ASK, managed_agents=[inner])
    assert boss.run("Ask.", deadline_s=REACHED_S).stop_reason == "timeout"
    assert ended.wait(BOUND_S)


def test_one_sub_agent_serves_many_callers_at_once(runtime: Runtime) -> None:
    def answer(messages: Sequence[Message]) -> str:
        return block(f"final_answer {messages[1].content.removeprefix('Task: ')}")

    inner = expert(runtime, answer)
    boss = CodeAgent(
        [],
        ScriptedModel(
            [
                lambda messages: block(f'ask_tool ["expert", "{messages[1].content.removeprefix("Task: ")}"]'),
                lambda messages: block(f"final_answer {messages[-1].content.splitlines()[1]}"),
            ]
        ),
        runtime=runtime,
        managed_agents=[inner],
    )
    outputs: dict[int, object] = {}

    async def one(number: int) -> None:
        outputs[number] = (await boss.arun(str(number))).output

    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(one, number)

    anyio.run(main)
    assert outputs == {number: number for number in range(20)}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"task": "x" * 60_000}, "the task is longer than 50000 characters"),
        ({"task": "x", "inputs": {"not a name": 1}}, "'not a name' is not the name of one"),
        ({"task": "x", "inputs": {"get_price": 1}}, "a tool has that name"),
        ({"task": "x", "inputs": {"print": 1}}, "it would hide what"),
    ],
)
def test_what_a_caller_may_not_give_is_an_error_of_the_call(
    runtime: Runtime, arguments: dict[str, object], part: str
) -> None:
    boss = tool_agent(
        calls(("expert", arguments)),
        calls(("final_answer", {"value": 1})),
        managed_agents=[expert(runtime, block("final_answer 3.5"))],
    )
    result = boss.run("Ask.")
    assert result.output == 1
    assert part in result.steps[0].observation


def test_a_full_runtime_is_an_error_of_the_call(source: FakeSource) -> None:
    with Runtime(sources={"process": source}, max_sandboxes=1) as small:
        boss = code_agent(small, ASK, DONE, managed_agents=[expert(small, DONE)])
        assert "expert could not go on: PoolExhausted" in boss.run("Ask.").steps[0].observation


class Price(BaseModel):
    item: str
    euros: float


def test_the_callers_model_sees_what_type_a_sub_agent_answers_with(runtime: Runtime) -> None:
    inner = expert(runtime, block('final_answer {"item": "tea", "euros": 3.5}'), output_type=Price)
    boss = code_agent(runtime, ASK, DONE, managed_agents=[inner])
    assert "class Price(TypedDict):  # a dict, written {...}\n    item: str\n    euros: float" in boss.system_prompt
    assert "-> Price:" in boss.system_prompt
    assert "{'item': 'tea', 'euros': 3.5}" in boss.run("Ask.").steps[0].observation
