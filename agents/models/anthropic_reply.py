"""Replies in the format of Anthropic's messages API, whole and streamed.

The rule: counts are running totals of the whole request. The last and largest of each kind is the count; none are
added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from ..messages import FinishReason, ModelReply, TokenUsage, ToolCallRequest
from .anthropic_request import ECHO_KEY, tool_use
from .sse import SseEvent
from .wire import MAX_TOOL_CALLS, Malformed, Reported, ToolCallParts, first_problem, read_tool_calls

_STATUS_OF: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_FIELD_OF: Final = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}
_PLAIN: Final = frozenset({"text", "tool_use"})
"""Blocks that a `Message` holds by itself. A reply with any other kind is sent back as it was."""
MAX_BLOCKS: Final = 4 * MAX_TOOL_CALLS
Block = dict[str, object]


class _Usage(BaseModel):
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)


class _Message(BaseModel):
    id: str | None = None
    model: str | None = None
    type: Literal["message"]
    content: list[Block] = Field(max_length=MAX_BLOCKS)
    stop_reason: str | None = None
    usage: _Usage | None = None


class _MessageStart(BaseModel):
    type: Literal["message_start"]
    message: _Message


class _BlockStart(BaseModel):
    type: Literal["content_block_start"]
    index: int = Field(ge=0, lt=MAX_BLOCKS)
    content_block: Block


class _Delta(BaseModel):
    type: str
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""


class _BlockDelta(BaseModel):
    type: Literal["content_block_delta"]
    index: int
    delta: _Delta


class _End(BaseModel):
    stop_reason: str | None = None


class _MessageDelta(BaseModel):
    type: Literal["message_delta"]
    delta: _End
    usage: _Usage | None = None


class _MessageStop(BaseModel):
    type: Literal["message_stop"]


class _Cause(BaseModel):
    type: str = ""


class _Error(BaseModel):
    type: Literal["error"]
    error: _Cause = _Cause()


_Known = Annotated[
    _MessageStart | _BlockStart | _BlockDelta | _MessageDelta | _MessageStop | _Error, Field(discriminator="type")
]
_KNOWN: Final[TypeAdapter[_Known]] = TypeAdapter(_Known)


class _Kind(BaseModel):
    type: str


class _Growing:
    """A block that is being streamed."""

    def __init__(self, start: Block) -> None:
        self.start = start
        self.parts: dict[str, list[str]] = {}

    def add(self, field: str, text: str) -> None:
        self.parts.setdefault(field, []).append(text)

    def block(self) -> Block:
        """As it would have come whole, but for the input of a tool, which stays text."""
        grown = {field: str(self.start.get(field, "")) + "".join(texts) for field, texts in self.parts.items()}
        return self.start | grown


class MessagesReader:
    """Reads one reply (see `ReplyReader`)."""

    def __init__(self) -> None:
        self.chars = 0
        self.is_over = False
        self._blocks: dict[int, _Growing] = {}
        self._usage: _Usage | None = None
        self._stop_reason: str | None = None
        self._id: str | None = None
        self._model: str | None = None

    def read_whole(self, data: bytes) -> ModelReply:
        try:
            message = _Message.model_validate_json(data)
        except ValidationError as exc:
            raise Malformed(f"no message ({first_problem(exc)})", data) from None
        self._begin(message)
        return self._reply()

    def read_event(self, event: SseEvent) -> str:
        if self.is_over:
            return ""
        try:
            if _Kind.model_validate_json(event.data).type not in _KINDS:
                return ""  # pings, and what later versions add
            found = _KNOWN.validate_json(event.data)
        except ValidationError as exc:
            raise Malformed(f"no event of a message ({first_problem(exc)})", event.data) from None
        if isinstance(found, _MessageStart | _BlockStart):
            self.chars += len(event.data)
        if isinstance(found, _Error):
            raise Reported(event.data, _STATUS_OF.get(found.error.type))
        return self._take(found)

    def finish(self) -> ModelReply | None:
        return self._reply() if self.is_over else None

    # --- parts of a reply ---------------------------------------------------------------------------------------------

    def _take(self, event: _MessageStart | _BlockStart | _BlockDelta | _MessageDelta | _MessageStop) -> str:
        if isinstance(event, _MessageStart):
            self._begin(event.message)
        elif isinstance(event, _BlockStart):
            return self._start_block(event.index, event.content_block)
        elif isinstance(event, _BlockDelta):
            return self._grow(event.index, event.delta)
        elif isinstance(event, _MessageDelta):
            self._count(event.usage)
            self._stop_reason = event.delta.stop_reason or self._stop_reason
        else:
            self.is_over = True
        return ""

    def _begin(self, message: _Message) -> None:
        self._id, self._model, self._stop_reason = message.id, message.model, message.stop_reason
        self._count(message.usage)
        for index, block in enumerate(message.content):
            self._start_block(index, block)

    def _start_block(self, index: int, block: Block) -> str:
        self._blocks[index] = _Growing(block)
        text = block.get("text")
        return text if block.get("type") == "text" and isinstance(text, str) else ""

    def _grow(self, index: int, delta: _Delta) -> str:
        block = self._blocks.get(index)
        if block is None:
            raise Malformed(f"a part of block {index}, which was not begun", b"")
        field = _FIELD_OF.get(delta.type)
        if field is None:
            return ""
        text = cast("str", getattr(delta, field))
        self.chars += len(text)
        block.add(field, text)
        return text if field == "text" else ""

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        before = self._usage or _Usage()
        fields = _Usage.model_fields
        most = {name: max(getattr(before, name) or 0, getattr(usage, name) or 0) for name in fields}
        self._usage = _Usage(**most)

    def _reply(self) -> ModelReply:
        blocks = [self._blocks[index].block() for index in sorted(self._blocks)]
        uses = [block for block in blocks if block.get("type") == "tool_use"]
        if len(uses) > MAX_TOOL_CALLS:
            raise Malformed(f"more than {MAX_TOOL_CALLS} tool calls in one reply", b"")
        calls = read_tool_calls([_parts_of(block) for block in uses])
        return ModelReply(
            text="".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text"),
            usage=_usage(self._usage),
            finish_reason=_FINISH.get(self._stop_reason or "end_turn", "other"),
            tool_calls=calls,
            echo=_echo(blocks, calls),
            response_id=self._id,
            response_model=self._model,
        )


_KINDS: Final = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"}
)


def _parts_of(block: Block) -> ToolCallParts:
    """The call in a block: its input came whole as an object, or in parts as text."""
    parts = ToolCallParts(str(block.get("id", "")), str(block.get("name", "")))
    text = block.get("partial_json")
    parts.arguments.append(text if isinstance(text, str) else to_json(block.get("input", {})).decode())
    return parts


def _echo(blocks: Sequence[Block], calls: Sequence[ToolCallRequest]) -> dict[str, object] | None:
    """All blocks, if one is of a kind that a message does not hold."""
    if all(block.get("type") in _PLAIN for block in blocks):
        return None
    uses = iter(calls)
    sent = [tool_use(next(uses)) if block.get("type") == "tool_use" else block for block in blocks]
    return {ECHO_KEY: [block for block in sent if block.get("type") != "text" or str(block.get("text", "")).strip()]}


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return TokenUsage(
        input_tokens=(usage.input_tokens or 0) + cached + written,  # the API leaves both out of its own figure
        output_tokens=usage.output_tokens or 0,
        cached_tokens=cached,
        cache_write_tokens=written,
    )
