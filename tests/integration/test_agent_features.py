"""What agents add to a sandbox, with real ones: variables, imports, given sandboxes, budgets, sub-agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import anyio
import pytest
from pydantic import BaseModel

from cloche import (
    AsyncSandbox,
    Budget,
    CodeAgent,
    ConfigError,
    Limits,
    RunResult,
    Runtime,
    Sandbox,
    SandboxOptions,
    ScriptedModel,
)
from cloche.agents.events import OutputChunk
from cloche.runtime.tools import Tool, tool

pytestmark = pytest.mark.wasmtime
BOUND_S = 60.0


class Report(BaseModel):
    total: float
    items: list[str]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(max_sandboxes=100) as made:
        yield made


def py(code: str) -> str:
    return f"```python\n{code}\n```"


def get_price(item: str) -> float:
    """Price of an item."""
    return {"tea": 3.5, "milk": 1.25}[item]


def agent_of(runtime: Runtime, *lines: str, **options: object) -> CodeAgent:
    return CodeAgent([get_price], ScriptedModel([py(line) for line in lines]), runtime=runtime, **options)  # type: ignore[arg-type]


def solve(runtime: Runtime, *lines: str, **options: object) -> RunResult:
    return agent_of(runtime, *lines, **options).run("Do it.", deadline_s=BOUND_S)


def test_code_that_prints_nothing_is_told_its_new_variables(runtime: Runtime) -> None:
    result = solve(runtime, "x = 5\nrows = [1, 2]\nimport math\n_hidden = 1", "y = 'a'", "final_answer(x)")
    assert result.steps[0].observation.split("\n")[:2] == [
        "The code ran and printed nothing.",
        "New variables: x: int, rows: list of length 2",
    ]
    assert result.steps[1].observation.split("\n")[1] == "New variables: y: str of length 1"


def test_a_hostile_type_name_or_length_does_not_get_out_of_the_observation(runtime: Runtime) -> None:
    code = (
        "class L(list):\n    def __len__(self): raise ValueError('x')\n"
        "k = type('A' * 5000, (), {})()\nl = L()\n"
        "globals()['n' * 5000] = 1"
    )
    result = solve(runtime, code, "final_answer(1)")
    assert result.output == 1
    assert len(result.steps[0].observation) < 1000


def test_cells_that_do_not_compile_cost_no_step_three_times_in_a_row(runtime: Runtime) -> None:
    bad = "if x print(1)"
    result = solve(runtime, bad, bad, bad, "final_answer(1)", max_steps=1)
    assert (result.output, len(result.steps)) == (1, 4)
    result = solve(runtime, bad, bad, bad, bad, "final_answer(1)", max_steps=1)
    assert (result.output, result.stop_reason, len(result.steps)) == (None, "max_steps", 4)


def test_a_syntax_error_raised_by_code_that_ran_costs_a_step(runtime: Runtime) -> None:
    for raised in ("raise SyntaxError('x')", "compile('x +', 'f', 'exec')"):
        result = solve(runtime, raised, "final_answer(1)", max_steps=1)
        assert (result.stop_reason, len(result.steps)) == ("max_steps", 1)


def test_a_typed_answer_comes_from_plain_data_of_the_guest(runtime: Runtime) -> None:
    lines = ["final_answer({'total': 'much'})", "final_answer({'total': get_price('tea'), 'items': ('tea',)})"]
    result = solve(runtime, *lines, output_type=Report)
    assert result.output == Report(total=3.5, items=["tea"])
    assert "value.total: Input should be a valid number" in result.steps[0].observation


@pytest.mark.parametrize("code", ["import forbidden", "from forbidden import x", "import forbidden.sub"])
def test_an_allow_list_refuses_packages_of_the_image_that_are_not_on_it(code: str) -> None:
    with Sandbox(isolation="thread") as box:
        from cloche.agents.imports import prelude

        assert box.run(prelude(["fine"])).ok
        box.run(PLANT)
        refused = box.run(code).error
        assert refused is not None
        assert (refused.type, refused.message) == (
            "ImportError",
            "import of 'forbidden' is not authorized here; you may import the standard library, fine",
        )
        allowed = box.run("import fine, json, os.path\nfrom fine import uses\nimport mine\n(uses, mine.y)")
        assert allowed.value == (2, 3)
        assert box.run("_authorize").error is not None


@pytest.mark.parametrize("kind", [Sandbox, AsyncSandbox])
def test_a_given_sandbox_without_the_agents_tools_is_refused(kind: type[Sandbox | AsyncSandbox]) -> None:
    model = ScriptedModel([])
    for tools, missing in (([], "get_price"), ([get_price], "final_answer")):
        box = kind(tools=tools, isolation="thread")
        try:
            with pytest.raises(ConfigError, match=rf"no tool '{missing}'; make it .*: {kind.__name__}\(tools=agent"):
                CodeAgent([get_price], model, sandbox=box)
        finally:
            if isinstance(box, Sandbox):
                box.close()
    box = kind(tools=CodeAgent([get_price], model).tools, isolation="thread")
    try:
        assert [entry.name for entry in box.tools] == ["get_price", "final_answer"]
        CodeAgent([get_price], model, sandbox=box)
    finally:
        if isinstance(box, Sandbox):
            box.close()


def test_a_function_opens_the_sandbox_of_each_run_and_has_to_give_an_async_one(runtime: Runtime) -> None:
    tools_seen: list[list[str]] = []

    def opened(tools: Sequence[Tool]) -> AsyncSandbox:
        tools_seen.append([entry.name for entry in tools])
        return AsyncSandbox(tools=tools, runtime=runtime)

    async def late(tools: Sequence[Tool]) -> AsyncSandbox:
        return opened(tools)

    def blocking(tools: Sequence[Tool]) -> Sandbox:
        return Sandbox(tools=tools, runtime=runtime)

    def forgetful(tools: Sequence[Tool]) -> AsyncSandbox:
        return AsyncSandbox(runtime=runtime)

    def agent(function: object) -> CodeAgent:
        return CodeAgent([get_price], ScriptedModel([py("final_answer(1)")]), sandbox=function)  # type: ignore[arg-type]

    assert agent(opened).run("Do it.", deadline_s=BOUND_S).output == 1
    assert tools_seen == [["get_price", "final_answer"]]
    for function, made in ((blocking, "Sandbox"), (late, "coroutine")):
        with pytest.raises(ConfigError, match=f"context manager of a sandbox, not {made}; write sandbox=lambda tools"):
            agent(function).run("Do it.")
    with pytest.raises(ConfigError, match="the given sandbox has no tool 'get_price'"):
        agent(forgetful).run("Do it.")
    with pytest.raises(ConfigError, match="sandbox= takes SandboxOptions, an open sandbox or a function, not <class"):
        agent(AsyncSandbox)


def test_inputs_that_hide_names_of_pythons_own_break_neither_the_allow_list_nor_the_list_of_variables(
    runtime: Runtime,
) -> None:
    inputs = {"id": 5, "type": 6, "str": 7, "sorted": 8, "len": 9}
    lines = ["total = id + type", f"import json\n{PLANT}\nimport forbidden", "final_answer(total)"]
    agent = agent_of(runtime, *lines, additional_authorized_imports=[])
    result = agent.run("Do it.", inputs, deadline_s=BOUND_S)
    assert result.output == 11
    assert "New variables: total: int" in result.steps[0].observation
    assert "import of 'forbidden' is not authorized here; you may import the standard library" in (
        result.steps[1].observation
    )


PLANT = '''
import importlib.abc, importlib.machinery, importlib.util, sys
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that were baked into an image."""
    sources = {"forbidden": "x = 1", "fine": "import forbidden\\nuses = forbidden.x + 1"}
    def find_spec(self, name, path=None, target=None):
        if name in self.sources:
            return importlib.machinery.ModuleSpec(name, self, origin=f"/lib/python314.zip/{name}.py")
    def exec_module(self, module):
        exec(self.sources[module.__name__], module.__dict__)
