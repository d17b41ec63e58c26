"""Hooks see, edit and veto; callbacks are told; a tracer hears of each beginning and end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import anyio
import pytest
from tests.support.agent_worker import block, serve
from tests.support.agents import REACHED_S, calls, code_agent, fake_runtime, tool_agent

from cloche.agents.code_agent import CodeAgent
from cloche.agents.hooks import CellCall, HookedToolCall, Hooks, ModelCall, Veto
from cloche.agents.messages import Message, ModelReply
from cloche.agents.models.scripted import ScriptedModel
from cloche.agents.result import ActionStep, FinalAnswerStep, StepError, TaskStep
from cloche.agents.state import RunState
from cloche.agents.tracing import End, Operation, Outcome
from cloche.runtime.cell import Cell
from cloche.runtime.errors import ConfigError
from cloche.runtime.fake_link import FakeSource
from cloche.runtime.runtime import Runtime

TEA = block('ask_tool ["get_price", "tea"]')
DONE = block("final_answer 5")


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(serve)


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with fake_runtime(source) as made:
        yield made


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_hook_may_edit_what_is_sent_and_the_conversation_stays(runtime: Runtime) -> None:
    class Redact(Hooks):
        async def before_model(self, call: ModelCall) -> Sequence[Message]:
            await anyio.lowlevel.checkpoint()
            return [replace(message, content=message.content.replace("secret", "***")) for message in call.messages]

    agent = code_agent(runtime, lambda messages: block(f"final_answer {len(messages)}"), hooks=[Redact()])
    result = agent.run("The secret.")
    assert result.messages[1].content == "Task: The secret."
    assert agent.model.requests[0][1].content == "Task: The ***."  # type: ignore[attr-defined]


def test_a_hook_may_edit_a_reply(runtime: Runtime) -> None:
    class Louder(Hooks):
        def after_model(self, call: ModelCall, reply: ModelReply) -> ModelReply:
            return replace(reply, text=reply.text.replace("5", "6"))

    result = code_agent(runtime, DONE, hooks=[Louder()]).run("Add.")
    assert (result.output, result.messages[2].content) == (6, block("final_answer 6"))


def test_a_veto_before_the_model_ends_the_run_as_denied(runtime: Runtime) -> None:
    class Once(Hooks):
        def before_model(self, call: ModelCall) -> None:
            if call.step > 1:
                raise Veto("once is enough")

    result = code_agent(runtime, block('print "x"'), DONE, hooks=[Once()]).run("Add.")
    assert (result.output, result.stop_reason, len(result.steps)) == (None, "denied", 1)


# --- the cell ---------------------------------------------------------------------------------------------------------


class NoPrint(Hooks):
    def __init__(self, *, end_run: bool = False) -> None:
        self.end_run = end_run

    def before_cell(self, call: CellCall) -> None:
        if "print" in call.code:
            raise Veto("printing is not allowed", end_run=self.end_run)


def test_a_vetoed_cell_does_not_run_and_the_model_is_told(runtime: Runtime, source: FakeSource) -> None:
    result = code_agent(runtime, block('print "x"'), DONE, hooks=[NoPrint()]).run("Add.")
    assert (result.output, source.leased[0].served) == (5, 1)
    assert result.steps[0].error == StepError(type="Veto", message="printing is not allowed")
    assert result.steps[0].observation.startswith("The code was not run: printing is not allowed\n")


def test_a_veto_may_end_the_run(runtime: Runtime, source: FakeSource) -> None:
    result = code_agent(runtime, block('print "x"'), DONE, hooks=[NoPrint(end_run=True)]).run("Add.")
    assert (result.output, result.stop_reason, len(result.steps)) == (None, "denied", 1)
    assert source.leased[0].served == 0


def test_hooks_edit_the_code_and_the_cell_in_order(runtime: Runtime) -> None:
    class Rename(Hooks):
        def __init__(self, old: str, new: str) -> None:
            self.old, self.new = old, new

        def before_cell(self, call: CellCall) -> str:
            return call.code.replace(self.old, self.new)

        def after_cell(self, call: CellCall, cell: Cell) -> Cell:
            return replace(cell, stdout=cell.stdout.replace(self.new, self.old))

    agent = code_agent(runtime, block('print "A"'), DONE, hooks=[Rename("A", "B"), Rename("B", "C")])
    step = agent.run("Add.").steps[0]
    assert step.code == 'print "C"'
    assert step.cell is not None
    assert step.cell.stdout == "B\n"  # the first found no B of its own in it; the second took its C back


def test_hooks_show_which_methods_they_have() -> None:
    assert (repr(NoPrint()), repr(Hooks())) == ("<NoPrint before_cell>", "<Hooks without hooks>")


# --- tools ------------------------------------------------------------------------------------------------------------


class Prices(Hooks):
    def __init__(self) -> None:
        self.seen: list[HookedToolCall] = []

    def before_tool(self, call: HookedToolCall) -> Mapping[str, object] | None:
        self.seen.append(call)
        if call.arguments["item"] == "gold":
            raise Veto("no gold")
        return {"item": "milk"} if call.arguments["item"] == "tea" else None

    async def after_tool(self, call: HookedToolCall, result: object) -> object:
        assert isinstance(result, float)
        return result + 1


def test_hooks_edit_arguments_and_results_of_tools(runtime: Runtime) -> None:
    hooks = Prices()
    result = code_agent(runtime, TEA, DONE, hooks=[hooks]).run("Add.")
    assert "2.25" in result.steps[0].observation
    assert (hooks.seen[0].name, dict(hooks.seen[0].arguments), hooks.seen[0].run_id) == (
        "get_price",
        {"item": "tea"},
        result.run_id,
    )


def test_what_after_tool_returns_is_the_result_also_none(runtime: Runtime) -> None:
    class Looks(Hooks):
        def after_tool(self, call: HookedToolCall, result: object) -> object:
            return result

    class Forgets(Hooks):
        def after_tool(self, call: HookedToolCall, result: object) -> object:
            return None

    def note(text: str) -> str | None:
        """Keeps a text."""
        return text

    for hooks, told in ((Looks(), "kept"), (Forgets(), "None")):
        agent = CodeAgent(
            [note],
            ScriptedModel([block('ask_tool ["note", "kept"]'), DONE]),
            runtime=runtime,
            hooks=[hooks],
        )
        assert told in agent.run("Add.").steps[0].observation
    result = code_agent(runtime, TEA, DONE, hooks=[Forgets()]).run("Add.")
    assert "InvalidResult" in result.steps[0].observation


def test_a_vetoed_tool_call_is_an_error_in_the_code_and_costs_nothing(runtime: Runtime) -> None:
    result = code_agent(runtime, block('ask_tool ["get_price", "gold"]'), DONE, hooks=[Prices()]).run("Add.")
    assert "no gold" in result.steps[0].observation
    assert (result.output, result.spent.tool_calls, result.steps[0].tool_calls[0].outcome) == (5, 0, "denied")


def test_a_veto_of_a_tool_call_may_end_the_run(runtime: Runtime) -> None:
    class Never(Hooks):
        def before_tool(self, call: HookedToolCall) -> None:
            raise Veto("not today", end_run=True)

    result = code_agent(runtime, TEA, DONE, hooks=[Never()]).run("Add.")
    assert (result.output, result.stop_reason) == (None, "denied")


def test_the_tool_calling_agent_has_the_same_hooks() -> None:
    replies = [
        calls(("get_price", {"item": "tea"}), ("get_price", {"item": "gold"})),
        calls(("final_answer", {"value": 1})),
    ]
    result = tool_agent(*replies, hooks=[Prices()]).run("Add.")
    told = [message.content for message in result.messages if message.role == "tool"]
    assert told[0] == "2.25"
    assert "no gold" in told[1]


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_are_told_each_action_step(runtime: Runtime) -> None:
    seen: list[int] = []

    def now(step: ActionStep) -> None:
        seen.append(step.number)

    async def later(step: ActionStep, run: RunState) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(100 * len(run.steps))

    code_agent(runtime, TEA, DONE, step_callbacks=[now, later]).run("Add.")
    assert seen == [1, 100, 2, 200]


def test_a_second_parameter_with_a_default_is_the_callbacks_own(runtime: Runtime) -> None:
    seen: list[object] = []

    def note(step: ActionStep, label: str = "step") -> None:
        seen.append(label)

    code_agent(runtime, DONE, step_callbacks=[note]).run("Add.")
    assert seen == ["step"]


def test_a_mapping_of_callbacks_names_the_classes_of_steps(runtime: Runtime) -> None:
    seen: list[object] = []

    def task(step: TaskStep) -> None:
        seen.append(step.task)

    def answer(step: FinalAnswerStep) -> None:
        seen.append(step.output)

    given = {TaskStep: task, FinalAnswerStep: [answer]}
    code_agent(runtime, DONE, step_callbacks=given).run("Add.")
    assert seen == ["Add.", 5]


@pytest.mark.parametrize("given", [[1], {str: print}, {ActionStep: [1]}, [lambda: None]])
def test_callbacks_are_checked_when_the_agent_is_made(runtime: Runtime, given: object) -> None:
    with pytest.raises(ConfigError, match="step_callbacks"):
        code_agent(runtime, step_callbacks=given)


def test_what_a_callback_raises_reaches_the_caller_and_the_sandbox_is_closed(
    runtime: Runtime, source: FakeSource
) -> None:
    def broken(step: object) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        code_agent(runtime, DONE, step_callbacks=[broken]).run("Add.")
    assert source.leased[0].closed


# --- tracing ----------------------------------------------------------------------------------------------------------


class Recorder:
    """A tracer that writes down what it hears."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str, int]] = []
        self.open = 0
        self.facts: dict[str, Mapping[str, object]] = {}

    def begin(self, operation: Operation) -> End:
        self.open += 1
        self.log.append((operation.kind, operation.name, operation.step))
        self.facts.setdefault(operation.kind, operation.facts)

        def end(outcome: Outcome) -> None:
            self.open -= 1
            failed = "!" if outcome.error is not None else ""
            self.log.append((f"/{operation.kind}{failed}", operation.name, operation.step))
            self.facts.setdefault(f"/{operation.kind}", outcome.facts)

        return end


