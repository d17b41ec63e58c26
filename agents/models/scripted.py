"""`ScriptedModel`: a model whose words you write beforehand. For tests and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import ModelError
from ..messages import (
    Message,
    ModelReply,
    ModelRequest,
    TokenUsage,
    ToolCallRequest,
)
from ..model import OnText
from .base import RequestModel

Said = str | ModelReply | ToolCallRequest | Sequence[ToolCallRequest]
Line = Said | ModelError | Callable[[Sequence[Message]], Said]
"""A text, one or several tool calls, a whole reply, an error to raise, or a function of the conversation."""


class ScriptedModel(RequestModel):
    """Gives the n-th line to a conversation that holds n-1 replies. So one object serves any number of runs at once.

    It takes whatever is asked of it (tools, a response format, images) and says its line all the same.
    """

    def __init__(self, lines: Iterable[Line], *, name: str = "scripted") -> None:
        self._lines = tuple(lines)
        self._name = name
        self.requests: list[tuple[Message, ...]] = []
        """Each conversation that the model was asked to continue, in order."""
        self.calls: list[ModelRequest] = []
        """The same with all else that was asked for."""

    @property
    def name(self) -> str:
        return self._name

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The next line. `on_text` gets it line by line.

        Raises:
            ModelError: the script has no such line, or that line is an error.
        """
        self.calls.append(request)
        self.requests.append(request.messages)
        said = sum(message.role == "assistant" for message in request.messages)
        if said >= len(self._lines):
            raise ModelError(f"the script has {len(self._lines)} lines and the model was asked for one more")
        line = self._lines[said]
        if isinstance(line, ModelError):
            raise line
        reply = _reply(line(request.messages) if callable(line) else line, request.messages)
        if on_text is not None:
            for piece in reply.text.splitlines(keepends=True):
                on_text(piece)
        return reply

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} of {len(self._lines)} lines>"


def _reply(said: Said, messages: Sequence[Message]) -> ModelReply:
    if isinstance(said, ModelReply):
        return said
    text = said if isinstance(said, str) else ""
    calls = () if isinstance(said, str) else (said,) if isinstance(said, ToolCallRequest) else tuple(said)
    usage = TokenUsage(input_tokens=_words(*messages), output_tokens=len(text.split()) + len(calls))
    return ModelReply(text=text, usage=usage, tool_calls=calls, finish_reason="tool_calls" if calls else "stop")


def _words(*messages: Message) -> int:
    return sum(len(message.content.split()) for message in messages)
