"""Answers: their type, their checks, and how often the model may try again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import anyio
import pytest
from pydantic import BaseModel, Field, create_model
from tests.support.agent_worker import block
from tests.support.agents import REACHED_S, calls, code_agent, fake_runtime, tool_agent

from cloche.agents.errors import AnswerRejected
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.result import FinalAnswerStep, StepError
from cloche.agents.state import RunState
from cloche.runtime.errors import ConfigError
from cloche.runtime.limits import Limits
from cloche.runtime.runtime import Runtime


class Report(BaseModel):
    """What the tests ask for."""

    total: float = Field(ge=0)
    items: list[str]


@dataclass
class Point:
    x: int
    y: int


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


GOOD = block('final_answer {"total": 1.5, "items": ["tea"]}')
BAD = block('final_answer {"total": -1}')


def test_an_answer_comes_as_the_type_that_was_asked_for(runtime: Runtime) -> None:
    result = code_agent(runtime, GOOD, output_type=Report).run("Add.")
    assert result.output == Report(total=1.5, items=["tea"])
    assert result.trace[-1] == FinalAnswerStep(output=result.output)


@pytest.mark.parametrize(
    ("kind", "text", "output"),
    [
        (int, '"5"', 5),
        (list[int], "[1, 2]", [1, 2]),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (str | None, "null", None),
    ],
)
def test_any_type_that_pydantic_knows_will_do(runtime: Runtime, kind: object, text: str, output: object) -> None:
    assert code_agent(runtime, block(f"final_answer {text}"), output_type=kind).run("Add.").output == output


def test_an_answer_of_the_wrong_type_is_told_to_the_model_which_tries_again(runtime: Runtime) -> None:
    result = code_agent(runtime, BAD, GOOD, output_type=Report).run("Add.")
    assert (result.stop_reason, len(result.steps)) == ("final", 2)
    [step, last] = result.steps
    assert step.error is not None
    assert (step.error.type, step.is_final, last.is_final) == ("AnswerRejected", False, True)
    assert "value.total: Input should be greater than or equal to 0" in step.observation
    assert "value.items: Field required" in step.observation
    assert result.messages[3].content == step.observation


def test_too_many_wrong_answers_end_the_run_with_an_error_that_has_the_steps(runtime: Runtime) -> None:
    with pytest.raises(AnswerRejected, match="2 answers were rejected") as caught:
        code_agent(runtime, BAD, BAD, GOOD, output_type=Report, output_retries=1).run("Add.")
    assert caught.value.result is not None
    assert (caught.value.result.output, len(caught.value.result.steps)) == (None, 2)


def test_the_model_sees_the_type_in_the_stub_of_final_answer(runtime: Runtime) -> None:
    prompt = code_agent(runtime, output_type=Report).system_prompt
    assert "class Report(TypedDict):  # a dict, written {...}\n    total: float\n    items: list[str]" in prompt
    assert "def final_answer(value: Report) -> None:" in prompt


def test_a_type_that_pydantic_does_not_know_is_refused_at_once(runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="output_type"):
        code_agent(runtime, output_type=ScriptedModel)


Unfinished = create_model("Unfinished", items=(cast("type[object]", "list[Missing]"), ...))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Foo", "output_type 'Foo': no type is named 'Foo'; give the type itself"),
        ("list[Foo]", "output_type 'list[Foo]': no type is named 'Foo'; give the type itself"),
        (Unfinished, f"output_type {Unfinished!r}: no type is named 'Missing'; define it before the agent is made"),
        ("1+", "output_type '1+' is no type that pydantic knows, such as list[str] or a BaseModel: "),
        ({"a": int}, "output_type {'a': <class 'int'>} is no type that pydantic knows, such as list[str] or "),
    ],
)
def test_a_type_that_is_not_there_is_named(kind: object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent(output_type=kind)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("verdict", [True, None, 1])
def test_a_check_that_is_content_lets_the_answer_pass(runtime: Runtime, verdict: object) -> None:
    def content(answer: object) -> object:
        return verdict

    assert code_agent(runtime, GOOD, final_answer_checks=[content]).run("Add.").stop_reason == "final"


def test_a_check_that_is_not_is_told_to_the_model(runtime: Runtime) -> None:
    def is_even(answer: object) -> bool:
        return isinstance(answer, int) and answer % 2 == 0

    result = code_agent(runtime, block("final_answer 3"), block("final_answer 4"), final_answer_checks=[is_even]).run(
        "x"
    )
    assert (result.output, len(result.steps)) == (4, 2)
    reason = "The answer was not accepted: it did not pass the check 'is_even'."
    assert result.steps[0].error == StepError(type="AnswerRejected", message=reason)


def test_a_check_may_say_why_see_the_run_and_be_async(runtime: Runtime) -> None:
    async def at_least_two_steps(answer: object, run: RunState) -> str | None:
        await anyio.lowlevel.checkpoint()
        return None if run.steps else "look again first"

    result = code_agent(
        runtime, block("final_answer 3"), block("final_answer 4"), final_answer_checks=[at_least_two_steps]
    )
    done = result.run("x")
    assert done.output == 4
    assert done.steps[0].observation.startswith("The answer was not accepted: look again first\n")


def test_a_failed_assertion_in_a_check_is_its_verdict_and_another_error_is_the_callers(runtime: Runtime) -> None:
    def positive(answer: object) -> None:
        assert isinstance(answer, int)
        assert answer > 0, "it must be above 0"

    result = code_agent(runtime, block("final_answer 0"), block("final_answer 1"), final_answer_checks=[positive]).run(
        "x"
    )
    assert result.output == 1
    assert "it must be above 0" in result.steps[0].observation

    def broken(answer: object) -> bool:
        raise RuntimeError("the check itself")

    with pytest.raises(RuntimeError, match="the check itself"):
        code_agent(runtime, GOOD, final_answer_checks=[broken]).run("x")


def test_a_second_parameter_with_a_default_is_the_checks_own(runtime: Runtime) -> None:
    seen: list[object] = []

    def above(answer: int, low: int = 3) -> bool:
        seen.append(low)
        return answer > low

    code_agent(runtime, block("final_answer 4"), final_answer_checks=[above]).run("x")
    assert seen == [3]


def test_a_check_with_a_signature_of_another_kind_is_refused_when_the_agent_is_made() -> None:
    def smolagents(answer: object, memory: object, agent: object) -> bool:
        return True

    with pytest.raises(ConfigError, match=r"'smolagents' cannot be called .*'agent'.*write smolagents\(answer\), or "):
        tool_agent(final_answer_checks=[smolagents])
    with pytest.raises(ConfigError, match="final_answer_checks: '<lambda>' cannot be called"):
        tool_agent(final_answer_checks=[lambda: True])


def test_checks_get_the_answer_in_its_type(runtime: Runtime) -> None:
    seen: list[object] = []
    code_agent(runtime, GOOD, output_type=Report, final_answer_checks=[seen.append]).run("x")
    assert seen == [Report(total=1.5, items=["tea"])]


def test_an_answer_that_no_check_has_passed_is_never_the_output(runtime: Runtime) -> None:
    async def never(answer: object) -> bool:
        await anyio.sleep_forever()
        return True

    result = code_agent(runtime, GOOD, final_answer_checks=[never]).run("x", deadline_s=REACHED_S)
    assert (result.output, result.stop_reason) == (None, "timeout")
    assert not result.steps[0].is_final


def test_the_tool_calling_agent_checks_answers_the_same_way() -> None:
    bad = calls(("final_answer", {"value": {"total": -1}}))
    good = calls(("final_answer", {"value": {"total": 2, "items": []}}))
    result = tool_agent(bad, good, output_type=Report).run("x")
    assert (result.output, len(result.steps)) == (Report(total=2, items=[]), 2)
    assert result.messages[3].role == "tool"
    assert "value.items: Field required" in result.messages[3].content


def test_when_steps_run_out_the_model_may_be_asked_for_an_answer_in_words(runtime: Runtime) -> None:
    lines = [block('print "x"'), "It is 5."]
    result = code_agent(runtime, *lines, max_steps=1, answer_at_max_steps=True).run("x")
    assert (result.output, result.stop_reason, result.spent.steps) == ("It is 5.", "max_steps", 2)
    assert "No steps are left." in result.messages[-2].content
    assert [message.role for message in result.messages] == ["system", "user", "assistant", "user", "assistant"]


def test_the_last_answer_has_the_type_that_was_asked_for_or_is_none(runtime: Runtime) -> None:
    good = [block('print "x"'), '```json\n{"total": 1, "items": []}\n```']
    options: dict[str, object] = {"max_steps": 1, "answer_at_max_steps": True, "output_type": Report}
    result = code_agent(runtime, *good, **options).run("x")
    assert result.output == Report(total=1, items=[])
    assert '"properties"' in result.messages[-2].content
    assert code_agent(runtime, good[0], "No idea.", **options).run("x").output is None


@pytest.mark.parametrize("verb", ["crash", "loop_in_c"])
def test_after_a_rejected_answer_a_lost_sandbox_is_replaced_and_the_model_is_told(runtime: Runtime, verb: str) -> None:
    lines = [block('ask_tool ["final_answer", 1]', verb), block("final_answer 2")]
    agent = code_agent(runtime, *lines, final_answer_checks=[(2).__eq__], limits=Limits(wall_s=REACHED_S))
    result = agent.run("x")
    assert (result.output, len(result.steps)) == (2, 2)
    assert "All variables are gone" in result.steps[0].observation