def test_a_tracer_hears_of_each_beginning_and_end(runtime: Runtime) -> None:
    tracer = Recorder()
    result = code_agent(runtime, TEA, DONE, tracer=tracer, name="shop").run("Add.")
    assert tracer.log == [
        ("invoke_agent", "shop", 0),
        ("chat", "scripted", 1),
        ("/chat", "scripted", 1),
        ("cell", "python", 1),
        ("execute_tool", "get_price", 1),
        ("/execute_tool", "get_price", 1),
        ("/cell", "python", 1),
        ("chat", "scripted", 2),
        ("/chat", "scripted", 2),
        ("cell", "python", 2),
        ("/cell", "python", 2),
        ("/invoke_agent", "shop", 0),
    ]
    assert tracer.facts["execute_tool"]["arguments"] == {"item": "tea"}
    assert tracer.facts["/execute_tool"]["result"] == 3.5
    assert tracer.facts["/invoke_agent"]["result"] is result
    assert tracer.facts["/cell"]["cell"] is result.steps[0].cell


def test_each_end_comes_also_when_a_run_is_cut_short(runtime: Runtime) -> None:
    tracer = Recorder()
    code_agent(runtime, block("loop"), tracer=tracer).run("Add.", deadline_s=REACHED_S)
    assert tracer.open == 0
    assert ("/cell!", "python", 1) in tracer.log
    code_agent(runtime, tracer=tracer)
    with pytest.raises(Exception, match="script"):
        code_agent(runtime, tracer=tracer).run("Add.")
    assert tracer.open == 0
    assert tracer.log[-1][0] == "/invoke_agent!"


def test_a_sub_agents_run_names_the_one_that_called_it(runtime: Runtime) -> None:
    tracer = Recorder()
    inner = code_agent(runtime, DONE, name="inner", description="I.", tracer=(heard := Recorder()))
    result = code_agent(
        runtime, block('ask_tool ["inner", "x"]'), DONE, managed_agents=[inner], tracer=tracer, name="outer"
    ).run("Add.")
    assert heard.facts["invoke_agent"]["parent_run_id"] == result.run_id
