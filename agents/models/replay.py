"""`ReplayModel`: gives the words of a recorded conversation, and only to the very same requests.

So a replayed run proves something: all that the model was told (prompts, output of the code, results of the tools) is
what it was told when it was recorded, character by character.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ..errors import ReplayMismatch
from ..messages import Message, ModelReply
from ..model import OnText
from .conversation import Exchange, read_recording

_AROUND: Final = 60


class ReplayModel:
    """The model of a recording. It keeps no place in it, so one object serves any number of runs."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the recording.

        Raises:
            ConfigError: there is none, or not one of ours.
        """
        recording = read_recording(path)
        self._name = recording.model
        self._exchanges = recording.exchanges
        self._requests = {(exchange.request, exchange.stop): exchange for exchange in reversed(recording.exchanges)}

    @property
    def name(self) -> str:
        """Name of the model that was recorded."""
        return self._name

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The recorded reply to this request.

        Raises:
            ReplayMismatch: this request was not recorded; says where it first differs from the closest one.
        """
        found = self._requests.get((tuple(messages), tuple(stop)))
        if found is None:
            raise ReplayMismatch(self._explain(tuple(messages), tuple(stop)))
        if on_text is not None:
            on_text(found.text)
        return found.reply

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name!r}, {len(self._exchanges)} replies>"

    def _explain(self, live: tuple[Message, ...], stop: tuple[str, ...]) -> str:
        if not self._exchanges:
            return "the recording is empty"
        closest = max(self._exchanges, key=lambda exchange: _closeness(exchange, live))
        recorded = closest.request
        if recorded == live:
            return f"the request has other stop sequences: recorded {list(closest.stop)}, live {list(stop)}"
        same = _same(recorded, live)
        if same == len(recorded):
            return f"the recording ends: no reply to a request of {len(live)} messages, the closest has {len(recorded)}"
        if same == len(live):
            return f"the request has {len(live)} messages, the closest recorded one {len(recorded)}"
        return _difference(same, recorded[same], live[same])


def _closeness(exchange: Exchange, live: tuple[Message, ...]) -> tuple[int, int]:
    """More equal messages first, then the more similar length."""
    return _same(exchange.request, live), -abs(len(exchange.messages) - len(live))


def _same(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages are equal from the start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _difference(index: int, recorded: Message, live: Message) -> str:
    if recorded.role != live.role:
        return f"message {index + 1} is of {live.role!r}, recorded was one of {recorded.role!r}"
    pairs = zip(recorded.content, live.content, strict=False)
    shorter = min(len(recorded.content), len(live.content))
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    line = live.content.count("\n", 0, at) + 1
    return (
        f"message {index + 1} ({live.role}) differs from the recorded one at character {at}, line {line}:\n"
        f"  recorded: {_excerpt(recorded.content, at)}\n"
        f"  live:     {_excerpt(live.content, at)}"
    )


def _excerpt(text: str, at: int) -> str:
    start = max(0, at - _AROUND // 2)
    before = "..." if start else ""
    after = "..." if at + _AROUND < len(text) else ""
    return f"{before}{text[start : at + _AROUND]!r}{after}"
