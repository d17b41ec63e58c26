"""A code agent end to end: scripted words, real interpreter, real tools."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import anyio
import pytest
from tests.support.places import params, where

from cloche import CodeAgent, Limits, Message, RunResult, Runtime, ScriptedModel, ToolError
from cloche.agents.events import OutputChunk

pytestmark = pytest.mark.wasmtime
BOUND_S = 60.0


@pytest.fixture(params=params(sampled=False))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(max_sandboxes=100) as made:
        yield made


def py(code: str) -> str:
    return f"```python\n{code}\n```"


def get_price(item: str) -> float:
    """Price of an item."""
    prices = {"tea": 3.5, "milk": 1.25}
    if item not in prices:
        raise ToolError(f"no price for {item!r}")
    return prices[item]


def run(runtime: Runtime, place: str, *lines: str, limits: Limits | None = None, **inputs: object) -> RunResult:
    model = ScriptedModel([py(line) for line in lines])
    agent = CodeAgent([get_price], model, runtime=runtime, **where(place), limits=limits, max_steps=len(lines))
    return agent.run("Do it.", inputs=inputs, deadline_s=BOUND_S)


def test_a_tool_is_called_in_a_loop_and_the_answer_is_a_value(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "final_answer({'sum': sum(get_price(i) for i in ('tea', 'milk')), 'set': {1, 2}})")
    assert (result.output, result.stop_reason) == ({"sum": 4.75, "set": {1, 2}}, "final")
    assert result.steps[0].cell is not None
    assert (result.steps[0].cell.usage.tool_calls, result.steps[0].cell.ended_by) == (3, "final_answer")


def test_variables_and_inputs_last_from_step_to_step(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "total = sum(rows)\ntotal", "final_answer(total * 2)", rows=[1, 2, 3])
    assert result.output == 12
    assert result.steps[0].observation.startswith("Last value:\n6\n")


def test_an_error_of_a_tool_names_the_line_and_what_the_tool_said(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "x = 1\nget_price('gold')", "final_answer(x)")
    assert result.output == 1
    shown = result.steps[0].observation.split("\n")
    assert shown[0] == "Error in line 2: get_price('gold')"
    assert "no price for 'gold'" in shown[1]


def test_the_final_answer_cannot_be_swallowed_by_an_except_clause(runtime: Runtime, place: str) -> None:
    code = "try:\n    final_answer('right')\nexcept Exception:\n    pass\nfinal_answer('wrong')"
    result = run(runtime, place, code)
    assert (result.output, result.stop_reason, len(result.steps)) == ("right", "final", 1)


def test_an_answer_that_cannot_cross_is_told_to_the_model(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "final_answer(object())", "final_answer(str(1))")
    assert (result.output, len(result.steps)) == ("1", 2)
    assert "object" in result.steps[0].observation
    assert result.steps[0].error is not None


def test_a_syntax_error_runs_nothing_and_is_told_with_its_line(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "done = True\nif done print(1)", "final_answer('done' in globals())")
    assert result.output is False
    assert result.steps[0].observation.startswith("Error in line 2: if done print(1)\nSyntaxError: ")


def test_syntax_newer_than_the_host_runs(runtime: Runtime, place: str) -> None:
    code = "def first[T](items: list[T]) -> T:\n    return items[0]\nfinal_answer(f'{first(['a', 'b'])}')"
    assert run(runtime, place, code).output == "a"


@pytest.mark.usefixtures("patient")
def test_an_endless_loop_is_stopped_and_the_run_goes_on(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "x = 5\nwhile True: pass", "final_answer(x)", limits=Limits(wall_s=4))
    assert (result.output, len(result.steps)) == (5, 2)
    assert "ran longer than 4 seconds" in result.steps[0].observation


def test_a_lost_interpreter_is_replaced(runtime: Runtime, place: str) -> None:
    result = run(runtime, place, "x = 5\nimport os\nos._exit(3)", "final_answer([base, 'x' in globals()])", base=7)
    assert (result.output, len(result.steps)) == ([7, False], 2)
    assert "All variables are gone" in result.steps[0].observation


def test_output_arrives_while_the_cell_runs(runtime: Runtime, place: str) -> None:
    model = ScriptedModel([py("print('early')\nwhile True: pass")])
    agent = CodeAgent([], model, runtime=runtime, **where(place))
    with agent.stream("Do it.", deadline_s=BOUND_S) as events:
        for event in events:
            if isinstance(event, OutputChunk):
                events.cancel()
        assert events.result is not None
        assert events.result.stop_reason == "cancelled"


def test_a_cancelled_run_stops_its_cell_and_closes_its_sandbox(runtime: Runtime, place: str) -> None:
    agent = CodeAgent([], ScriptedModel([py("while True: pass")]), runtime=runtime, **where(place))

    async def main() -> None:
        with anyio.fail_after(BOUND_S), anyio.move_on_after(0.5) as scope:
            await agent.arun("Do it.")
        assert scope.cancelled_caught
        assert runtime.sandboxes == 0

    anyio.run(main)


def test_many_runs_at_once_do_not_mix(runtime: Runtime, place: str) -> None:
    count = 30

    def first(messages: Sequence[Message]) -> str:
        return py(f"mine = {messages[1].content.split()[-1]}\nprint(get_price('tea') + mine)")

    agent = CodeAgent([get_price], ScriptedModel([first, py("final_answer(mine)")]), runtime=runtime, **where(place))

    async def main() -> list[RunResult]:
        with anyio.fail_after(BOUND_S):
            return await asyncio.gather(*(agent.arun(f"Keep {number}") for number in range(count)))

    results = anyio.run(main)
    assert [result.output for result in results] == list(range(count))
    assert [f"\n{3.5 + n}\n" in result.steps[0].observation for n, result in enumerate(results)] == [True] * count


def test_async_tools_run_on_the_callers_loop(runtime: Runtime, place: str) -> None:
    loops: list[object] = []

    async def ask(question: str) -> str:
        """Asks."""
        loops.append(asyncio.get_running_loop())
        return question.upper()

    agent = CodeAgent([ask], ScriptedModel([py("final_answer(ask('hi'))")]), runtime=runtime, **where(place))

    async def main() -> object:
        loops.append(asyncio.get_running_loop())
        with anyio.fail_after(BOUND_S):
            return (await agent.arun("Do it.")).output

    assert anyio.run(main) == "HI"
    assert loops[0] is loops[1]
    assert agent.run("Do it.", deadline_s=BOUND_S).output == "HI"  # and in the blocking face
