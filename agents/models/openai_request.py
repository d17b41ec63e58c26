"""A request in the format of OpenAI's chat completions, which most endpoints speak."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import cast

from ..messages import Image, Message, ModelRequest, ResponseFormat, ToolCallRequest, ToolSchema

ECHO_KEY = "openai"
JsonObject = dict[str, object]


def chat_fields(request: ModelRequest) -> JsonObject:
    """The fields of the body that the request decides. The limit of tokens is not among them: its name differs."""
    fields: JsonObject = {"messages": chat_messages(request.messages)}
    if request.stop:
        fields["stop"] = list(request.stop)
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            fields["tool_choice"] = request.tool_choice
    if request.response_format is not None:
        fields["response_format"] = _format(request.response_format)
    return fields


def chat_messages(messages: Sequence[Message]) -> list[JsonObject]:
    """The conversation. Images of tools follow in a message of the user: the format has no other place for them."""
    found: list[JsonObject] = []
    waiting: list[tuple[str, Image]] = []
    for message in messages:
        if message.role != "tool" and waiting:
            found.append(_images_of_tools(waiting))
            waiting = []
        found.append(_message(message))
        if message.role == "tool":
            waiting += [(message.tool_call_id or "", image) for image in message.images]
    return [*found, _images_of_tools(waiting)] if waiting else found


def _message(message: Message) -> JsonObject:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.role == "assistant":
        return _assistant(message)
    if not message.images:
        return {"role": message.role, "content": message.content}
    text = [{"type": "text", "text": message.content}] if message.content else []
    return {"role": message.role, "content": [*text, *map(_image, message.images)]}


def _assistant(message: Message) -> JsonObject:
    if not message.tool_calls:
        return {"role": "assistant", "content": message.content}
    own = (message.echo or {}).get(ECHO_KEY)
    echo: Mapping[str, object] = cast("Mapping[str, object]", own) if isinstance(own, Mapping) else {}
    extra = echo.get("extra_content")
    extras: Mapping[str, object] = cast("Mapping[str, object]", extra) if isinstance(extra, Mapping) else {}
    reasoning = {"reasoning_content": echo["reasoning_content"]} if "reasoning_content" in echo else {}
    calls = [
        _call(call) | ({"extra_content": extras[call.id]} if call.id in extras else {}) for call in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content or None, **reasoning, "tool_calls": calls}


def _call(call: ToolCallRequest) -> JsonObject:
    written = call.invalid_arguments
    arguments = json.dumps(call.arguments, ensure_ascii=False) if written is None else written
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _images_of_tools(images: Sequence[tuple[str, Image]]) -> JsonObject:
    parts: list[JsonObject] = []
    for call_id, image in images:
        parts.append({"type": "text", "text": f"Image from the tool call {call_id}:"})
        parts.append(_image(image))
    return {"role": "user", "content": parts}


def _image(image: Image) -> JsonObject:
    data = base64.b64encode(image.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{image.mime};base64,{data}"}}


def _tool(tool: ToolSchema) -> JsonObject:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _format(wanted: ResponseFormat) -> JsonObject:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name, "schema": wanted.schema, "strict": wanted.strict},
    }
