"""A request in the format of Anthropic's messages API.

It differs from chat completions: system messages stand apart, results of tools are parts of a user's message, and empty
texts are refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

from ..errors import ModelUnsupported
from ..messages import Image, Message, ModelRequest, ResponseFormat, ToolCallRequest

ECHO_KEY: Final = "anthropic"
CacheFor = Literal["5m", "1h"]
JsonObject = dict[str, object]

_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
_OUTSIDE_IDS: Final = re.compile(r"[^A-Za-z0-9_-]")
_NOTHING: Final = "(nothing)"


def message_fields(request: ModelRequest, *, cache: CacheFor | None) -> JsonObject:
    """The fields of the body that the request decides.

    Args:
        request: what is asked for.
        cache: how long to keep the start of the request; None: not at all. It ends twice: after tools and system
            prompt, which all runs share, and after the last message, where the next step goes on.

    Raises:
        ModelUnsupported: JSON without a schema.
    """
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    messages = _messages([message for message in request.messages if message.role != "system"])
    tools = [_tool(tool.name, tool.description, tool.parameters) for tool in request.tools]
    fields: JsonObject = {"messages": messages}
    if system.strip():
        fields["system"] = system
    if tools:
        fields["tools"] = tools
        if request.tool_choice is not None:
            fields["tool_choice"] = {"type": _CHOICES[request.tool_choice]}
    if request.stop:
        fields["stop_sequences"] = list(request.stop)
    if request.response_format is not None:
        fields["output_config"] = {"format": _format(request.response_format)}
    if cache is not None:
        _mark(fields, messages, tools, cache)
    return fields


def _mark(fields: JsonObject, messages: list[JsonObject], tools: list[JsonObject], cache: CacheFor) -> None:
    mark = {"type": "ephemeral"} if cache == "5m" else {"type": "ephemeral", "ttl": cache}
    if "system" in fields:
        fields["system"] = [{"type": "text", "text": fields["system"], "cache_control": mark}]
    elif tools:
        tools[-1]["cache_control"] = mark
    if messages:
        blocks = cast("list[JsonObject]", messages[-1]["content"])
        if blocks[-1]["type"] in ("text", "image", "tool_result", "tool_use"):
            blocks[-1] = {**blocks[-1], "cache_control": mark}


def _messages(messages: Sequence[Message]) -> list[JsonObject]:
    """With messages of one side that follow each other made one: all results of a turn have to be together."""
    found: list[JsonObject] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if found and found[-1]["role"] == role:
            cast("list[JsonObject]", found[-1]["content"]).extend(blocks)
        else:
            found.append({"role": role, "content": blocks})
    return found


def _blocks(message: Message) -> list[JsonObject]:
    if message.role == "tool":
        return [_tool_result(message)]
    if message.role == "assistant":
        return _said(message)
    return _text(message.content) + [_image(image) for image in message.images] or [_NOTHING_BLOCK]


def _said(message: Message) -> list[JsonObject]:
    """A reply as it came, if it has parts that must be sent back as they were (signed reasoning)."""
    echo = (message.echo or {}).get(ECHO_KEY)
    if isinstance(echo, list) and echo:
        return [dict(cast("Mapping[str, object]", block)) for block in cast("list[object]", echo)]
    return _text(message.content.rstrip()) + [tool_use(call) for call in message.tool_calls] or [_NOTHING_BLOCK]


_NOTHING_BLOCK: Final[JsonObject] = {"type": "text", "text": _NOTHING}


def _text(text: str) -> list[JsonObject]:
    return [{"type": "text", "text": text}] if text.strip() else []


def tool_use(call: ToolCallRequest) -> JsonObject:
    """The block of a call that the model asked for."""
    written = call.invalid_arguments
    value = call.arguments if written is None else {"INVALID_JSON": written}
    return {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": value}


def _tool_result(message: Message) -> JsonObject:
    content: object = message.content
    if message.images:
        content = _text(message.content) + [_image(image) for image in message.images]
    return {"type": "tool_result", "tool_use_id": _id(message.tool_call_id or ""), "content": content}


def _id(call_id: str) -> str:
    """Ids of other endpoints may hold what this one refuses."""
    return _OUTSIDE_IDS.sub("_", call_id)


def _image(image: Image) -> JsonObject:
    data = base64.b64encode(image.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": image.mime, "data": data}}


def _tool(name: str, description: str, parameters: Mapping[str, object]) -> JsonObject:
    return {"name": name, "description": description, "input_schema": {"type": "object", **parameters}}


def _format(wanted: ResponseFormat) -> JsonObject:
    if wanted.schema is None:
        raise ModelUnsupported("AnthropicModel has no JSON without a schema: use ResponseFormat(schema=...)")
    return {"type": "json_schema", "schema": wanted.schema}
