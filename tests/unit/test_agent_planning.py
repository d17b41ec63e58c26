"""Plans: when they are asked for, what the model is told, what the result keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.agent_worker import block
from tests.support.agents import code_agent, fake_runtime

from cloche.agents.events import PlanMade
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.prompts.templates import Prompts, load_prompts
from cloche.agents.result import ActionStep, FinalAnswerStep, PlanningStep, TaskStep
from cloche.runtime.errors import ConfigError
from cloche.runtime.runtime import Runtime

LOOK = block('print "x"')
DONE = block("final_answer 5")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with fake_runtime() as made:
        yield made


def test_without_an_interval_no_plan_is_made(runtime: Runtime) -> None:
    assert [type(step) for step in code_agent(runtime, DONE).run("x").trace] == [TaskStep, ActionStep, FinalAnswerStep]


def test_a_plan_is_made_before_the_first_step_and_looked_at_again_after_each_interval(runtime: Runtime) -> None:
    lines = ["Look, then add.", LOOK, LOOK, "One more look.", DONE]
    result = code_agent(runtime, *lines, planning_interval=2, max_steps=7).run("x")
    assert result.output == 5
    assert [type(step) for step in result.trace] == [
        TaskStep,
        PlanningStep,
        ActionStep,
        ActionStep,
        PlanningStep,
        ActionStep,
        FinalAnswerStep,
    ]
    plans = [step for step in result.trace if isinstance(step, PlanningStep)]
    assert [(plan.number, plan.plan) for plan in plans] == [(1, "Look, then add."), (3, "One more look.")]
    assert (len(result.steps), result.spent.steps) == (3, 5)


def test_the_request_for_a_plan_says_how_many_steps_are_left(runtime: Runtime) -> None:
    agent = code_agent(runtime, "Plan.", LOOK, LOOK, "Plan again.", DONE, planning_interval=2, max_steps=7)
    agent.run("x")
    assert isinstance(agent.model, ScriptedModel)
    first, again = (agent.model.requests[index][-1].content for index in (0, 3))
    assert "You have at most 7 steps." in first
    assert "You have 5 steps left." in again
    assert "{" not in first + again.rpartition("Look back")[2]


def test_two_messages_of_the_user_never_follow_each_other(runtime: Runtime) -> None:
    agent = code_agent(runtime, "Plan.", LOOK, "Plan again.", DONE, planning_interval=1)
    result = agent.run("x")
    roles = [message.role for message in result.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user", "assistant"]


def test_code_in_a_plan_is_not_run(runtime: Runtime) -> None:
    result = code_agent(runtime, DONE, LOOK, block("final_answer 6"), planning_interval=5).run("x")
    assert (result.output, len(result.steps)) == (6, 2)


def test_plans_come_as_events_and_not_as_deltas(runtime: Runtime) -> None:
    with code_agent(runtime, "Plan.", DONE, planning_interval=2).stream("x") as events:
        seen = [event for event in events if isinstance(event, PlanMade)]
    assert [event.plan.plan for event in seen] == ["Plan."]


def test_the_words_around_plans_are_templates_of_their_own(runtime: Runtime) -> None:
    shipped = load_prompts()
    mine = Prompts("mine", 1, shipped.system, shipped.task, plan="PLAN {{ remaining_steps }} {{ first }}", proceed="GO")
    result = code_agent(runtime, "Plan.", DONE, planning_interval=2, max_steps=3, prompts=mine).run("x")
    assert result.messages[1].content == "Task: x\n\nPLAN 3 True"
    assert result.messages[3].content == "GO"
    assert mine.sha256 != shipped.sha256


def test_an_interval_is_a_number_of_steps(runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="planning_interval"):
        code_agent(runtime, planning_interval=0)
