"""Events of a run, seen from blocking and from async code; dropping and cancelling it."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest
from tests.support.agent_worker import block, serve
from tests.support.chat_server import chat_server, chunk, events, stream

from cloche.agents.code_agent import CodeAgent
from cloche.agents.errors import ModelUnavailable
from cloche.agents.events import (
    CodeParsed,
    Event,
    ModelDelta,
    ModelReplied,
    OutputChunk,
    RunFinished,
    StepFinished,
    StepStarted,
)
from cloche.agents.messages import ModelReply
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.models.scripted import Line, ScriptedModel
from cloche.runtime.errors import ConfigError
from cloche.runtime.fake_link import FakeCell, FakeLink, FakeSource
from cloche.runtime.runtime import Runtime

BOUND_S = 30.0


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(serve)


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with Runtime(sources={"process": source}, close_deadline_s=1) as made:
        yield made


def agent_for(runtime: Runtime, *lines: Line) -> CodeAgent:
    return CodeAgent([], ScriptedModel(lines), runtime=runtime)


def wait_until_closed(link: FakeLink) -> None:
    assert link.gone.wait(BOUND_S)


def describe(event: Event) -> tuple[object, ...]:
    match event:
        case StepStarted(step):
            return "started", step
        case ModelDelta(step, text):
            return "delta", step, text
        case ModelReplied(step, reply):
            return "replied", step, reply.text
        case CodeParsed(step, _, code):
            return "code", step, code
        case OutputChunk(step, stream, text):
            return "output", step, stream, text
        case StepFinished(step):
            return "finished", step.number, step.is_final
        case RunFinished(result):
            return "end", result.stop_reason, result.output
        case _:
            return (type(event).__name__,)


TWO_STEPS = ('Look.\n```python\nprint "a"\n```', block("final_answer 5"))
EVENTS = [
    ("started", 1),
    ("delta", 1, "Look.\n"),
    ("delta", 1, "```python\n"),
    ("delta", 1, 'print "a"\n'),
    ("delta", 1, "```"),
    ("replied", 1, TWO_STEPS[0]),
    ("code", 1, 'print "a"'),
    ("output", 1, "stdout", "a\n"),
    ("finished", 1, False),
    ("started", 2),
    ("delta", 2, "```python\n"),
    ("delta", 2, "final_answer 5\n"),
    ("delta", 2, "```"),
    ("replied", 2, TWO_STEPS[1]),
    ("code", 2, "final_answer 5"),
    ("finished", 2, True),
    ("end", "final", 5),
]


def test_events_come_in_order_and_each_once(runtime: Runtime) -> None:
    with agent_for(runtime, *TWO_STEPS).stream("Add.") as events:
        assert [describe(event) for event in events] == EVENTS
        assert events.result is not None
        assert (events.result.output, list(events)) == (5, [])


def test_async_events_are_the_same(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with agent_for(runtime, *TWO_STEPS).astream("Add.") as events:
                assert [describe(event) async for event in events] == EVENTS
                assert events.result is not None
                assert events.result.output == 5

    anyio.run(main)


def test_when_steps_run_out_the_last_event_still_comes_once(runtime: Runtime) -> None:
    events = [describe(event) for event in agent_for(runtime, TWO_STEPS[0]).stream("Add.", max_steps=1)]
    assert events[-2:] == [("finished", 1, False), ("end", "max_steps", None)]
    assert sum(event[0] == "finished" for event in events) == 1


def test_output_comes_while_the_cell_still_runs(runtime: Runtime) -> None:
    with agent_for(runtime, block('print "early"', "loop")).stream("Add.") as events:
        assert OutputChunk(1, "stdout", "early\n") in iter(lambda: next(events), None)


def test_an_error_comes_after_the_events_before_it(runtime: Runtime) -> None:
    events = agent_for(runtime, TWO_STEPS[0], ModelUnavailable("down")).stream("Add.")
    seen: list[Event] = []
    with pytest.raises(ModelUnavailable):
        seen.extend(events)
    for event in (seen, list(events)):
        assert RunFinished not in map(type, event)


def test_an_async_error_is_raised_to_the_reader(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S), pytest.raises(ModelUnavailable):
            async for _ in agent_for(runtime, ModelUnavailable("down")).astream("Add."):
                pass

    anyio.run(main)


def test_cancel_ends_a_cell_in_order_from_any_thread(runtime: Runtime, source: FakeSource) -> None:
    with agent_for(runtime, block('print "early"', "loop")).stream("Add.") as events:
        kinds: list[str] = []
        for event in events:
            kinds.append(type(event).__name__)
            if isinstance(event, OutputChunk):
                threading.Thread(target=events.cancel, daemon=True).start()
        assert kinds[-2:] == ["StepFinished", "RunFinished"]
        assert events.result is not None
        assert (events.result.stop_reason, len(events.result.steps)) == ("cancelled", 1)
    assert source.leased[0].closed


def test_cancel_ends_an_async_run_in_order(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with agent_for(runtime, block("loop")).astream("Add.") as events:
                async for event in events:
                    if isinstance(event, CodeParsed):
                        events.cancel()
                assert events.result is not None
                assert events.result.stop_reason == "cancelled"

    anyio.run(main)


def test_cancel_before_the_first_event_works_too(runtime: Runtime) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with agent_for(runtime, block("loop")).astream("Add.") as events:
                events.cancel()
                assert [type(event) async for event in events] == [RunFinished]

    anyio.run(main)


def test_leaving_the_block_early_closes_the_sandbox(runtime: Runtime, source: FakeSource) -> None:
    with agent_for(runtime, block("loop")).stream("Add.") as events:
        for event in events:
            if isinstance(event, CodeParsed):
                break
    assert source.leased[0].closed
    assert list(events) == []


def test_leaving_the_async_block_early_closes_the_sandbox(runtime: Runtime, source: FakeSource) -> None:
    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with agent_for(runtime, block("loop")).astream("Add.") as events:
                async for event in events:
                    if isinstance(event, CodeParsed):
                        break
            assert source.leased[0].closed

    anyio.run(main)


def test_a_dropped_stream_ends_its_run(runtime: Runtime, source: FakeSource) -> None:
    for event in agent_for(runtime, block("loop")).stream("Add."):
        if isinstance(event, CodeParsed):
            break
    gc.collect()
    wait_until_closed(source.leased[0])


def test_a_dropped_async_stream_ends_its_run(runtime: Runtime, source: FakeSource) -> None:
    async def main() -> None:
        async for event in agent_for(runtime, block("loop")).astream("Add."):
            if isinstance(event, CodeParsed):
                break
        gc.collect()
        with anyio.fail_after(BOUND_S):
            await anyio.to_thread.run_sync(wait_until_closed, source.leased[0])

    anyio.run(main)


def test_a_keyboard_interrupt_in_the_waiting_thread_closes_the_sandbox(
    runtime: Runtime, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def tell_and_serve(cell: FakeCell) -> None:
        begun.set()
        serve(cell)

    source.scripts = (tell_and_serve,)

    def interrupted(self: object, timeout: object = None) -> None:
        assert begun.wait(BOUND_S)
        raise KeyboardInterrupt

    agent = agent_for(runtime, block("loop"))
    with monkeypatch.context() as patch:
        patch.setattr("cloche.agents.streams.result_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            agent.run("Add.")
    assert source.leased[0].closed


def test_without_a_loop_astream_says_what_to_use() -> None:
    with pytest.raises(ConfigError, match="blocking code uses stream"):
        CodeAgent([], ScriptedModel([])).astream("Add.")


def test_two_streams_do_not_mix(runtime: Runtime) -> None:
    agent = agent_for(runtime, lambda messages: block(f"final_answer {messages[1].content.removeprefix('Task: ')}"))

    async def output(number: int) -> object:
        async with agent.astream(str(number)) as events:
            async for _ in events:
                pass
        assert events.result is not None
        return events.result.output

    async def main() -> list[object]:
        with anyio.fail_after(BOUND_S):
            return await asyncio.gather(*map(output, range(20)))

    assert anyio.run(main) == list(range(20))


def test_a_run_cancelled_while_the_model_writes_keeps_what_it_had_said(runtime: Runtime) -> None:
    class Endless:
        name = "endless"

        async def complete(
            self, messages: object, *, on_text: Callable[[str], None] | None = None, **options: object
        ) -> ModelReply:
            assert on_text is not None
            on_text("I think")
            await anyio.sleep_forever()
            raise AssertionError

    with CodeAgent([], Endless(), runtime=runtime).stream("Add.") as events:
        for event in events:
            if isinstance(event, ModelDelta):
                events.cancel()
        assert events.result is not None
        assert (events.result.stop_reason, events.result.usage_complete) == ("cancelled", False)
        assert [step.reply.text for step in events.result.steps] == ["I think"]
        assert [message.role for message in events.result.messages] == ["system", "user"]


def test_cancelling_while_an_endpoint_streams_closes_the_connection_and_keeps_the_text(runtime: Runtime) -> None:
    hung_up = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(stream(events(chunk("I will add"), done=False), whole=False))
        if connection.recv(1) == b"":
            hung_up.set()

    with chat_server(stall) as server:
        agent = CodeAgent([], OpenAIModel("m", base_url=server.url), runtime=runtime)
        with agent.stream("Add.", deadline_s=BOUND_S) as happening:
            for event in happening:
                if isinstance(event, ModelDelta):
                    happening.cancel()
        assert hung_up.wait(BOUND_S)
    assert happening.result is not None
    assert happening.result.stop_reason == "cancelled"
    assert [step.reply.text for step in happening.result.steps] == ["I will add"]


def test_streams_show_whether_the_run_goes_on(runtime: Runtime) -> None:
    agent = agent_for(runtime, block("final_answer 1"))
    with agent.stream("Go.") as blocking:
        list(blocking)
        assert repr(blocking) == "<EventStream ended: final>"

    async def main() -> None:
        with anyio.fail_after(BOUND_S):
            async with agent.astream("Go.") as stream_of_run:
                assert repr(stream_of_run) == "<AsyncEventStream running>"
            assert repr(stream_of_run) == "<AsyncEventStream ended>"

    anyio.run(main)
