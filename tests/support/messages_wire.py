"""The shapes of Anthropic's messages API, whole and streamed, for `chat_server`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.chat_server import events, http, stream

USAGE: dict[str, object] = {
    "input_tokens": 4,
    "cache_creation_input_tokens": 6,
    "cache_read_input_tokens": 10,
    "output_tokens": 7,
    "service_tier": "standard",
}


def text(said: str) -> dict[str, object]:
    return {"type": "text", "text": said}


def tool_use(name: str, arguments: Mapping[str, object], call_id: str = "toolu_1") -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def message(
    *blocks: Mapping[str, object], stop_reason: str | None = "end_turn", usage: object = USAGE
) -> dict[str, object]:
    """The body of a reply."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def reply(*blocks: Mapping[str, object], stop_reason: str = "end_turn", close: bool = True) -> bytes:
    return http(200, message(*blocks, stop_reason=stop_reason), close=close)


def start() -> dict[str, object]:
    """The first event; its count of output is what was made so far."""
    return {"type": "message_start", "message": message(stop_reason=None, usage={**USAGE, "output_tokens": 1})}


def block(index: int, begun: Mapping[str, object], *deltas: Mapping[str, object]) -> list[dict[str, object]]:
    """The events of one block."""
    parts: list[dict[str, object]] = [
        {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
    ]
    begin: dict[str, object] = {"type": "content_block_start", "index": index, "content_block": begun}
    return [begin, *parts, {"type": "content_block_stop", "index": index}]


def text_block(index: int, *pieces: str) -> list[dict[str, object]]:
    return block(index, text(""), *({"type": "text_delta", "text": piece} for piece in pieces))


def tool_block(index: int, name: str, *pieces: str, call_id: str = "toolu_1") -> list[dict[str, object]]:
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces))
    return block(index, tool_use(name, {}, call_id), *deltas)


def end(stop_reason: str = "end_turn", output_tokens: int = 7) -> list[dict[str, object]]:
    """The last events. The count is a running total."""
    said = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": said, "usage": {"output_tokens": output_tokens}},
        {"type": "message_stop"},
    ]


def sent(found: Sequence[Mapping[str, object]], *, whole: bool = True, close: bool = True) -> bytes:
    """An answer of these events, with the pings that the API puts between them."""
    pings = [{"type": "ping"}] if found else []
    first, *rest = found or [{"type": "ping"}]
    return stream(events(first, *pings, *rest, done=False, names=True), whole=whole, close=close)


def streamed(*pieces: str, close: bool = True) -> bytes:
    return sent([start(), *text_block(0, *pieces), *end()], close=close)


def failed(status: int, kind: str, said: str, headers: dict[str, str] | None = None) -> bytes:
    return http(status, {"type": "error", "error": {"type": kind, "message": said}}, headers=headers)
