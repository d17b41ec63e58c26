"""Runs of a code agent over a scripted model and a scripted worker: what ends them, what the model is told."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator, Sequence

import anyio
import pytest
from tests.support.agent_worker import block, serve
from tests.support.agents import REACHED_S

from cloche.agents.code_agent import CodeAgent
from cloche.agents.errors import AgentError, ModelUnavailable
from cloche.agents.messages import Message, ModelReply, TokenUsage
from cloche.agents.models.scripted import Line, ScriptedModel
from cloche.agents.result import RunResult, StepError
from cloche.runtime.cell import Cell
from cloche.runtime.errors import CannotCross, ConfigError, PoolExhausted
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.limits import Limits
from cloche.runtime.runtime import Runtime
from cloche.runtime.tools import Tool

BOUND_S = 30.0
QUICK = Limits(wall_s=REACHED_S)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(serve)


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with Runtime(sources={"process": source}, max_sandboxes=200, close_deadline_s=1) as made:
        yield made


def get_price(item: str) -> float:
    """Price of an item."""
    return {"tea": 3.5, "milk": 1.25}[item]


def agent_for(runtime: Runtime, *lines: Line, **options: object) -> CodeAgent:
    return CodeAgent([get_price], ScriptedModel(lines), runtime=runtime, **options)  # type: ignore[arg-type]


def told(result: RunResult) -> list[str]:
    """First lines of what the model was told after each step."""
    return [step.observation.partition("\n")[0] for step in result.steps]


# --- how a run ends ---------------------------------------------------------------------------------------------------


def test_the_answer_of_the_model_is_the_output(runtime: Runtime) -> None:
    result = agent_for(runtime, "I know.\n" + block('final_answer {"total": [1, 2.5]}')).run("Add.")
    assert (result.output, result.stop_reason, len(result.steps)) == ({"total": [1, 2.5]}, "final", 1)
    [step] = result.steps
    assert (step.number, step.thought, step.code, step.is_final) == (
        1,
        "I know.",
        'final_answer {"total": [1, 2.5]}',
        True,
    )
    assert (step.error, step.observation) == (None, "")
    assert isinstance(step.cell, Cell)
    assert step.cell.ended_by == "final_answer"


def test_none_may_be_the_answer(runtime: Runtime) -> None:
    result = agent_for(runtime, block("final_answer null")).run("Add.")
    assert (result.output, result.stop_reason) == (None, "final")


def test_a_run_goes_on_until_the_answer_and_tells_the_model_what_came_of_each_step(runtime: Runtime) -> None:
    agent = agent_for(runtime, block('ask_tool ["get_price", "tea"]'), block("final_answer 3.5"))
    result = agent.run("What does tea cost?")
    assert result.output == 3.5
    assert [(message.role, message.content.partition("\n")[0]) for message in result.messages] == [
        ("system", agent.system_prompt.partition("\n")[0]),
        ("user", "Task: What does tea cost?"),
        ("assistant", "```python"),
        ("user", "Output:"),
        ("assistant", "```python"),
    ]
    assert "\n3.5\n" in result.messages[3].content


def test_steps_run_out(runtime: Runtime) -> None:
    result = agent_for(runtime, *[block('print "x"')] * 9, max_steps=7).run("Add.", max_steps=2)
    assert (result.output, result.stop_reason, len(result.steps)) == (None, "max_steps", 2)


def test_the_deadline_of_a_run_ends_a_cell_and_keeps_what_there_was(runtime: Runtime, source: FakeSource) -> None:
    result = agent_for(runtime, block('print "x"'), block("loop")).run("Add.", deadline_s=REACHED_S)
    assert (result.stop_reason, len(result.steps)) == ("timeout", 2)
    assert result.steps[1].error == StepError(type="Stopped", message="the run ended: timeout")
    assert source.leased[0].closed


def test_the_deadline_of_a_run_ends_a_model_that_does_not_answer(runtime: Runtime) -> None:
    class Slow:
        name = "slow"

        async def complete(self, messages: object, **options: object) -> ModelReply:
            await anyio.sleep_forever()
            raise AssertionError

    result = CodeAgent([], Slow(), runtime=runtime).run("Add.", deadline_s=REACHED_S)
    assert (result.stop_reason, result.steps, result.usage_complete) == ("timeout", (), False)


def test_an_error_of_the_model_carries_the_steps_before_it(runtime: Runtime, source: FakeSource) -> None:
    agent = agent_for(runtime, block('print "x"'), ModelUnavailable("down"))
    with pytest.raises(ModelUnavailable) as caught:
        agent.run("Add.")
    assert isinstance(caught.value, AgentError)
    assert caught.value.result is not None
    assert (caught.value.result.stop_reason, len(caught.value.result.steps)) == ("error", 1)
    assert source.leased[0].closed


def test_the_first_answer_counts_whatever_the_guest_does_afterwards(runtime: Runtime) -> None:
    code = block('ask_tool ["final_answer", 1]', 'ask_tool ["final_answer", 2]', "crash")
    result = agent_for(runtime, code).run("Add.")
    assert (result.output, result.stop_reason, result.steps[0].is_final) == (1, "final", True)


class TwoAnswers:
    """A sandbox whose guest has two calls of `final_answer` in flight; the real one refuses the second only later."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = {entry.name: entry for entry in tools}
        self.closed = False

    async def __aenter__(self) -> TwoAnswers:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closed = True

    async def run(self, code: str, *rest: object, **options: object) -> Cell:
        self.tools["final_answer"]("first")
        self.tools["final_answer"]("second")
        return Cell()

    async def reset(self) -> None:
        raise AssertionError("nothing was lost")


