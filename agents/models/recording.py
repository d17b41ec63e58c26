"""`RecordingModel`: passes everything through to another model and keeps the conversation in a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import anyio.to_thread

from ..messages import Message, ModelReply
from ..model import Model, OnText
from .conversation import Exchange, RecordedMessage, RecordedUsage, Recording, write_recording


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

    async def complete(
        self, messages: Sequence[Message], *, stop: Sequence[str] = (), on_text: OnText | None = None
    ) -> ModelReply:
        """The inner model's reply; its errors pass through and are not recorded.

        Raises:
            OSError: the file cannot be written.
        """
        request = tuple(RecordedMessage(role=message.role, content=message.content) for message in messages)
        reply = await self._inner.complete(messages, stop=stop, on_text=on_text)
        usage = reply.usage
        exchange = Exchange(
            messages=request,
            stop=tuple(stop),
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=None if usage is None else RecordedUsage.model_validate(usage, from_attributes=True),
        )
        await anyio.to_thread.run_sync(self._write, exchange)
        return reply

    def _write(self, exchange: Exchange) -> None:
        with self._gate:
            self._exchanges.append(exchange)
            write_recording(self._path, Recording(model=self._inner.name, exchanges=tuple(self._exchanges)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r} to {os.fspath(self._path)!r}>"
