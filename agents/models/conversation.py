"""The file format of recorded conversations: versioned JSON, written by `RecordingModel`, read by `ReplayModel`.

It holds what was said and nothing else: no keys, no addresses, no times. Version 2 added tools, images and what else
version 1 had no place for; a conversation without any of it is still written as version 1.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Final, Literal, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from ...runtime.errors import ConfigError
from ..messages import (
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    ResponseFormat,
    TokenUsage,
    ToolCallRequest,
    ToolChoice,
    ToolSchema,
)

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
JsonObject = dict[str, object]

_ADDED: Final[dict[str, JsonObject]] = {
    "exchange": {
        "tools": [],
        "tool_choice": None,
        "response_format": None,
        "max_tokens": None,
        "tool_calls": [],
        "echo": None,
        "pieces": [],
    },
    "message": {"images": [], "tool_calls": [], "tool_call_id": None, "echo": None},
    "usage": {"cache_write_tokens": 0, "cost_usd": None},
}
"""The fields of version 2 with the values that say nothing; these are not written."""


class _Strict(BaseModel):
    # pydantic applies this to the plain dataclasses of messages.py inside as well
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


class Exchange(_Strict):
    """One request and its reply."""

    messages: tuple[Message, ...]
    stop: tuple[str, ...]
    tools: tuple[ToolSchema, ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    text: str
    finish_reason: FinishReason
    usage: TokenUsage | None
    tool_calls: tuple[ToolCallRequest, ...] = ()
    echo: JsonObject | None = None
    pieces: tuple[int, ...] = ()
    """Lengths in characters of the pieces in which the text was streamed; empty: it was not."""

    @property
    def request(self) -> ModelRequest:
        return ModelRequest(
            messages=self.messages,
            stop=self.stop,
            tools=self.tools,
            tool_choice=self.tool_choice,
            response_format=self.response_format,
            max_tokens=self.max_tokens,
        )

    @property
    def reply(self) -> ModelReply:
        return ModelReply(
            text=self.text,
            usage=self.usage,
            finish_reason=self.finish_reason,
            tool_calls=self.tool_calls,
            echo=self.echo,
        )

    def text_in_pieces(self) -> list[str]:
        """The text as it was streamed; in one piece where that is not known."""
        if sum(self.pieces) != len(self.text) or min(self.pieces, default=0) < 1:
            return [self.text]
        found: list[str] = []
        start = 0
        for length in self.pieces:
            found.append(self.text[start : start + length])
            start += length
        return found


class Recording(_Strict):
    """A whole file."""

    format: Literal["cloche-conversation"] = "cloche-conversation"
    version: Literal[1, 2] = 1
    """Set anew when it is written."""
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
    """Replace the file as a whole, so that a reader never sees half of it.

    Raises:
        ConfigError: it is too long to be read again.
        OSError: the file cannot be written.
    """
    file = Path(path)
    text = json.dumps(_as_written(recording), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode()
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: the recording grew beyond {MAX_FILE_BYTES} bytes; start another file")
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _as_written(recording: Recording) -> JsonObject:
    """The recording as JSON data, in the lowest version that can hold it."""
    whole = cast("JsonObject", recording.model_dump(mode="json"))
    found = [_leave_out_empty(exchange) for exchange in cast("list[JsonObject]", whole["exchanges"])]
    whole["version"] = 2 if any(found) or _has_calls_of_tools(recording) else 1
    return whole


def _leave_out_empty(exchange: JsonObject) -> bool:
    """Take out what says nothing; whether anything is left that version 1 does not know."""
    parts = [("exchange", exchange)]
    parts += [("message", message) for message in cast("list[JsonObject]", exchange["messages"])]
    if exchange["usage"] is not None:
        parts.append(("usage", cast("JsonObject", exchange["usage"])))
    is_new = False
    for kind, part in parts:
        for name, empty in _ADDED[kind].items():
            if part[name] == empty:
                del part[name]
            else:
                is_new = True
    return is_new


def _has_calls_of_tools(recording: Recording) -> bool:
    """Words that version 1 did not have for roles and reasons."""
    return any(
        exchange.finish_reason == "tool_calls" or any(message.role == "tool" for message in exchange.messages)
        for exchange in recording.exchanges
    )
