"""One call of `Model.complete` as a value that is known to make sense: what the wire formats and recordings work on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ...runtime.errors import ConfigError
from ..messages import Message, ModelRequest, ResponseFormat, ToolChoice, ToolSchema

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def make_request(
    messages: Sequence[Message],
    *,
    stop: Sequence[str] = (),
    tools: Sequence[ToolSchema] = (),
    tool_choice: ToolChoice | None = None,
    response_format: ResponseFormat | None = None,
    max_tokens: int | None = None,
) -> ModelRequest:
    """The request.

    Raises:
        ConfigError: it contradicts itself; no endpoint would take it.
    """
    _check_tools(tools, tool_choice)
    for message in messages:
        _check_message(message)
    if response_format is not None and not _NAME.fullmatch(response_format.name):
        raise ConfigError(
            f"a response format is named with letters, digits, _ and -, not {response_format.name!r:.100}"
        )
    if max_tokens is not None and max_tokens < 1:
        raise ConfigError(f"max_tokens is above 0, not {max_tokens}")
    return ModelRequest(
        messages=tuple(messages),
        stop=tuple(stop),
        tools=tuple(tools),
        tool_choice=tool_choice,
        response_format=response_format,
        max_tokens=max_tokens,
    )


def _check_tools(tools: Sequence[ToolSchema], tool_choice: ToolChoice | None) -> None:
    names = [tool.name for tool in tools]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a tool is named with at most 64 letters, digits, _ and -, not {name!r:.100}")
    if len(set(names)) != len(names):
        raise ConfigError(f"two tools have one name: {', '.join(sorted(names))}")
    if tool_choice == "required" and not tools:
        raise ConfigError("tool_choice='required' needs tools")


def _check_message(message: Message) -> None:
    if (message.role == "tool") != (message.tool_call_id is not None):
        raise ConfigError("tool_call_id belongs to each message of role 'tool' and to no other")
    if message.tool_calls and message.role != "assistant":
        raise ConfigError(f"tool_calls belong to a message of role 'assistant', not {message.role!r}")
    if message.images and message.role not in ("user", "tool"):
        raise ConfigError(f"images belong to messages of role 'user' or 'tool', not {message.role!r}")
