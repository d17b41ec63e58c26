"""Conversations: messages and the sandbox last from one run to the next, the agent knows nothing of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import anyio
import pytest
from tests.support.agent_worker import block, serve
from tests.support.agents import BOUND_S, REACHED_S, calls, code_agent, fake_runtime, started, tool_agent
from tests.support.chat_server import chat_server, reply

from cloche.agents import conversation
from cloche.agents.box import Home
from cloche.agents.code_agent import CodeAgent
from cloche.agents.conversation import Conversation
from cloche.agents.errors import AgentError, ModelUnavailable
from cloche.agents.events import CodeParsed, RunFinished
from cloche.agents.loop import add_user
from cloche.agents.messages import Image, Message
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.result import StepError
from cloche.agents.streams import EventStream
from cloche.runtime.async_sandbox import AsyncSandbox
from cloche.runtime.errors import CannotCross, PoolExhausted, SandboxBusy, SandboxClosed
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.limits import Limits
from cloche.runtime.runtime import Runtime


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(serve)


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with fake_runtime(source) as made:
        yield made


ANSWERS = [block(f"final_answer {number}") for number in range(1, 9)]


def test_a_conversation_keeps_its_messages_and_its_sandbox(runtime: Runtime, source: FakeSource) -> None:
    agent = code_agent(runtime, *ANSWERS)
    with agent.conversation() as talk:
        assert [talk.run("One.").output, talk.run("Two.").output] == [1, 2]
        assert [message.role for message in talk.messages] == ["system", "user", "assistant", "user", "assistant"]
        assert [message.content for message in talk.messages if message.role == "user"] == ["Task: One.", "Task: Two."]
        assert len(source.leased) == 1
        assert not source.leased[0].closed
        assert [result.output for result in talk.results] == [1, 2]
    assert source.leased[0].closed
    assert agent.run("Alone.").output == 1  # the agent remembers nothing


def test_a_conversation_works_from_async_code_with_events(runtime: Runtime, source: FakeSource) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with Conversation(code_agent(runtime, *ANSWERS)) as talk:
                assert (await talk.arun("One.")).output == 1
                async with talk.astream("Two.") as events:
                    codes = [event.code async for event in events if isinstance(event, CodeParsed)]
                assert codes == ["final_answer 2"]
                assert len(source.leased) == 1

    anyio.run(main)
    assert source.leased[0].closed


def test_inputs_of_all_runs_are_put_into_a_sandbox_that_replaces_a_lost_one(
    runtime: Runtime, source: FakeSource
) -> None:
    lines = [ANSWERS[0], block("crash"), block("final_answer 3")]
    with code_agent(runtime, *lines).conversation() as talk:
        talk.run("One.", inputs={"a": 1})
        assert talk.run("Two.", inputs={"b": 2}).output == 3
    assert [link.requests for link in source.leased] == [
        ["start", "cell", "cell", "cell", "cell"],
        ["start", "cell", "cell"],
    ]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("owner", "of"), [(AsyncSandbox, "reset"), (Home, "fill")])
def test_a_run_that_ends_while_its_lost_sandbox_is_replaced_leaves_the_rest_to_the_next(
    runtime: Runtime, source: FakeSource, monkeypatch: pytest.MonkeyPatch, owner: type, of: str, moment: str
) -> None:
    real: Callable[..., Awaitable[None]] = getattr(owner, of)
    streams: list[EventStream] = []
    held = threading.Lock()

    async def cancelled(*given: object) -> None:
        if moment == "after":
            await real(*given)
        with held:  # until the stream is there
            streams[0].cancel()
        await anyio.sleep_forever()

    lines = [ANSWERS[0], block("crash"), block("final_answer 3"), block("final_answer 4")]
    with code_agent(runtime, *lines).conversation() as talk:
        talk.run("One.", inputs={"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr(owner, of, cancelled)
            held.acquire()
            streams.append(talk.stream("Two.", inputs={"b": 2}))
            held.release()
            *_, last = streams[0]
        assert isinstance(last, RunFinished)
        assert last.result.stop_reason == "cancelled"
        result = talk.run("Three.")
        assert result.output == 3
        assert "variables of earlier blocks are gone" in result.messages[-2].content
        assert "are gone" not in talk.run("Four.").messages[-2].content
    assert source.leased[-1].requests[-3:] == ["cell", "cell", "cell"]  # inputs, and one of each run


def test_a_sandbox_lost_between_two_runs_is_replaced_and_the_model_is_told(
    runtime: Runtime, source: FakeSource
) -> None:
    lines = [block('ask_tool ["final_answer", 1]', "crash"), block("final_answer 2"), block("final_answer 3")]
    with code_agent(runtime, *lines).conversation() as talk:
        assert talk.run("One.", inputs={"a": 1}).output == 1
        result = talk.run("Two.")
        assert result.output == 2
        assert "variables of earlier blocks are gone" in result.messages[3].content
        assert "are gone" not in talk.run("Three.").messages[5].content
    assert len(source.leased) == 2


def test_a_cancelled_run_leaves_a_conversation_that_goes_on(runtime: Runtime) -> None:
    lines = [block("loop"), block("final_answer 2")]
    with code_agent(runtime, *lines).conversation() as talk:
        assert talk.run("One.", deadline_s=REACHED_S).stop_reason == "timeout"
        result = talk.run("Two.")
        assert (result.output, [m.role for m in result.messages]) == (
            2,
            ["system", "user", "assistant", "user", "assistant"],
        )


def test_after_an_error_of_the_model_the_next_task_joins_the_message_that_had_no_reply(runtime: Runtime) -> None:
    lines = [ModelUnavailable("down")]
    agent = code_agent(runtime, *lines)
    with agent.conversation() as talk:
        with pytest.raises(ModelUnavailable):
            talk.run("One.")
        with pytest.raises(ModelUnavailable):
            talk.run("Two.")
        assert [message.role for message in talk.messages] == ["system", "user"]
        assert talk.messages[1].content == "Task: One.\n\nTask: Two."


def test_one_run_at_a_time(runtime: Runtime) -> None:
    with code_agent(runtime, block("loop"), *ANSWERS).conversation() as talk, talk.stream("One.") as events:
        assert any(isinstance(event, CodeParsed) for event in iter(lambda: next(events), None))
        with pytest.raises(SandboxBusy, match="a run of this conversation goes on"):
            talk.run("Two.")
        with pytest.raises(SandboxBusy):
            talk.close()
        events.cancel()
        list(events)


def test_of_two_runs_that_were_made_at_once_the_second_is_refused(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with code_agent(runtime, *ANSWERS).conversation() as talk:
                results = await asyncio.gather(*(talk.arun(str(n)) for n in range(3)), return_exceptions=True)
        assert [getattr(result, "output", type(result).__name__) for result in results] == [
            1,
            "SandboxBusy",
            "SandboxBusy",
        ]

    anyio.run(main)


def test_a_run_that_was_made_while_another_ended_is_refused_and_nothing_is_lost(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = code_agent(runtime, *ANSWERS).conversation()

    def after_another(messages: Sequence[Message], text: str) -> list[Message]:
        made = add_user(messages, text)
        if text == "Task: Three.":
            talk.run("Two.", deadline_s=BOUND_S)
        return made

    with talk:
        talk.run("One.", deadline_s=BOUND_S)
        monkeypatch.setattr(conversation, "add_user", after_another)
        with pytest.raises(SandboxBusy, match="came in between"):
            talk.run("Three.", deadline_s=BOUND_S)
        assert [message.content for message in talk.messages if message.role == "user"] == ["Task: One.", "Task: Two."]
        assert [result.output for result in talk.results] == [1, 2]


def test_a_run_that_is_dropped_before_it_begins_does_not_block_the_next(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with code_agent(runtime, *ANSWERS).conversation() as talk:
                async with talk.astream("Never."):
                    pass
                assert (await talk.arun("One.")).output == 1

    anyio.run(main)


def test_runs_that_were_cut_short_are_recorded_as_cancelled(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with code_agent(runtime, block("loop"), block("loop")).conversation() as talk:
                async with talk.astream("Left early.") as events:
                    async for event in events:
                        if isinstance(event, CodeParsed):
                            break
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await talk.arun("Never ends.")
                assert [result.stop_reason for result in talk.results] == ["cancelled", "cancelled"]
                assert talk.results[0].steps[0].error == StepError(type="Stopped", message="the run ended: cancelled")

    anyio.run(main)


def test_the_result_of_an_error_is_the_one_that_a_conversation_keeps() -> None:
    with tool_agent().conversation() as talk:
        with pytest.raises(AgentError) as raised:
            talk.run("Nobody replies.")
        assert talk.results == (raised.value.result,)
        assert talk.results[0].stop_reason == "error"


def test_a_closed_conversation_is_refused(runtime: Runtime) -> None:
    talk = code_agent(runtime, *ANSWERS).conversation()
    talk.close()
    talk.close()
    with pytest.raises(SandboxClosed, match="start another"):
        talk.run("One.")


def test_an_input_that_cannot_cross_leaves_the_conversation_as_it_was(runtime: Runtime) -> None:
    with code_agent(runtime, *ANSWERS).conversation() as talk:
        with pytest.raises(CannotCross):
            talk.run("One.", inputs={"a": threading_lock()})
        assert talk.run("Two.", inputs={"b": 1}).output == 1


def test_a_full_runtime_can_be_tried_again(source: FakeSource) -> None:
    with (
        Runtime(sources={"process": source}, max_sandboxes=1) as small,
        code_agent(small, *ANSWERS).conversation() as talk,
    ):
        with small.sandbox(), pytest.raises(PoolExhausted):
            talk.run("One.")
        assert talk.run("Two.").output == 1


def test_earlier_messages_can_be_loaded(runtime: Runtime) -> None:
    agent = code_agent(runtime, *ANSWERS)
    with agent.conversation() as talk:
        talk.run("One.")
        saved = talk.messages
    with agent.conversation() as talk:
        talk.load(saved)
        assert talk.run("Two.").output == 2


def test_an_image_goes_to_the_endpoint_with_the_task(runtime: Runtime) -> None:
    with chat_server(reply(block("final_answer 4"))) as server:
        model = OpenAIModel("m", base_url=server.url)
        image = Image(b"GIF89a", "image/gif")
        result = CodeAgent([], model, runtime=runtime).run("How many dots?", images=[image], deadline_s=BOUND_S)
    assert result.output == 4
    sent = server.requests[0].json["messages"]
    assert isinstance(sent, list)
    assert sent[1:] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Task: How many dots?"},
                {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}},
            ],
        }
    ]


def test_images_of_a_later_task_are_shown(runtime: Runtime) -> None:
    image = Image(b"png")
    with code_agent(runtime, *ANSWERS).conversation() as talk:
        talk.run("One.")
        assert talk.run("Two.", images=[image]).messages[3].images == (image,)


def test_a_tool_calling_agent_has_conversations_too() -> None:
    first, second = (calls(("final_answer", {"value": n})) for n in (1, 2))
    with tool_agent(first, second).conversation() as talk:
        assert [talk.run("One.").output, talk.run("Two.").output] == [1, 2]
        assert [m.role for m in talk.messages] == ["system", "user", "assistant", "tool", "user", "assistant", "tool"]


@pytest.mark.usefixtures("patient")
def test_limits_of_a_conversations_sandbox_are_per_cell(runtime: Runtime) -> None:
    lines = [block("loop"), block("final_answer 1")]
    with code_agent(runtime, *lines, limits=Limits(wall_s=REACHED_S)).conversation() as talk:
        assert talk.run("One.").output == 1


def threading_lock() -> object:
    return threading.Lock()


def test_closing_from_another_thread_while_idle_works(runtime: Runtime, source: FakeSource) -> None:
    talk = code_agent(runtime, *ANSWERS).conversation()
    talk.run("One.")
    started(talk.close).join(BOUND_S)
    assert source.leased[0].closed
