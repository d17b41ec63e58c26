"""The answer of a run: the tool that takes it, the type that it must have, the checks that it must pass.

The rule: the answer is the argument of the host tool `final_answer`, kept by the host on its first call. No text of the
guest is parsed for it, and nothing that the guest does afterwards replaces it; only the host itself takes it back, when
a check fails.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from ..runtime.errors import ConfigError
from ..runtime.tools import Tool
from .hooks import check_parameters, takes_run
from .option_checks import several

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from .state import RunState

AnswerCheck = Callable[..., "Awaitable[object] | object"]
"""`check(answer)`, or `check(answer, run)` to see the `RunState`; parameters with a default keep it. True or None:
good. False, a text that says why not, a ValueError or an AssertionError: the model is told, and goes on."""

MAX_REASON_CHARS: Final = 2000


class Answer:
    """Where `final_answer` leaves its argument. Written once, until the host takes it back."""

    __slots__ = ("accepted", "given", "value")

    def __init__(self) -> None:
        self.given = False
        self.accepted = False
        """Type and checks are passed."""
        self.value: object = None

    def give(self, value: object) -> None:
        if not self.given:
            self.given, self.value = True, value

    def take_back(self) -> None:
        self.given, self.value = False, None


@dataclass(frozen=True, slots=True)
class OutputType:
    """The type of the answer; `Any` when `annotation` is None."""

    annotation: object = None
    _adapter: TypeAdapter[object] | None = None
    _validate: Callable[[object], object] | None = None

    @classmethod
    def of(cls, annotation: object) -> OutputType:
        """
        Raises:
            ConfigError: pydantic can make nothing of it.
        """
        if annotation is None:
            return cls()
        from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter
        from pydantic_core import SchemaError

        from ..runtime.argument_reader import validator_of

        try:
            adapter: TypeAdapter[object] = TypeAdapter(cast("type[object]", annotation))
            if not adapter.pydantic_complete:
                adapter.rebuild(raise_errors=True)  # says which name is missing
            return cls(annotation, adapter, validator_of(adapter.core_schema))
        except PydanticUndefinedAnnotation as exc:
            hint = "give the type itself" if isinstance(annotation, str) else "define it before the agent is made"
            raise ConfigError(f"output_type {annotation!r:.100}: no type is named {exc.name!r:.100}; {hint}") from exc
        except (PydanticUserError, SchemaError, SyntaxError, TypeError, NameError, KeyError) as exc:
            reason = str(exc).partition("\n")[0]
            raise ConfigError(
                f"output_type {annotation!r:.100} is no type that pydantic knows, such as list[str] or a BaseModel: "
                f"{reason:.300}"
            ) from exc

    def read(self, value: object) -> tuple[object, str | None]:
        """The answer as that type, and what is wrong with it, in words for the model."""
        if self._validate is None:
            return value, None
        from pydantic import ValidationError

        from ..runtime.argument_reader import explain

        try:
            return self._validate(value), None
        except ValidationError as exc:
            return None, f"final_answer got a value of the wrong type.\n{explain(exc, root='value')}"

    def schema_text(self) -> str | None:
        """JSON schema of the type, as text."""
        return json.dumps(self._adapter.json_schema()) if self._adapter is not None else None

    def parse_text(self, text: str) -> object:
        """An answer in words, as data where the type asks for data."""
        if self._adapter is None:
            return text
        bare = text.strip().removeprefix("```json").strip("`").strip()
        try:
            return cast("object", json.loads(bare))
        except (ValueError, RecursionError):
            return text


def final_answer_tool(output: OutputType | None = None) -> Tool:
    """The tool that ends a run. One serves all runs of an agent: it finds its run in a context variable."""
    from .state import current_run

    def final_answer(value: object) -> None:
        """Gives the result of the task and ends it. Give the plain value, in the type that the task asks for."""
        current_run().answer.give(value)

    plain = Tool(final_answer, end_cell=True)
    if output is None or output.annotation is None:
        return plain

    def typed(value: object) -> None:
        current_run().answer.give(value)

    typed.__annotations__["value"] = output.annotation
    tool = Tool(typed, name="final_answer", description=plain.description, end_cell=True)
    tool.bind = plain.bind  # the type is for the model to see; the run checks it, and counts how often it was wrong
    return tool


async def judge(run: RunState) -> str | None:
    """Check the answer that was given: None accepts it, a text says what is wrong."""
    value, problem = run.spec.output.read(run.answer.value)
    if problem is None:
        for check in run.spec.checks:
            problem = await _asked(check, value, run)
            if problem is not None:
                break
    if problem is None:
        run.answer.value, run.answer.accepted = value, True
        return None
    return problem[:MAX_REASON_CHARS]


async def _asked(check: AnswerCheck, value: object, run: RunState) -> str | None:
    try:
        verdict = check(value, run) if takes_run(check) else check(value)
        if isinstance(verdict, Awaitable):
            verdict = await cast("Awaitable[object]", verdict)
    except (ValueError, AssertionError) as exc:
        verdict = str(exc) or False
    if isinstance(verdict, str) and verdict:
        return f"The answer was not accepted: {verdict}"
    if verdict is None or verdict is True or (verdict and not isinstance(verdict, str)):
        return None
    name = getattr(check, "__name__", type(check).__name__)
    return f"The answer was not accepted: it did not pass the check {name!r}."


def checked_checks(checks: object) -> tuple[AnswerCheck, ...]:
    """
    Raises:
        ConfigError: one of them cannot be called as an `AnswerCheck` is.
    """
    for check in (entries := several("final_answer_checks", checks)):
        if not callable(check):
            raise ConfigError(f"final_answer_checks holds functions, not {check!r:.100}")
        check_parameters(check, "final_answer_checks", "answer")
    return cast("tuple[AnswerCheck, ...]", entries)
