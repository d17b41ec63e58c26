"""`RequestModel`: the base of the model classes here. It takes the many arguments of `Model.complete` once, checks that
they fit together, and hands them on as one value. Models of others need no base class (agents/model.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..messages import Message, ModelReply, ModelRequest, ResponseFormat, ToolChoice, ToolSchema
from ..model import Model, OnText
from .request import make_request


class RequestModel(ABC):
    """A model that answers a `ModelRequest`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For logs and recordings."""

    async def complete(  # noqa: PLR0913  # the protocol's
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
        """The model's next message, as `Model.complete` says; the class says what else it may raise.

        Raises:
            ModelError: no usable reply.
            ConfigError: the request contradicts itself.
        """
        request = make_request(
            messages,
            stop=stop,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            max_tokens=max_tokens,
        )
        return await self._answer(request, on_text)

    @abstractmethod
    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The reply; its text also to `on_text`, piece by piece, if there is one."""


async def ask_model(model: Model, request: ModelRequest, on_text: OnText | None) -> ModelReply:
    """The reply of any model to this request."""
    return await model.complete(
        request.messages,
        stop=request.stop,
        on_text=on_text,
        tools=request.tools,
        tool_choice=request.tool_choice,
        response_format=request.response_format,
        max_tokens=request.max_tokens,
    )
