"""`step_callbacks`: functions that are told each step once it is over, in order, before the next one begins."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, cast

from ..runtime.errors import ConfigError
from .hooks import check_parameters, takes_run
from .option_checks import several
from .result import ActionStep, AnyStep, FinalAnswerStep, PlanningStep, TaskStep

if TYPE_CHECKING:
    from .spec import StepCallback
    from .state import RunState

STEP_TYPES = (TaskStep, PlanningStep, ActionStep, FinalAnswerStep)
Callbacks = "Iterable[StepCallback] | Mapping[type[AnyStep], StepCallback | Iterable[StepCallback]]"
"""A list is told of `ActionStep`s; a mapping names the class of step for each."""


def checked_callbacks(given: object) -> tuple[tuple[type[AnyStep], StepCallback], ...]:
    """Pairs of a class of step and who is told.

    Raises:
        ConfigError: it is nothing of the kind.
    """
    pairs: list[tuple[type[AnyStep], StepCallback]] = []
    if isinstance(given, Mapping):
        for kind, entries in cast("Mapping[object, object]", given).items():
            if not isinstance(kind, type) or kind not in STEP_TYPES:
                raise ConfigError(f"step_callbacks: {kind!r:.100} is not a class of step")
            told = (entries,) if callable(entries) else several(f"step_callbacks[{kind.__name__}]", entries)
            pairs += [(kind, _checked(entry)) for entry in told]
        return tuple(pairs)
    return tuple((ActionStep, _checked(entry)) for entry in several("step_callbacks", given))


async def tell(run: RunState, step: AnyStep) -> None:
    """Call those who want to know of this step. What they raise ends the run and reaches the caller."""
    for kind, callback in run.spec.callbacks:
        if isinstance(step, kind):
            told = callback(step, run) if takes_run(callback) else callback(step)
            if isinstance(told, Awaitable):
                await told


def _checked(entry: object) -> StepCallback:
    if not callable(entry):
        raise ConfigError(f"step_callbacks holds functions, not {entry!r:.100}")
    callback = cast("StepCallback", entry)
    check_parameters(callback, "step_callbacks", "step")
    return callback
