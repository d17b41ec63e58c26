"""`FallbackModel`: several models, of which the next is asked where one fails.

The rule: a reply comes from one model as a whole. Once text was given out, an error is final.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ...runtime import lazy
from ...runtime.errors import ConfigError
from ..errors import ModelError
from ..messages import ModelReply, ModelRequest
from ..model import Model, OnText
from .base import RequestModel, ask_model
from .given import GivenText

T = TypeVar("T")
_log = lazy.logger("cloche.models")


class FallbackModel(RequestModel):
    """Asks its models in order until one replies. Each keeps its own retries, prices and limits."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: there are no models.
        """
        if not models:
            raise ConfigError("FallbackModel needs at least one model")
        self._models = tuple(models)

    @property
    def name(self) -> str:
        """The first model's."""
        return self._models[0].name

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The reply of the first model that gives one.

        Raises:
            ModelError: the last model's; its notes name what the others said.
        """
        given = GivenText(on_text)

        async def ask(model: Model) -> ModelReply:
            return await ask_model(model, request, None if on_text is None else given)

        return await first_that_replies([(model.name, model) for model in self._models], ask, given)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._models)!r}>"


async def first_that_replies(
    options: Sequence[tuple[str, T]], ask: Callable[[T], Awaitable[ModelReply]], given: GivenText
) -> ModelReply:
    """The reply of the first option that gives one.

    Raises:
        ModelError: the last one's, or the first after text was given out; its notes name the others.
    """
    failed: list[str] = []
    for position, (name, option) in enumerate(options):
        try:
            return await ask(option)
        except ModelError as exc:
            if given.began or position == len(options) - 1:
                for line in failed:
                    exc.add_note(line)
                raise
            failed.append(f"before it, {name} failed: {type(exc).__name__}: {exc}")
            _log.warning("%s failed with %s; asking %s", name, type(exc).__name__, options[position + 1][0])
    raise AssertionError("there is at least one option")
