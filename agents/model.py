"""The one thing an agent needs of a model. Anything with these two members is a model; no base class.

Streaming: a model that can stream calls `on_text` with each piece as it arrives, on the event loop, and still returns
the whole reply with its usage. So there is one path for text and one for accounting. A model that cannot may ignore it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .messages import Message, ModelReply

OnText = Callable[[str], None]


class Model(Protocol):
    """A chat model. Must be safe for concurrent calls."""

    @property
    def name(self) -> str:
        """For logs and recordings."""
        ...

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The model's next message. Cancelling the task abandons the request.

        Raises:
            ModelError: no usable reply.
        """
        ...
