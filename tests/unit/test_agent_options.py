"""Options of agents and runs that cannot be are named when the agent is made or the run is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.agents import get_price, tool_agent

from cloche.agents.box import SandboxOptions
from cloche.agents.code_agent import CodeAgent
from cloche.agents.hooks import Hooks
from cloche.agents.managed import ManagedAgent
from cloche.agents.messages import Image
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.renamed_options import AGENT_HINTS, RUN_HINTS
from cloche.agents.result import ActionStep
from cloche.agents.tool_calling_agent import ToolCallingAgent
from cloche.runtime.errors import ConfigError

MODEL = ScriptedModel([])


def test_stop_sequences_are_a_list_of_texts() -> None:
    assert tool_agent(stop=["<end>", "STOP"]).spec.stop == ("<end>", "STOP")
    assert tool_agent(stop=[]).spec.stop == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("<end>", r"^stop is a list, not '<end>'; write stop=\['<end>'\]$"),
        (5, r"^stop is a list, not 5; write stop=\[\.\.\.\]$"),
        ([5], r'^stop holds texts that are not empty, not 5; write stop=\["\.\.\."\]$'),
        ([""], "^stop holds texts that are not empty, not ''"),
    ],
)
def test_other_stop_sequences_are_refused(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tool_agent(stop=given)


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "name is a text, not 5"),
        ({"instructions": 5}, "instructions is a text, not 5"),
        ({"prompts": "x"}, "prompts is Prompts, such as load_prompts(\"code_agent\"), not 'x'"),
        ({"budget": 3}, "budget is a Budget, such as Budget(steps=10), not 3"),
        (
            {"context_tokens": "32k"},
            "context_tokens is a number of tokens or Compaction(context_tokens=...), not '32k'",
        ),
        ({"context_tokens": True}, "context_tokens is a number of tokens or Compaction(context_tokens=...), not True"),
        ({"answer_at_max_steps": 1}, "answer_at_max_steps is True or False, not 1"),
        ({"approve": 5}, "approve is a function of the request, not 5"),
        ({"tracer": 1}, "tracer is an object with begin(operation), such as OpenTelemetryTracer(), not 1"),
        ({"hooks": [1]}, "hooks holds objects of subclasses of Hooks, not 1"),
        ({"hooks": [Hooks]}, "hooks holds objects, not classes; write hooks=[Hooks()]"),
        ({"managed_agents": ["x"]}, "managed_agents holds agents, or ManagedAgent(agent=...) of one, not 'x'"),
        (
            {"final_answer_checks": get_price},
            f"final_answer_checks is a list, not {get_price!r:.100}; write final_answer_checks=[get_price]",
        ),
        (
            {"step_callbacks": get_price},
            f"step_callbacks is a list, not {get_price!r:.100}; write step_callbacks=[get_price]",
        ),
        ({"step_callbacks": {ActionStep: 5}}, "step_callbacks[ActionStep] is a list, not 5; write ...=[...]"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_when_the_agent_is_made(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent(**options)
    assert str(raised.value) == message.replace("...=", "step_callbacks[ActionStep]=")


def test_one_hook_or_sub_agent_that_stands_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^hooks is a list, not .*; write hooks=\[\.\.\.\]$"):
        tool_agent(hooks=Hooks())
    with pytest.raises(ConfigError, match=r"^managed_agents is a list, not .*; write managed_agents=\[\.\.\.\]$"):
        tool_agent(managed_agents=tool_agent())
    with pytest.raises(ConfigError, match=r"ManagedAgent\(agent=...\) of one, not ManagedAgent\(agent='x'"):
        tool_agent(managed_agents=[ManagedAgent(agent="x")])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": {"wall_s": 1}}, "limits is Limits, such as Limits(wall_s=10), not {'wall_s': 1}"),
        ({"sandbox": SandboxOptions(limits=5)}, "limits is Limits, such as Limits(wall_s=10), not 5"),  # type: ignore[arg-type]
        ({"runtime": 5}, "runtime is an open Runtime or AsyncRuntime, not 5"),
        ({"use_structured_outputs": "yes"}, "use_structured_outputs is True or False, not 'yes'"),
        (
            {"additional_authorized_imports": "pandas"},
            "additional_authorized_imports is a list, not 'pandas'; write additional_authorized_imports=['pandas']",
        ),
        ({"additional_authorized_imports": [5]}, "additional_authorized_imports: 5 is not the name of a module"),
    ],
)
def test_an_option_of_a_code_agent_of_the_wrong_kind_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        CodeAgent([], MODEL, **options)  # type: ignore[arg-type]
    assert str(raised.value) == message


@pytest.mark.parametrize("options", [{"runtime": 5}, {"tool_choice": "always"}, {"parallel_tool_calls": 1.5}])
def test_an_option_of_a_tool_calling_agent_of_the_wrong_kind_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} is "):
        tool_agent(**options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt-4", "model is an object, not a name; write OpenAIModel('gpt-4'), or another model class"),
        (OpenAIModel, "model is an object, not a class; write OpenAIModel(...)"),
        ([], "model is an object with `name` and `complete`, not []; the tools come first: (tools, model)"),
        (5, "model is an object with `name` and `complete`, not 5"),
    ],
)
def test_what_is_no_model_is_refused(model: object, message: str) -> None:
    for kind in (CodeAgent, ToolCallingAgent):
        with pytest.raises(ConfigError) as raised:
            kind([], model)  # type: ignore[arg-type]
        assert str(raised.value) == message


def test_tools_are_a_list() -> None:
    for given, written in ((get_price, "get_price"), (None, "..."), ("web_search", "'web_search'")):
        with pytest.raises(ConfigError) as raised:
            CodeAgent(given, MODEL)  # type: ignore[arg-type]
        assert str(raised.value) == f"tools is a list, not {given!r:.100}; write tools=[{written}]"


# --- of a run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (None, {}, "the task is a text, not None"),
        ("x", {"inputs": [1]}, 'inputs are values by name, not [1]; write inputs={"name": value}'),
        (
            "x",
            {"images": [b"png"]},
            'images holds Image(data, "image/png") with the bytes of a file, not bytes; '
            "a picture of PIL is saved to an io.BytesIO first",
        ),
        ("x", {"images": b"png"}, "images is a list, not b'png'; write images=[...]"),
        ("x", {"budget": 1}, "budget is a Budget, such as Budget(steps=10), not 1"),
        ("x", {"deadline_s": "1"}, "deadline_s is a number of seconds above 0, not '1'"),
        ("x", {"deadline_s": 0}, "deadline_s is a number of seconds above 0, not 0"),
    ],
)
def test_an_argument_of_a_run_of_the_wrong_kind_is_refused(
    task: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent().run(task, **options)  # type: ignore[arg-type]
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("/x.png", "not str; write Image(Path('/x.png').read_bytes(), 'image/png')"),
        (5, "not int; write Image(data, 'image/png') with the bytes of its file"),
    ],
)
def test_an_image_is_made_of_bytes(data: object, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Image(data)  # type: ignore[arg-type]
    assert str(raised.value) == f"an image is made of bytes, {hint}"


def test_inputs_may_have_names_of_pythons_own() -> None:
    task = tool_agent().task_spec("x", {"id": 1, "type": 2, "input": 3, "_note": 4, "größe": 5}, {})
    assert list(task.inputs) == ["id", "type", "input", "_note", "größe"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "order id",
            """an input is a variable in the model's code, and 'order id' is not the name of one; write letters, \
digits and "_", such as inputs={"order_id": ...}""",
        ),
        ("class", "an input is a variable in the model's code, and 'class' is not the name of one"),
        (1, "an input is a variable in the model's code, and 1 is not the name of one"),
        ("get_price", "an input cannot be named 'get_price': a tool has that name; rename the input or the tool"),
        ("final_answer", "an input cannot be named 'final_answer': a tool has that name; rename the input"),
        ("print", "an input cannot be named 'print': it would hide what the model's code needs; rename it"),
        ("__name__", "an input cannot be named '__name__': it would hide what the model's code needs; rename it"),
    ],
)
def test_other_names_of_inputs_are_refused(name: object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent().run("x", {name: 1})  # type: ignore[dict-item]
    assert str(raised.value).startswith(message)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("verbosity_level", "call ConsoleLogger() with the events of agent.stream(task); nothing is printed otherwise"),
        ("executor_type", "write engine= and isolation=; code always runs in a sandbox"),
        ("max_print_outputs_length", "write observation_chars="),
        ("limits", "it is an option of CodeAgent"),
        ("deadline_s", "it is an option of runs: agent.run(task, deadline_s=...)"),
        ("reset", "use agent.conversation(), whose runs share messages and sandbox"),
    ],
)
def test_an_option_of_smolagents_or_of_another_place_is_told_with_what_to_write(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent(**{name: 1})
    assert str(raised.value) == f"an agent has no option {name!r}; {hint}"


def test_an_option_of_a_tool_calling_agent_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match="no option 'tool_choice'; it is an option of ToolCallingAgent"):
        CodeAgent([], MODEL, tool_choice="auto")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("additional_args", "write inputs={...}"),
        ("stream", "use agent.stream(task) or agent.astream(task)"),
        ("output_type", "it is given where the agent is made"),
    ],
)
def test_an_option_that_a_run_has_not_is_told_with_what_to_write(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        tool_agent().run("x", **{name: 1})  # type: ignore[arg-type]
    assert str(raised.value) == f"a run has no option {name!r}; {hint}"


def test_the_page_for_those_who_come_from_smolagents_names_every_renamed_option(root: Path) -> None:
    page = (root / "docs/coming-from-smolagents.md").read_text(encoding="utf-8").partition("## Names")[2]
    assert [name for name in (*AGENT_HINTS, *RUN_HINTS) if name not in page] == []
