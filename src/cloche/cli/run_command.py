"""`cloche run`: an agent solves one task. The answer goes to stdout and the way there to stderr.

Everything that the model and the guest wrote is escaped before a terminal shows it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import cloche

from ..agents.errors import AgentError
from ..agents.events import RunFinished
from ..runtime.errors import ClocheError, ConfigError
from . import exits
from .failures import complain
from .prepare import prepare
from .render import is_plain_json, write_json
from .run_progress import Progress, progress_on
from .terminal import write_guest_text
from .tools import load_tools

if TYPE_CHECKING:
    from ..agents.code_agent import CodeAgent
    from ..agents.model import Model
    from ..agents.result import ActionStep, RunResult

app = typer.Typer()


@app.command("run")
def run(
    task: Annotated[str, typer.Argument(help="What to do, or - for stdin.")],
    model: Annotated[str, typer.Option(envvar="CLOCHE_MODEL", help="Name of the model.")],
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="CLOCHE_BASE_URL", help="OpenAI-compatible endpoint; without one, LiteLLM finds the model."
        ),
    ] = None,
    tools: Annotated[list[str] | None, typer.Option(metavar="MODULE:FUNCTION", help="A host tool; repeatable.")] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Replies of the model at most.")] = 20,
    deadline: Annotated[float | None, typer.Option(min=0.001, help="Seconds for the whole run.")] = None,
    isolation: Annotated[Literal["process", "thread"], typer.Option(help="As for `cloche exec`.")] = "process",
    engine: Annotated[Literal["wasmtime", "deno"], typer.Option(help="As for `cloche exec`.")] = "wasmtime",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Let an agent solve a task with the given tools.

    Exit code: 0, 1 when it came to no answer, 2 when cloche or the model could not work, 124 when the deadline passed.
    """
    try:
        agent = cloche.CodeAgent(
            tools=load_tools(tools or ()),
            model=make_model(model, base_url),
            max_steps=max_steps,
            engine=engine,
            isolation=isolation,
        )
        prepare(isolation, engine)
        result = _drive(agent, _read_task(task), deadline, None if as_json else progress_on(sys.stderr))
    except ClocheError as exc:
        if as_json:
            write_json({"failure": {"code": exc.code, "message": str(exc)}})
        else:
            complain(exc)
        raise typer.Exit(exits.REFUSED) from exc
    raise typer.Exit(_report(result, as_json=as_json))


def make_model(name: str, base_url: str | None) -> Model:
    """The model of that name: at the endpoint if one is given, else wherever LiteLLM finds it.

    The key of an endpoint comes from CLOCHE_API_KEY: an argument would show in the list of processes.

    Raises:
        ConfigError: the address cannot be.
    """
    if base_url is not None:
        return cloche.OpenAIModel(name, base_url=base_url, api_key=os.environ.get("CLOCHE_API_KEY"))
    return cloche.LiteLLMModel(name)


def _read_task(task: str) -> str:
    text = sys.stdin.read() if task == "-" else task
    if not text.strip():
        raise ConfigError("the task is empty")
    return text


def _drive(agent: CodeAgent, task: str, deadline_s: float | None, progress: Progress | None) -> RunResult:
    """Run to the end, showing events as they come."""
    with agent.stream(task, deadline_s=deadline_s) as events:
        for event in events:
            if progress is not None:
                progress(event)
            if isinstance(event, RunFinished):
                return event.result
    raise AgentError("the run ended without a result")


def _report(result: RunResult, *, as_json: bool) -> int:
    if as_json:
        write_json(_fields(result))
    elif result.stop_reason == "final":
        output = result.output
        write_guest_text(f"{output if isinstance(output, str) else repr(output)}\n", to="stdout")
    if result.stop_reason == "timeout":
        return exits.TIMED_OUT
    return exits.OK if result.stop_reason == "final" else exits.GUEST_ERROR


def _fields(result: RunResult) -> dict[str, object]:
    plain = is_plain_json(result.output)
    return {
        "output": result.output if plain else None,
        "output_repr": repr(result.output),
        "stop_reason": result.stop_reason,
        "steps": [_step_fields(step) for step in result.steps],
        "usage": dataclasses.asdict(result.usage),
        "usage_complete": result.usage_complete,
        "timing": dataclasses.asdict(result.timing),
        "failure": None,
    }


def _step_fields(step: ActionStep) -> dict[str, object]:
    return {
        "number": step.number,
        "thought": step.thought,
        "code": step.code,
        "observation": step.observation,
        "error": None if step.error is None else dataclasses.asdict(step.error),
        "is_final": step.is_final,
        "model_s": step.model_s,
        "sandbox_s": step.sandbox_s,
    }
