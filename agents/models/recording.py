"""`RecordingModel`: passes everything through to another model and keeps the conversation in a file."""

from __future__ import annotations

import os
import threading

import anyio.to_thread

from ..messages import ModelReply, ModelRequest
from ..model import Model, OnText
from .base import RequestModel, ask_model
from .conversation import Exchange, Recording, write_recording


class RecordingModel(RequestModel):
    """Another model, with its words written down. The file is whole after each reply; what it held before is gone."""

    def __init__(self, inner: Model, path: str | os.PathLike[str]) -> None:
        self._inner = inner
        self._path = path
        self._exchanges: list[Exchange] = []
        self._gate = threading.Lock()

    @property
    def name(self) -> str:
        return self._inner.name

    async def _answer(self, request: ModelRequest, on_text: OnText | None) -> ModelReply:
        """The inner model's reply; its errors pass through and are not recorded.

        Raises:
            ConfigError: the recording grew too long.
            OSError: the file cannot be written.
        """
        pieces: list[str] = []

        def on_piece(text: str) -> None:
            pieces.append(text)
            if on_text is not None:
                on_text(text)

        reply = await ask_model(self._inner, request, None if on_text is None else on_piece)
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
