"""A run on a terminal, for people: an event consumer that prints with rich. Off unless somebody makes one.

The rule: models, guests and users chose the text, so it is escaped before it is printed (no control or bidirectional
character reaches the terminal) and never read as markup; long parts lose their middle.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, cast

from ..runtime.errors import ConfigError
from ..runtime.extras import install_command
from ..runtime.output import escape_controls
from .events import Event, PlanMade, RunFinished, StepFinished, StepStarted, SubAgentEvent
from .observation import shorten
from .result import ActionStep, PlanningStep, RunResult

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MAX_CHARS: Final = 4000
"""Of one part."""


class ConsoleLogger:
    """Prints events. Give each event of `stream` to it, or a whole result to `show`. Safe to share between threads."""

    def __init__(self, console: Console | None = None, *, max_chars: int = MAX_CHARS, thoughts: bool = True) -> None:
        """
        Args:
            console: a `rich.console.Console`; None: a new one on stderr.
            max_chars: of one part.
            thoughts: print what the model wrote beside its code.

        Raises:
            ConfigError: rich is not installed.
        """
        try:
            from rich.console import Console
        except ImportError:
            raise ConfigError(f"rich is missing: {install_command('console')}") from None
        self._console = console or Console(stderr=True)
        self._max_chars = max_chars
        self._thoughts = thoughts
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} max_chars={self._max_chars} thoughts={self._thoughts}>"

    def __call__(self, event: Event) -> None:
        """Print one event; kinds that it does not know, and pieces of what comes whole later, are left out."""
        with self._lock:
            self._event(event, "")

    def show(self, result: RunResult) -> None:
        """Print a run that is over."""
        with self._lock:
            for step in result.trace or result.steps:
                if isinstance(step, PlanningStep):
                    self._plan(step, "")
                elif isinstance(step, ActionStep):
                    self._rule(f"step {step.number}")
                    self._step(step, "")
            self._end(result, "")

    def _event(self, event: Event, agent: str) -> None:
        match event:
            case StepStarted(step=number):
                self._rule(f"{agent}step {number}")
            case PlanMade(plan=plan):
                self._plan(plan, agent)
            case StepFinished(step=step):
                self._step(step, agent)
            case RunFinished(result=result):
                self._end(result, agent)
            case SubAgentEvent(agent=name, event=inner):
                self._event(inner, f"{agent}{name}: ")
            case _:
                pass

    def _plan(self, plan: PlanningStep, agent: str) -> None:
        self._part(f"{agent}plan", plan.plan, "blue")

    def _step(self, step: ActionStep, agent: str) -> None:
        if self._thoughts and step.thought:
            self._part(f"{agent}thought", step.thought, "dim")
        if step.code is not None:
            self._code(step.code)
        for call in step.tool_calls:
            failed = "" if call.error is None else f" {call.error.type}: {call.error.message}"
            self._line(
                f"{agent}tool {call.name} {call.arguments} {call.outcome} {call.seconds:.2f}s{failed}", "magenta"
            )
        if step.observation:
            self._part(f"{agent}observation", step.observation, "red" if step.error else "green")
        elif step.error is not None:
            self._part(f"{agent}error", f"{step.error.type}: {step.error.message}", "red")
        usage = step.reply.usage
        tokens = "" if usage is None else f", {usage.input_tokens} tokens in, {usage.output_tokens} out"
        self._line(f"{agent}model {step.model_s:.2f}s, sandbox {step.sandbox_s:.2f}s{tokens}", "dim")

    def _end(self, result: RunResult, agent: str) -> None:
        self._part(f"{agent}{result.stop_reason}", str(result.output), "bold")
        spent = result.spent
        self._line(f"{agent}{spent.steps} steps, {spent.tokens} tokens, {result.timing.total_s:.2f}s", "dim")

    # --- printing -----------------------------------------------------------------------------------------------------

    def _code(self, code: str) -> None:
        from rich.syntax import Syntax

        self._print(Syntax(self._clean(code), "python", background_color="default", word_wrap=True))

    def _part(self, title: str, text: str, style: str) -> None:
        self._line(title, "bold")
        self._print_text(self._clean(text), style)

    def _line(self, text: str, style: str) -> None:
        self._print_text(self._clean(text).replace("\n", "\\n"), style)

    def _rule(self, title: str) -> None:
        from rich.text import Text

        self._console.rule(Text(self._clean(title).replace("\n", "\\n")))

    def _print_text(self, text: str, style: str) -> None:
        from rich.text import Text

        self._print(Text(text, style=style))

    def _print(self, what: RenderableType) -> None:
        self._console.print(cast("object", what), markup=False, highlight=False, emoji=False)

    def _clean(self, text: str) -> str:
        return escape_controls(shorten(text, self._max_chars))
