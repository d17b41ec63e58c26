"""`RecordingModel`: passes everything through to another model and keeps the conversation in a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import anyio.to_thread

from ..messages import Message, ModelReply, ModelRequest, ResponseFormat, ToolChoice, ToolSchema
from ..model import Model, OnText
from .conversation import Exchange, Recording, write_recording
from .request import make_request


class RecordingModel:
    """Another model, with its words written down. The file is whole after each reply; what it held before is gone."""

    def __init__(self, inner: Model, path: str | os.PathLike[str]) -> None:
        self._inner = inner
        self._path = path
        self._exchanges: list[Exchange] = []
        self._gate = threading.Lock()

    @property
    def name(self) -> str:
        return self._inner.name

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
        """The inner model's reply; its errors pass through and are not recorded.

        Raises:
            ConfigError: the recording grew too long.
            OSError: the file cannot be written.
        """
        request = make_request(
            messages,
            stop=stop,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            max_tokens=max_tokens,
        )
        pieces: list[str] = []

        def on_piece(text: str) -> None:
            pieces.append(text)
            if on_text is not None:
                on_text(text)

        reply = await self._inner.complete(
            messages,
            stop=stop,
            on_text=None if on_text is None else on_piece,
            tools=tools,
            tool_choice=tool_choice,
            response_format=response_format,
            max_tokens=max_tokens,
        )
        await anyio.to_thread.run_sync(self._write, request, reply, pieces)
        return reply

    def _write(self, request: ModelRequest, reply: ModelReply, pieces: list[str]) -> None:
        exchange = Exchange(
            messages=request.messages,
            stop=request.stop,
            tools=request.tools,
            tool_choice=request.tool_choice,
            response_format=request.response_format,
            max_tokens=request.max_tokens,
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            tool_calls=reply.tool_calls,
            echo=None if reply.echo is None else dict(reply.echo),
            pieces=tuple(map(len, pieces)) if len(pieces) > 1 and "".join(pieces) == reply.text else (),
        )
        with self._gate:
            self._exchanges.append(exchange)
            write_recording(self._path, Recording(model=self._inner.name, exchanges=tuple(self._exchanges)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r} to {os.fspath(self._path)!r}>"
