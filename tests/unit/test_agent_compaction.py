"""Long conversations are shortened so that they fit the window: never the task, never the last steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.agent_worker import block
from tests.support.agents import calls, code_agent, fake_runtime, tool_agent

from cloche.agents.code_agent import CodeAgent
from cloche.agents.compaction import GONE, Compaction, TokenMeter, compacted, tokens_of
from cloche.agents.messages import Message, ModelReply
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.tool_calling_agent import ToolCallingAgent
from cloche.runtime.errors import ConfigError
from cloche.runtime.runtime import Runtime

LONG = block(f'print "{"x" * 3000}"')
DONE = block("final_answer 5")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


def requests_of(model: object) -> list[tuple[Message, ...]]:
    assert isinstance(model, ScriptedModel)
    return model.requests


def estimate(messages: Sequence[Message]) -> int:
    return sum(map(tokens_of, messages))


def test_without_a_window_nothing_is_shortened(runtime: Runtime) -> None:
    result = code_agent(runtime, *[LONG] * 9, DONE).run("Task.")
    assert len(result.messages) == 2 + 9 * 2 + 1
    assert sum("x" * 3000 in message.content for message in result.messages if message.role == "user") == 9


def test_old_observations_give_way_and_every_request_fits_the_window(runtime: Runtime) -> None:
    agent = code_agent(runtime, *[ModelReply(text=LONG)] * 30, context_tokens=12_000, reply_tokens=1000)
    assert said(agent.run("The task.").messages)
    requests = requests_of(agent.model)
    assert len(requests) == 20
    assert max(map(estimate, requests)) <= 12_000 - 1000
    for request in requests:
        assert request[0].content == agent.system_prompt
        assert request[1].content.startswith("Task: The task.")
        assert len(request) == 2 or "x" * 3000 in request[-1].content


def said(messages: Sequence[Message]) -> bool:
    return any(
        "more characters, left out" in message.content or GONE.strip() in message.content for message in messages
    )


def test_steps_in_the_result_keep_everything(runtime: Runtime) -> None:
    result = code_agent(runtime, *[LONG] * 9, DONE, context_tokens=9000, max_steps=12).run("Task.")
    assert all("x" * 3000 in step.observation for step in result.steps[:-1])


def test_a_summary_of_the_model_may_stand_in_for_old_steps(runtime: Runtime) -> None:
    class Summing(ScriptedModel):
        """Gives a summary when it is asked for one, and its lines otherwise."""

        async def complete(self, messages: Sequence[Message], **options: object) -> ModelReply:
            if "Sum up" in messages[0].content:
                self.requests.append(tuple(messages))
                return ModelReply(text="I printed many x.")
            self.requests.append(tuple(messages))
            return ModelReply(text=DONE if len(self.requests) > 14 else LONG)

    model = Summing([])
    agent = CodeAgent(
        [], model, runtime=runtime, context_tokens=Compaction(context_tokens=9000, keep_steps=2, summarize=True)
    )
    result = agent.run("The task.")
    assert result.output == 5
    sums = [request for request in model.requests if "Sum up" in request[0].content]
    assert len(sums) >= 2
    assert "I printed many x." in sums[1][0].content  # the summary before is part of the next
    assert result.messages[1].content.count(GONE) == 1
    assert result.messages[1].content.endswith("I printed many x.")
    assert result.spent.steps == len(result.steps) + len(sums)


def test_calls_of_tools_and_their_results_leave_together() -> None:
    def search(query: str) -> str:
        """Searches."""
        return "y" * 3000

    def reply(messages: Sequence[Message]) -> ModelReply:
        if sum(message.role == "tool" for message in messages) >= 3 and "left out" in str(messages):
            return calls(("final_answer", {"value": 1}))
        return calls(("search", {"query": "a"}), ("search", {"query": "b"}))

    agent = ToolCallingAgent([search], ScriptedModel([reply] * 20), context_tokens=7000, reply_tokens=500)
    result = agent.run("Task.")
    assert result.output == 1
    for request in requests_of(agent.model):
        asked = [call.id for message in request for call in message.tool_calls]
        answered = [message.tool_call_id for message in request if message.role == "tool"]
        assert asked == answered


messages_strategy = st.lists(st.integers(0, 4000), min_size=0, max_size=30).map(
    lambda sizes: [
        Message("system", "s"),
        Message("user", "task"),
        *(m for size in sizes for m in (Message("assistant", "code"), Message("user", "o" * size))),
    ]
)


@given(messages=messages_strategy, keep=st.integers(1, 5), room=st.integers(100, 20_000))
def test_the_head_and_the_last_steps_are_never_touched(messages: list[Message], keep: int, room: int) -> None:
    found = compacted(messages, Compaction(context_tokens=1000, keep_steps=keep), room, "task")
    assert found[0] == messages[0]
    assert found[1].content.startswith("task")
    tail = keep * 2 if len(messages) - 2 > keep * 2 else len(messages) - 2
    assert found[len(found) - tail :] == messages[len(messages) - tail :]
    assert [m.role for m in found[1:]] == ["user", *["assistant", "user"] * ((len(found) - 2) // 2)]
    assert sum(map(tokens_of, found)) <= sum(map(tokens_of, messages)) + tokens_of(Message("user", GONE))


def test_an_estimate_takes_what_the_endpoint_counted_and_adds_what_came_since() -> None:
    meter = TokenMeter()
    messages = [Message("user", "x" * 300)]
    assert meter.estimate(messages) == 104
    meter.learn(messages, 80)
    assert meter.estimate(messages) == 80
    assert meter.estimate([*messages, Message("assistant", "y" * 30)]) == 94
    meter.forget()
    assert meter.estimate(messages) == 104


@pytest.mark.parametrize("options", [{"context_tokens": 10}, {"context_tokens": 1000, "keep_steps": 0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Compaction(**options)  # type: ignore[arg-type]


def test_the_tool_calling_agent_takes_a_window_too() -> None:
    assert tool_agent(context_tokens=1000).spec.compaction == Compaction(context_tokens=1000)


def test_the_task_of_a_later_run_is_kept_wherever_it_stands(runtime: Runtime) -> None:
    agent = code_agent(
        runtime, DONE, *[ModelReply(text=LONG)] * 30, context_tokens=6000, reply_tokens=500, max_steps=12
    )
    with agent.conversation() as talk:
        talk.run("The first task.")
        talk.run("The second task.")
    for request in requests_of(agent.model)[1:]:
        text = "".join(message.content for message in request)
        assert text.count("Task: The first task.") == text.count("Task: The second task.") == 1
        assert text.count(GONE) <= 1
        assert all(one.role != other.role for one, other in itertools.pairwise(request))
