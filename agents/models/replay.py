"""`ReplayModel`: gives the words of a recorded conversation, and only to the very same requests.

So a replayed run proves something: all that the model was told (prompts, output of the code, results of the tools) is
what it was told when it was recorded, character by character.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ..errors import ReplayMismatch
from ..messages import Message, ModelReply, ModelRequest
from ..model import OnText
from .base import RequestModel
from .conversation import Exchange, read_recording

_AROUND: Final = 60


class ReplayModel(RequestModel):
    """The model of a recording. It keeps no place in it, so one object serves any number of runs."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the recording.

        Raises:
            ConfigError: there is none, or not one of ours.
        """
        recording = read_recording(path)
        self._name = recording.model
        self._exchanges = recording.exchanges
        self._requests = {exchange.request: exchange for exchange in reversed(recording.exchanges)}

    @property
    def name(self) -> str:
        """Name of the model that was recorded."""
        return self._name

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The recorded reply to this request, to `on_text` in the pieces in which it came.

        Raises:
            ReplayMismatch: this request was not recorded; says where it first differs from the closest one.
        """
        found = self._requests.get(request)
        if found is None:
            raise ReplayMismatch(self._explain(request))
        if on_text is not None:
            for piece in found.text_in_pieces():
                on_text(piece)
        return found.reply

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name!r}, {len(self._exchanges)} replies>"

    def _explain(self, live: ModelRequest) -> str:
        if not self._exchanges:
            return "the recording is empty"
        closest = max(self._exchanges, key=lambda exchange: _closeness(exchange, live.messages))
        recorded, said = closest.messages, live.messages
        if recorded == said:
            return _other_options(closest.request, live)
        same = _same(recorded, said)
        if same == len(recorded):
            return f"the recording ends: no reply to a request of {len(said)} messages, the closest has {len(recorded)}"
        if same == len(said):
            return f"the request has {len(said)} messages, the closest recorded one {len(recorded)}"
        return _difference(same, recorded[same], said[same])


def _other_options(recorded: ModelRequest, live: ModelRequest) -> str:
    if recorded.stop != live.stop:
        return f"the request has other stop sequences: recorded {list(recorded.stop)}, live {list(live.stop)}"
    if recorded.tools != live.tools:
        names = [[tool.name for tool in request.tools] for request in (recorded, live)]
        hint = "; their descriptions or parameters differ" if names[0] == names[1] else ""
        return f"the request has other tools: recorded {names[0]}, live {names[1]}{hint}"
    for name in ("tool_choice", "response_format", "max_tokens"):
        before: object = getattr(recorded, name)
        now: object = getattr(live, name)
        if before != now:
            return f"the request has another {name}: recorded {before!r:.500}, live {now!r:.500}"
    return "the request is equal to a recorded one and yet not found: please report this"


def _closeness(exchange: Exchange, live: tuple[Message, ...]) -> tuple[int, int]:
    """More equal messages first, then the more similar length."""
    return _same(exchange.messages, live), -abs(len(exchange.messages) - len(live))


def _same(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages are equal from the start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _difference(index: int, recorded: Message, live: Message) -> str:
    if recorded.role != live.role:
        return f"message {index + 1} is of {live.role!r}, recorded was one of {recorded.role!r}"
    for name in ("images", "tool_calls", "tool_call_id", "echo"):
        if recorded.content == live.content and getattr(recorded, name) != getattr(live, name):
            return f"message {index + 1} ({live.role}) has other {name} than the recorded one"
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
