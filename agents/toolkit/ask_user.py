"""Asks the person behind the run. How, is the host's business: a function that gets the question gives the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ...runtime.errors import ConfigError
from ...runtime.output import escape_controls
from ...runtime.tools import Tool

MAX_QUESTION = 2000
MAX_ANSWER = 20_000
Ask = Callable[[str], str | Awaitable[str]]


class AskUserTool(Tool):
    """The question goes to `ask`, a plain or async function. The deadline of the cell goes on meanwhile: give the
    sandbox `Limits(wall_s=..., tool_s=...)` that a person can keep.
    """

    name = "ask_user"
    description = "Asks the user a question and returns the answer as text. Ask only what you cannot find out yourself."
    inputs = {"question": {"type": "string", "description": "one clear question"}}
    output_type = "string"

    def __init__(self, ask: Ask) -> None:
        """
        Raises:
            ConfigError: `ask` cannot be called.
        """
        super().__init__()
        if not callable(ask):
            raise ConfigError("AskUserTool takes a function of the question; ask_on_terminal is one")
        self._ask = ask

    def forward(self, question: str) -> Any:
        answer = self._ask(escape_controls(question[:MAX_QUESTION]))
        return _checked(answer) if isinstance(answer, str) else _awaited(answer)


async def _awaited(answer: Awaitable[str]) -> str:
    return _checked(await answer)


def _checked(answer: object) -> str:
    if not isinstance(answer, str):
        raise TypeError("the user gave no text")
    return answer[:MAX_ANSWER]


def ask_on_terminal(question: str) -> str:
    """Asks on this process's terminal. Not for servers: it waits for whoever sits there, and cannot be interrupted."""
    return input(f"\n{question}\n> ")
