"""`ScriptedModel`: a model whose words you write beforehand. For tests and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import ModelError
from ..messages import Message, ModelReply, TokenUsage
from ..model import OnText

Line = str | ModelReply | ModelError | Callable[[Sequence[Message]], str | ModelReply]
"""A text, a whole reply, an error to raise, or a function of the conversation."""


class ScriptedModel:
    """Gives the n-th line to a conversation that holds n-1 replies. So one object serves any number of runs at once."""

    def __init__(self, lines: Iterable[Line], *, name: str = "scripted") -> None:
        self._lines = tuple(lines)
        self._name = name
        self.requests: list[tuple[Message, ...]] = []
        """Each conversation that the model was asked to continue, in order."""

    @property
    def name(self) -> str:
        return self._name

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The next line. `on_text` gets it line by line.

        Raises:
            ModelError: the script has no such line, or that line is an error.
        """
        self.requests.append(tuple(messages))
        said = sum(message.role == "assistant" for message in messages)
        if said >= len(self._lines):
            raise ModelError(f"the script has {len(self._lines)} lines and the model was asked for one more")
        line = self._lines[said]
        if isinstance(line, ModelError):
            raise line
        reply = line if isinstance(line, str | ModelReply) else line(messages)
        if isinstance(reply, str):
            usage = TokenUsage(input_tokens=_words(*messages), output_tokens=len(reply.split()))
            reply = ModelReply(text=reply, usage=usage)
        if on_text is not None:
            for piece in reply.text.splitlines(keepends=True):
                on_text(piece)
        return reply

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} of {len(self._lines)} lines>"


def _words(*messages: Message) -> int:
    return sum(len(message.content.split()) for message in messages)
