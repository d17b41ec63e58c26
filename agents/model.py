"""The one thing an agent needs of a model. Anything with these two members is a model; no base class.

Streaming: a model that can stream calls `on_text` with each piece as it arrives, on the event loop, and still returns
the whole reply with its usage. So there is one path for text and one for accounting. A model that cannot may ignore it.

Everything else that a model cannot do (tools, a response format, images) it refuses with `ModelUnsupported`, which says
what to use instead: leaving it out in silence would give a wrong reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .messages import Message, ModelReply, ResponseFormat, ToolChoice, ToolSchema

OnText = Callable[[str], None]


class Model(Protocol):
    """A chat model. Must be safe for concurrent calls."""

    @property
    def name(self) -> str:
        """For logs and recordings."""
        ...

    async def complete(  # noqa: PLR0913  # one request, all by keyword
        self,
        messages: Sequence[Message],
        *,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
        tools: Sequence[ToolSchema] = (),
        tool_choice: ToolChoice | None = None,
        response_format: ResponseFormat | None = None,
        max_tokens: int | None = None,
    ) -> ModelReply:
        """The model's next message. Cancelling the task abandons the request and closes its connection.

        Args:
            messages: the conversation.
            stop: sequences that end the reply; they are not part of it.
            on_text: called with each piece of the text as it arrives. A reply that breaks off is an error, not asked
                for again, once a piece was given out.
            tools: that the model may ask to be called; its requests are `ModelReply.tool_calls`.
            tool_choice: whether it may or must call one; None: the endpoint's default.
            response_format: the reply is to be JSON.
            max_tokens: of this reply, instead of the model object's own limit.

        Raises:
            ModelError: no usable reply. `ModelUnsupported`: this model cannot do what was asked for.
        """
        ...