def test_of_two_answers_in_flight_the_first_counts_and_a_given_sandbox_is_closed() -> None:
    made: list[TwoAnswers] = []

    def open_box(tools: Sequence[Tool]) -> TwoAnswers:
        made.append(TwoAnswers(tools))
        return made[-1]

    agent = CodeAgent([get_price], ScriptedModel([block("x")]), sandbox=open_box)
    assert agent.run("Add.").output == "first"
    assert (list(made[0].tools), made[0].closed) == (["get_price", "final_answer"], True)


# --- mistakes of the model --------------------------------------------------------------------------------------------


def test_a_reply_without_code_costs_a_step_and_runs_nothing(runtime: Runtime, source: FakeSource) -> None:
    result = agent_for(runtime, "final_answer 5", block("final_answer 5")).run("Add.")
    assert (result.output, len(result.steps), source.leased[0].served) == (5, 2, 1)
    error = StepError(type="ParsingError", message="Your reply holds no Python code block. Nothing was run.")
    assert (result.steps[0].error, result.steps[0].code) == (error, None)
    assert "final_answer(result)" in result.messages[3].content


def test_an_empty_reply_is_shown_to_the_model_as_such(runtime: Runtime) -> None:
    result = agent_for(runtime, "", block("final_answer 5")).run("Add.")
    assert result.messages[2] == Message("assistant", "(empty reply)")


def test_a_reply_that_was_cut_off_is_not_run(runtime: Runtime, source: FakeSource) -> None:
    cut = ModelReply(text="```python\nfail", finish_reason="length")
    result = agent_for(runtime, cut, block("final_answer 5")).run("Add.")
    assert told(result)[0].startswith("Your reply was cut off")
    assert source.leased[0].served == 1


def test_an_exception_in_the_code_is_told_and_the_sandbox_kept(runtime: Runtime, source: FakeSource) -> None:
    result = agent_for(runtime, block('fail "no such city"'), block("final_answer 5")).run("Add.")
    assert result.steps[0].error == StepError(type="ValueError", message="no such city")
    assert told(result) == ['Error in line 1: fail "no such city"', ""]
    assert len(source.leased) == 1


def test_a_tool_that_fails_is_told(runtime: Runtime) -> None:
    result = agent_for(runtime, block('ask_tool ["get_price", "gold"]'), block("final_answer 0")).run("Add.")
    assert "gold" in result.steps[0].observation


@pytest.mark.usefixtures("patient")
def test_code_that_runs_too_long_is_stopped_and_the_variables_are_kept(runtime: Runtime, source: FakeSource) -> None:
    result = agent_for(runtime, block("loop"), block("final_answer 5"), limits=QUICK).run("Add.")
    assert told(result)[0] == "Error: the code ran longer than 3 seconds and was stopped."
    assert result.steps[0].error is not None
    assert (result.output, result.steps[0].error.type, len(source.leased)) == (5, "TimedOut", 1)


@pytest.mark.parametrize("verb", ["loop_in_c", "crash"])
def test_after_the_loss_of_a_sandbox_a_fresh_one_has_the_inputs_again(
    runtime: Runtime, source: FakeSource, verb: str
) -> None:
    agent = agent_for(runtime, block(verb), block("final_answer 5"), limits=QUICK)
    result = agent.run("Add.", inputs={"rows": [1, 2]})
    assert result.output == 5
    assert "All variables are gone; start again from the beginning." in result.steps[0].observation
    assert [link.requests for link in source.leased] == [["start", "cell", "cell"]] * 2


# --- what a run is given ----------------------------------------------------------------------------------------------


def test_an_input_that_cannot_cross_costs_no_tokens(runtime: Runtime) -> None:
    model = ScriptedModel([block("final_answer 5")])
    with pytest.raises(CannotCross, match="lock"):
        CodeAgent([], model, runtime=runtime).run("Add.", inputs={"rows": [threading.Lock()]})
    assert model.requests == []


@pytest.mark.parametrize(
    ("name", "reason"), [("get_price", "a tool has that name"), ("not a name", "is not the name of one")]
)
def test_an_input_needs_a_name_of_its_own(runtime: Runtime, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        agent_for(runtime).run("Add.", inputs={name: 1})


@pytest.mark.parametrize("options", [{"max_steps": 0}, {"max_steps": True}, {"deadline_s": 0.0}, {"deadline_s": -1}])
def test_arguments_out_of_range_are_refused(runtime: Runtime, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        agent_for(runtime).run("Add.", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"isolation": "none"}, {"engine": "v8"}, {"max_steps": 0}, {"observation_chars": 9}]
)
def test_options_of_an_agent_are_checked_when_it_is_made(runtime: Runtime, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        agent_for(runtime, **options)


def test_an_option_that_does_not_exist_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="a run has no option 'max_stepps'"):
        agent_for(runtime).run("Add.", max_stepps=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match="an agent has no option 'max_stepps'"):
        agent_for(runtime, max_stepps=3)


