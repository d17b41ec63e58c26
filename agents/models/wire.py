"""What the wire formats share: the shape of a reader of replies, and how a model's own words are taken apart.

The rule: a reader knows nothing of HTTP, keys or addresses. It raises `Malformed` or `Reported`, and the endpoint makes
an error of that which shows no secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, Protocol, cast

from pydantic import ValidationError
from pydantic_core import from_json

from ..messages import ModelReply, ToolCallRequest
from .sse import SseEvent

MAX_TOOL_CALLS: Final = 128
"""In one reply. What OpenAI allows as tools of one request; no sane reply comes near."""


class Malformed(Exception):
    """Bytes that are no reply; the text says why."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


class Reported(Exception):
    """An error that the endpoint reported inside of an answer of status 200."""

    def __init__(self, data: bytes, status: int | None) -> None:
        super().__init__("reported by the endpoint")
        self.data = data
        self.status = status
        """The HTTP status that fits; None: the endpoint gave no kind that we know."""


class ReplyReader(Protocol):
    """Reads one reply, either whole or as events."""

    chars: int
    """Characters kept so far, of text and of arguments."""

    def read_whole(self, data: bytes) -> ModelReply:
        """The reply in a body that came as a whole.

        Raises:
            Malformed, Reported
        """
        ...

    def read_event(self, event: SseEvent) -> str:
        """Take in one event; the text that it adds.

        Raises:
            Malformed, Reported
        """
        ...

    @property
    def is_over(self) -> bool:
        """Whether the stream has said that nothing more comes."""
        ...

    def finish(self) -> ModelReply | None:
        """The reply after the last event; None: the stream broke off."""
        ...


class ToolCallParts:
    """The parts of one tool call, as they come."""

    def __init__(self, call_id: str = "", name: str = "") -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []


def read_tool_calls(parts: Sequence[ToolCallParts]) -> tuple[ToolCallRequest, ...]:
    """The calls, with ids that differ from each other: some endpoints leave them out or give one twice."""
    found: list[ToolCallRequest] = []
    taken: set[str] = set()
    for part in parts:
        call_id = part.id if part.id and part.id not in taken else f"call_{secrets.token_hex(8)}"
        taken.add(call_id)
        found.append(read_tool_call(call_id, part.name, "".join(part.arguments)))
    return tuple(found)


def read_tool_call(call_id: str, name: str, arguments: str) -> ToolCallRequest:
    """A call whose arguments are what the model wrote: JSON, if all is well. No text at all is no arguments."""
    if not arguments.strip():
        return ToolCallRequest(call_id, name)
    try:
        value: object = from_json(arguments, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return ToolCallRequest(call_id, name, invalid_arguments=arguments)
    return ToolCallRequest(call_id, name, cast("dict[str, object]", value))


def first_problem(error: ValidationError) -> str:
    """What is wrong and where, without the input."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{first['msg']} at {'.'.join(map(str, first['loc']))!r}"
