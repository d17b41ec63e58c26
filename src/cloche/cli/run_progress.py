"""Shows a run while it goes on: in colour on a terminal, as plain lines in a pipe. None of it is part of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from ..agents.events import CodeParsed, Event, OutputChunk, RunFinished, StepFinished, StepStarted
from ..agents.result import RunResult
from .terminal import escape_controls, write_text

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[Event], None]


def progress_on(stream: TextIO) -> Progress:
    """What to call with each event."""
    if not stream.isatty():
        return lambda event: _write_plain(event, stream)
    from rich.console import Console  # 60 ms that a pipe need not pay

    console = Console(file=stream, highlight=False)
    return lambda event: _print_rich(event, console)


def _write_plain(event: Event, stream: TextIO) -> None:
    match event:
        case StepStarted(step=number):
            write_text(f"step {number}\n", stream)
        case CodeParsed(thought=thought, code=code):
            said = f"{thought.strip()}\n" if thought.strip() else ""
            write_text(f"{said}{_indented(code)}\n", stream)
        case OutputChunk(text=text):
            write_text(text, stream)
        case StepFinished(step=step) if step.error is not None:
            write_text(f"{step.error.type}: {step.error.message}\n", stream)
        case RunFinished(result=result):
            write_text(f"{_summary(result)}\n", stream)
        case _:
            pass


def _print_rich(event: Event, console: Console) -> None:
    from rich.syntax import Syntax
    from rich.text import Text

    match event:
        case StepStarted(step=number):
            console.rule(f"step {number}", align="left")
        case CodeParsed(thought=thought, code=code):
            if thought.strip():
                console.print(Text(escape_controls(thought.strip()), style="italic"))
            console.print(Syntax(escape_controls(code), "python", background_color="default", word_wrap=True))
        case OutputChunk(text=text):
            console.print(Text(escape_controls(text), style="dim"), end="")
        case StepFinished(step=step) if step.error is not None:
            console.print(Text(escape_controls(f"{step.error.type}: {step.error.message}"), style="red"))
        case RunFinished(result=result):
            console.rule(_summary(result), align="left")
        case _:
            pass


def _indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.strip("\n").splitlines())


def _summary(result: RunResult) -> str:
    outcome = "done" if result.stop_reason == "final" else f"no answer: {result.stop_reason}"
    tokens = f"{result.usage.input_tokens} tokens in, {result.usage.output_tokens} out"
    return f"{outcome} after {len(result.steps)} steps, {result.timing.total_s:.1f} s, {tokens}"