def test_the_four_ways_to_run_take_the_same_arguments() -> None:
    from cloche.agents.agent import Runnable

    ways = (Runnable.run, Runnable.arun, Runnable.stream, Runnable.astream)
    assert len({str(inspect.signature(way).replace(return_annotation=None)) for way in ways}) == 1


def test_a_tool_may_not_take_the_name_of_the_final_answer(runtime: Runtime) -> None:
    def final_answer(x: int) -> None:
        """Mine."""

    with pytest.raises(ConfigError, match="two tools are named 'final_answer'"):
        CodeAgent([final_answer], ScriptedModel([]), runtime=runtime)


def test_a_full_runtime_is_an_error_of_the_caller(source: FakeSource) -> None:
    with Runtime(sources={"process": source}, max_sandboxes=1) as small, small.sandbox(), pytest.raises(PoolExhausted):
        agent_for(small, block("final_answer 5")).run("Add.")


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_tokens_add_up_over_the_steps(runtime: Runtime) -> None:
    first = TokenUsage(input_tokens=10, output_tokens=2, cached_tokens=4)
    second = TokenUsage(input_tokens=20, output_tokens=3, cached_tokens=10, reasoning_tokens=1)
    replies = [
        ModelReply(text=block('print "x"'), usage=first),
        ModelReply(text=block("final_answer 5"), usage=second),
    ]
    result = agent_for(runtime, *replies).run("Add.")
    assert result.usage == TokenUsage(input_tokens=30, output_tokens=5, cached_tokens=14, reasoning_tokens=1)
    assert (result.usage.total_tokens, result.usage_complete) == (35, True)


def test_a_reply_that_was_not_counted_makes_the_usage_incomplete(runtime: Runtime) -> None:
    result = agent_for(runtime, ModelReply(text=block("final_answer 5"))).run("Add.")
    assert (result.usage, result.usage_complete) == (TokenUsage(), False)


def test_times_add_up(runtime: Runtime) -> None:
    timing = agent_for(runtime, block('print "x"'), block("final_answer 5")).run("Add.").timing
    assert 0 < timing.model_s + timing.sandbox_s < timing.total_s < BOUND_S


# --- many at once -----------------------------------------------------------------------------------------------------


def test_one_agent_runs_many_tasks_at_once_without_mixing_them(runtime: Runtime, source: FakeSource) -> None:
    def answer(messages: Sequence[Message]) -> str:
        return block(f"final_answer {messages[1].content.removeprefix('Task: ')}")

    agent = agent_for(runtime, block('ask_tool ["get_price", "tea"]'), answer)

    async def main() -> list[RunResult]:
        with anyio.fail_after(BOUND_S):
            return await asyncio.gather(*(agent.arun(str(number)) for number in range(50)))

    results = anyio.run(main)
    assert [result.output for result in results] == list(range(50))
    assert len(source.leased) == 50
    assert all(link.closed for link in source.leased)


def test_one_agent_runs_on_many_threads(runtime: Runtime) -> None:
    agent = agent_for(runtime, lambda messages: block(f"final_answer {messages[1].content.removeprefix('Task: ')}"))
    outputs: dict[int, object] = {}

    def run(number: int) -> None:
        outputs[number] = agent.run(str(number)).output

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert outputs == {number: number for number in range(20)}


def test_a_tool_may_run_an_agent_itself(runtime: Runtime) -> None:
    inner = agent_for(runtime, block("final_answer 2"))

    def ask_expert(question: str) -> int:
        """Asks another agent."""
        output = inner.run(question).output
        assert isinstance(output, int)
        return output

    model = ScriptedModel([block('ask_tool ["ask_expert", "how many?"]'), block("final_answer 1")])
    result = CodeAgent([ask_expert], model, runtime=runtime).run("Ask.")
    assert (result.output, result.steps[0].observation.split("\n")[1]) == (1, "2")


def test_run_works_on_a_thread_whose_loop_is_running(runtime: Runtime) -> None:
    async def notebook() -> object:
        return agent_for(runtime, block("final_answer 5")).run("Add.").output

    assert asyncio.run(notebook()) == 5


def test_cancelling_the_task_of_a_run_closes_its_sandbox(runtime: Runtime, source: FakeSource) -> None:
    async def main() -> None:
        task = asyncio.create_task(agent_for(runtime, block("loop")).arun("Add."))
        with anyio.fail_after(BOUND_S):
            while not (source.leased and source.leased[0].served):
                await anyio.lowlevel.checkpoint()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    anyio.run(main)
    assert source.leased[0].closed


def test_arun_works_on_trio(runtime: Runtime) -> None:
    pytest.importorskip("trio")
    agent = agent_for(runtime, block("final_answer 5"))
    assert anyio.run(agent.arun, "Add.", backend="trio").output == 5