sys.meta_path.insert(0, Finder())
open("/tmp/mine.py", "w").write("y = 3")
sys.path.append("/tmp")
'''


def test_the_model_is_told_what_it_may_import(runtime: Runtime) -> None:
    result = solve(runtime, "import numpy", "final_answer(1)", additional_authorized_imports=["pandas.core"])
    assert "Only the standard library, pandas can be imported" in result.steps[0].observation
    for names in (["not a name"], [""], "pandas"):
        with pytest.raises(ConfigError, match="additional_authorized_imports"):
            agent_of(runtime, additional_authorized_imports=names)


def test_a_given_sandbox_is_used_and_stays_open(runtime: Runtime) -> None:
    lines = ["kept = base + 1\nfinal_answer(kept)"]
    tools = agent_of(runtime).tools
    with Sandbox(tools=tools, runtime=runtime) as box:
        box.run("base = 41")
        agent = CodeAgent([get_price], ScriptedModel([py(lines[0])]), sandbox=box)
        assert agent.run("Do it.").output == 42
        assert box.run("kept").value == 42

    async def main() -> None:
        async with AsyncSandbox(tools=tools, runtime=runtime) as other:
            await other.run("base = 1")
            made = CodeAgent([get_price], ScriptedModel([py(lines[0])]), sandbox=other)
            assert (await made.arun("Do it.")).output == 2
            assert (await other.run("kept")).value == 2

    anyio.run(main)


def test_cancelling_a_run_in_a_given_blocking_sandbox_stops_its_cell(runtime: Runtime) -> None:
    with Sandbox(tools=agent_of(runtime).tools, runtime=runtime) as box:
        agent = CodeAgent([get_price], ScriptedModel([py("print('on')\nwhile True: pass")]), sandbox=box)
        with agent.stream("Do it.", deadline_s=BOUND_S) as events:
            for event in events:
                if isinstance(event, OutputChunk):
                    events.cancel()
            assert events.result is not None
            assert events.result.stop_reason == "cancelled"


@pytest.mark.usefixtures("patient")
def test_options_of_the_sandbox_may_come_as_one_value(runtime: Runtime) -> None:
    options = SandboxOptions(limits=Limits(wall_s=4), isolation="thread", runtime=runtime)
    agent = CodeAgent([], ScriptedModel([py("while True: pass"), py("final_answer(1)")]), sandbox=options)
    result = agent.run("Do it.", deadline_s=BOUND_S)
    assert "ran longer than 4 seconds" in result.steps[0].observation
    with pytest.raises(ConfigError, match="give one or the other"):
        CodeAgent([], ScriptedModel([]), sandbox=options, isolation="thread")
    with pytest.raises(ConfigError, match="unknown isolation"):
        CodeAgent([], ScriptedModel([]), sandbox=SandboxOptions(isolation="none"))
    with pytest.raises(ConfigError, match="sandbox= takes"):
        CodeAgent([], ScriptedModel([]), sandbox=5)  # type: ignore[arg-type]


def test_a_cell_that_is_cut_short_leaves_its_code_and_what_it_printed(runtime: Runtime) -> None:
    agent = agent_of(runtime, "print('half')\nwhile True: pass")
    with agent.stream("Do it.", deadline_s=BOUND_S) as events:
        for event in events:
            if isinstance(event, OutputChunk):
                events.cancel()
    assert events.result is not None
    [step] = events.result.steps
    assert step.cell is not None
    assert (step.code, step.cell.stdout, step.cell.complete) == ("print('half')\nwhile True: pass", "half\n", False)


def test_a_conversation_keeps_variables_and_a_lost_sandbox_is_told(runtime: Runtime) -> None:
    lines = [
        "x = base * 2\nfinal_answer(x)",
        "final_answer(x + 1)",
        "import os\nos._exit(1)",
        "final_answer([base, 'x' in globals()])",
    ]
    with agent_of(runtime, *lines).conversation() as talk:
        assert talk.run("One.", inputs={"base": 4}, deadline_s=BOUND_S).output == 8
        assert talk.run("Two.", deadline_s=BOUND_S).output == 9
        assert talk.run("Three.", deadline_s=BOUND_S).output == [4, False]


def test_a_sub_agent_has_variables_and_tools_of_its_own(runtime: Runtime) -> None:
    @tool
    def secret() -> str:
        """Only the sub-agent has it."""
        return "s"

    inner = CodeAgent(
        [secret],
        ScriptedModel([py("final_answer([secret(), number + 1, 'mine' in globals()])")]),
        runtime=runtime,
        name="inner",
        description="Has a secret.",
    )
    lines = ["mine = 1\nprint('secret' in globals(), inner('Go.', inputs={'number': 1}))", "final_answer(1)"]
    result = solve(runtime, *lines, managed_agents=[inner], budget=Budget(steps=10, sandbox_s=30))
    assert "False ['s', 2, False]" in result.steps[0].observation
    assert result.spent.steps == 3


def test_sub_agents_run_side_by_side_from_one_cell(runtime: Runtime) -> None:
    inner = CodeAgent(
        [], ScriptedModel([py("final_answer(n * 2)")]), runtime=runtime, name="double", description="Doubles."
    )
    code = "import asyncio\nfinal_answer(await asyncio.gather(*(double.aio('Go.', {'n': n}) for n in range(4))))"
    assert solve(runtime, code, managed_agents=[inner]).output == [0, 2, 4, 6]


def test_code_cannot_reach_the_run_through_the_name_of_the_answer(runtime: Runtime) -> None:
    lines = [
        "final_answer = lambda value: None\nfinal_answer(1)",
        "import tools\ntools.final_answer({'a': 1})",
    ]
    result = solve(runtime, *lines)
    assert result.output == {"a": 1}


def test_tool_calls_at_once_never_pass_the_budget(runtime: Runtime) -> None:
    made: list[int] = []

    def call(n: int) -> int:
        """Counts."""
        made.append(n)
        return n

    code = (
        "import asyncio\n"
        "found = await asyncio.gather(*(call.aio(n) for n in range(20)), return_exceptions=True)\n"
        "print(sum(isinstance(n, int) for n in found))"
    )
    agent = CodeAgent([call], ScriptedModel([py(code)]), runtime=runtime, budget=Budget(tool_calls=7))
    result = agent.run("Do it.", deadline_s=BOUND_S)
    assert (len(made), result.spent.tool_calls, result.stop_reason) == (7, 7, "budget")
    assert result.steps[0].cell is not None
    assert result.steps[0].cell.stdout == "7\n"


def test_sub_agents_run_on_behalf_of_the_same_tenant(runtime: Runtime) -> None:
    seen: list[str | None] = []

    class Noted(AsyncSandbox):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)  # type: ignore[arg-type]
            seen.append(self.tenant)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloche.agents.box.AsyncSandbox", Noted)
        inner = agent_of(runtime, "final_answer(1)", name="inner", description="I.")
        outer = agent_of(runtime, "final_answer(inner('x'))", managed_agents=[inner])
        assert outer.run("Do it.", deadline_s=BOUND_S, tenant="acme").output == 1
        with agent_of(runtime, "final_answer(1)").conversation(tenant="other") as talk:
            talk.run("Do it.", deadline_s=BOUND_S)
            with pytest.raises(ConfigError, match="given when it begins"):
                talk.run("Do it.", tenant="third")
    assert seen == ["acme", "acme", "other"]


def test_a_given_sandbox_has_its_own_tenant(runtime: Runtime) -> None:
    with Sandbox(tools=agent_of(runtime).tools, runtime=runtime) as box:
        agent = CodeAgent([get_price], ScriptedModel([py("final_answer(1)")]), sandbox=box)
        with pytest.raises(ConfigError, match="give the sandbox its tenant"):
            agent.run("Do it.", tenant="acme")
