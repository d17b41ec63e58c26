"""The file format of recorded conversations: versioned JSON, written by `RecordingModel`, read by `ReplayModel`.

It holds what was said and nothing else: no keys, no addresses, no times.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ...runtime.errors import ConfigError
from ..messages import FinishReason, Message, ModelReply, Role, TokenUsage

MAX_FILE_BYTES: Final = 64 * 1024 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RecordedMessage(_Strict):
    role: Role
    content: str


class RecordedUsage(_Strict):
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class Exchange(_Strict):
    """One request and its reply."""

    messages: tuple[RecordedMessage, ...]
    stop: tuple[str, ...]
    text: str
    finish_reason: FinishReason
    usage: RecordedUsage | None

    @property
    def request(self) -> tuple[Message, ...]:
        return tuple(Message(message.role, message.content) for message in self.messages)

    @property
    def reply(self) -> ModelReply:
        usage = TokenUsage(**self.usage.model_dump()) if self.usage is not None else None
        return ModelReply(text=self.text, usage=usage, finish_reason=self.finish_reason)


class Recording(_Strict):
    """A whole file."""

    format: Literal["cloche-conversation"] = "cloche-conversation"
    version: Literal[1] = 1
    model: str
    """Name of the model that spoke."""
    exchanges: tuple[Exchange, ...]


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """The recording in a file.

    Raises:
        ConfigError: there is none, or not one of ours.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file}: longer than {MAX_FILE_BYTES} bytes")
        return Recording.model_validate_json(file.read_bytes(), strict=True)
    except OSError as exc:
        raise ConfigError(f"no recording: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConfigError(f"{file}: no recording: {first['msg']} at {'.'.join(map(str, first['loc']))!r}") from None


def write_recording(path: str | os.PathLike[str], recording: Recording) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    file = Path(path)
    text = recording.model_dump_json(indent=1) + "\n"
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
