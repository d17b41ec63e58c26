"""Defects of smolagents 1.26 that its users met (design notes, section 1.9), each with the test that it is not here."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.support.agent_worker import block
from tests.support.agents import code_agent, fake_runtime

from cloche import Budget, CodeAgent, Limits, Sandbox, SandboxOptions, TimedOut, Tool
from cloche.agents.box import Box
from cloche.agents.events import RunFinished, StepFinished
from cloche.agents.messages import ModelReply, TokenUsage
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.result import FinalAnswerStep
from cloche.runtime.cell import Cell
from cloche.runtime.runtime import Runtime


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


@pytest.mark.wasmtime
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("code", ["import time\ntime.sleep(60)", "while True:\n    pass"])
def test_a_limit_of_three_seconds_stops_code_that_would_run_for_a_minute(code: str) -> None:
    """There `timeout_seconds=1` let a sleep of 6 s run to its end, and an endless loop froze the process."""
    with Sandbox(limits=Limits(wall_s=3), isolation="thread") as box:
        started = time.monotonic()
        with pytest.raises(TimedOut) as caught:
            box.run(code)
        assert time.monotonic() - started < 30
        assert caught.value.state_kept
        assert box.run("1 + 1").value == 2


def test_the_request_for_a_new_plan_says_the_number_of_steps_that_are_left(runtime: Runtime) -> None:
    """There the text `{remaining_steps}` reached the model as it stands."""
    agent = code_agent(
        runtime, "Plan.", block('print "x"'), "Plan again.", block("final_answer 1"), planning_interval=1, max_steps=5
    )
    agent.run("x")
    assert isinstance(agent.model, ScriptedModel)
    asked = agent.model.requests[2][-1].content
    assert "You have 4 steps left." in asked
    assert "remaining_steps" not in asked


@pytest.mark.parametrize("last_answer", [False, True])
def test_at_max_steps_each_step_is_streamed_once_and_the_end_comes(runtime: Runtime, last_answer: bool) -> None:
    """There the last step came twice and the final one never."""
    agent = code_agent(
        runtime, block('print "x"'), block('print "y"'), "It is 5.", max_steps=2, answer_at_max_steps=last_answer
    )
    events = list(agent.stream("x"))
    assert [event.step.number for event in events if isinstance(event, StepFinished)] == [1, 2]
    assert [type(event) for event in events].count(RunFinished) == 1
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.result.stop_reason, last.result.output) == ("max_steps", "It is 5." if last_answer else None)
    assert isinstance(last.result.trace[-1], FinalAnswerStep) is last_answer


@pytest.mark.parametrize("owner", [Tool, CodeAgent])
def test_nothing_can_be_loaded_as_code(owner: type) -> None:
    """There `Tool.from_dict` and `Agent.from_dict` run source text on the host."""
    names = {"from_code", "from_dict", "from_folder", "from_hub", "from_space", "load", "save", "push_to_hub"}
    assert names.isdisjoint(dir(owner))
    for module in ("cloche.agents.agent", "cloche.agents.code_agent", "cloche.runtime.tools"):
        source = inspect.getsource(__import__(module, fromlist=["_"]))
        assert not any(word in source for word in ("exec(", "eval(", "pickle", "importlib"))


def test_an_answer_that_looks_like_json_stays_text(runtime: Runtime) -> None:
    """There a dump turned the text '{"a": 1}' into a dict."""
    text = '{"a": 1}'
    result = code_agent(runtime, block('final_answer "{\\"a\\": 1}"')).run("x", inputs={"given": text})
    assert result.output == text
    assert result.trace[-1] == FinalAnswerStep(output=text)
    assert type(result.output) is str


def test_every_option_of_an_agent_is_kept_where_it_can_be_read(runtime: Runtime) -> None:
    """There `to_dict` lost instructions, code tags, structured output and streaming."""
    agent = code_agent(
        runtime,
        instructions="Answer in Swedish.",
        use_structured_outputs=True,
        stop=["<end>"],
        planning_interval=3,
        output_type=int,
        max_steps=7,
        name="n",
        description="d",
        additional_authorized_imports=["numpy"],
        budget=Budget(steps=9),
        limits=Limits(wall_s=3),
        engine="wasmtime",
    )
    spec = agent.spec
    assert "Answer in Swedish." in spec.system_prompt
    assert (spec.structured, spec.stop, spec.planning_interval, spec.max_steps) == (True, ("<end>",), 3, 7)
    assert (spec.output.annotation, spec.name, spec.description, spec.packages) == (int, "n", "d", ("numpy",))
    assert agent.budget == Budget(steps=9)
    assert agent.sandbox == SandboxOptions(limits=Limits(wall_s=3), engine="wasmtime", runtime=runtime)


@pytest.mark.parametrize("prose", ["hello", "print", "result", "x = 1", "done()", "(1, 2)"])
def test_prose_that_happens_to_be_python_is_never_run(runtime: Runtime, prose: str) -> None:
    """There any reply that parses as Python runs, such as the word `hello`."""
    result = code_agent(runtime, prose, block("final_answer 1")).run("x")
    assert (result.steps[0].code, result.steps[0].cell) == (None, None)
    assert result.steps[0].error is not None
    assert result.steps[0].error.type == "ParsingError"


def test_a_sandbox_of_ones_own_is_called_by_the_names_of_the_protocol() -> None:
    """There a custom executor breaks unless it names its parameter `variables`, which no interface says."""
    calls: list[inspect.BoundArguments] = []
    signature = inspect.signature(Box.run)

    class Mine:
        async def run(self, *args: object, **kwargs: object) -> Cell:
            calls.append(signature.bind(self, *args, **kwargs))
            return Cell(stdout="x")

        async def reset(self) -> None:
            raise AssertionError

    @asynccontextmanager
    async def opened(tools: Sequence[Tool]) -> AsyncGenerator[Mine]:
        yield Mine()

    agent = CodeAgent([], ScriptedModel([block("x")]), sandbox=opened, max_steps=1)
    agent.run("x", inputs={"given": 1})
    assert [sorted(call.arguments) for call in calls] == [
        ["code", "inputs", "self"],
        ["code", "deadline_s", "on_output", "on_tool", "self"],
    ]
    inputs: Mapping[str, object] = calls[0].arguments["inputs"]
    assert inputs == {"given": 1}


def test_tokens_count_once_whether_or_not_the_reply_is_streamed(runtime: Runtime) -> None:
    """There input tokens were added up with every piece of a streamed reply."""
    usage = TokenUsage(input_tokens=100, output_tokens=7)
    lines = [ModelReply(text=block('print "x"'), usage=usage), ModelReply(text=block("final_answer 1"), usage=usage)]
    agent = code_agent(runtime, *lines)
    with agent.stream("x") as events:
        list(events)
    assert events.result is not None
    assert events.result.usage == agent.run("x").usage == TokenUsage(input_tokens=200, output_tokens=14)
