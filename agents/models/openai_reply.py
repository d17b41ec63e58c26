"""Replies in the format of OpenAI's chat completions, whole and streamed, and what endpoints make of it.

The rule: usage is what the endpoint said last. Some send it once at the end, some a running total in each chunk; it is
never added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json, to_json

from ..messages import FinishReason, ModelReply, TokenUsage
from .openai_request import ECHO_KEY
from .sse import SseEvent
from .wire import MAX_TOOL_CALLS, Malformed, Reported, ToolCallParts, first_problem, read_tool_calls

_STATUS_OF: Final = {
    "rate_limit": 429,
    "quota": 429,
    "authentication": 401,
    "invalid_api_key": 401,
    "permission": 403,
    "invalid_request": 400,
    "bad_request": 400,
    "badrequest": 400,
    "context_length": 400,
    "not_found": 404,
}
"""Words in the kind of an error that is reported in a stream, and the status that it would have had before it."""


class _PromptDetails(BaseModel):
    cached_tokens: int | None = Field(default=None, ge=0)
    cache_write_tokens: int | None = Field(default=None, ge=0)


class _CompletionDetails(BaseModel):
    reasoning_tokens: int | None = Field(default=None, ge=0)


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = Field(default=None, ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)


class _Part(BaseModel):
    text: str = ""


class _Function(BaseModel):
    name: str | None = None
    arguments: str | dict[str, object] | None = None


class _Call(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()
    extra_content: dict[str, object] | None = None


class _Words(BaseModel):
    """A message, or the part of one that a chunk adds."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = Field(default=None, max_length=MAX_TOOL_CALLS)
    reasoning_content: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or self.refusal or ""


class _Choice(BaseModel):
    message: _Words
    finish_reason: str | None = None


class _Delta(BaseModel):
    index: int = 0
    delta: _Words | None = None
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The part of a chat completion that we read; endpoints add much else."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Chunk(BaseModel):
    id: str | None = None
    model: str | None = None
    choices: list[_Delta] | None = None
    usage: _Usage | None = None
    error: object = None


class ChatReader:
    """Reads one reply (see `ReplyReader`)."""

    def __init__(self) -> None:
        self.chars = 0
        self.is_over = False
        self._text: list[str] = []
        self._calls: list[ToolCallParts] = []
        self._places: dict[int, ToolCallParts] = {}
        """The call that an index stands for now."""
        self._reasoning: list[str] = []
        self._extras: dict[int, dict[str, object]] = {}
        """By position of the call."""
        self._usage: _Usage | None = None
        self._finish_reason: str | None = None
        self._id: str | None = None
        self._model: str | None = None

    def read_whole(self, data: bytes) -> ModelReply:
        try:
            completion = _Completion.model_validate_json(data)
        except ValidationError as exc:
            raise Malformed(f"no chat completion ({first_problem(exc)})", data) from None
        return self._take_whole(completion)

    def read_object(self, value: object) -> ModelReply:
        """The same of plain data."""
        try:
            return self._take_whole(_Completion.model_validate(value))
        except ValidationError as exc:
            raise Malformed(f"no chat completion ({first_problem(exc)})", b"") from None

    def read_event(self, event: SseEvent) -> str:
        if self.is_over:
            return ""
        if event.data.strip() == b"[DONE]":
            self.is_over = True
            return ""
        try:
            chunk = _Chunk.model_validate_json(event.data)
        except ValidationError as exc:
            raise Malformed(f"no chunk of a chat completion ({first_problem(exc)})", event.data) from None
        if event.name == b"error" or chunk.error:
            raise Reported(event.data, _status_of(event.data))
        return self._take(chunk)

    def read_chunk(self, value: object) -> str:
        """The same of plain data."""
        try:
            return self._take(_Chunk.model_validate(value))
        except ValidationError as exc:
            raise Malformed(f"no chunk of a chat completion ({first_problem(exc)})", b"") from None

    def finish(self) -> ModelReply | None:
        if not self.is_over and self._finish_reason is None:
            return None
        calls = read_tool_calls(self._calls)
        echo: dict[str, object] = {}
        if calls and self._reasoning:
            echo["reasoning_content"] = "".join(self._reasoning)
        if self._extras:
            echo["extra_content"] = {calls[place].id: extra for place, extra in self._extras.items()}
        return ModelReply(
            text="".join(self._text),
            usage=_usage(self._usage),
            finish_reason=_finish(self._finish_reason, has_calls=bool(calls)),
            tool_calls=calls,
            echo={ECHO_KEY: echo} if echo else None,
            response_id=self._id,
            response_model=self._model,
        )

    # --- parts of a reply ---------------------------------------------------------------------------------------------

    def _take_whole(self, completion: _Completion) -> ModelReply:
        choice = completion.choices[0]
        for place, call in enumerate(choice.message.tool_calls or ()):
            self._add_call(call.model_copy(update={"index": place}))
        self._add_words(choice.message)
        self._finish_reason = choice.finish_reason
        self._usage, self._id, self._model = completion.usage, completion.id, completion.model
        self.is_over = True
        reply = self.finish()
        assert reply is not None  # noqa: S101  # it is over
        return reply

    def _take(self, chunk: _Chunk) -> str:
        self._id, self._model = chunk.id or self._id, chunk.model or self._model
        self._usage = chunk.usage or self._usage
        text = ""
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            if choice.delta is not None:
                text += self._add_words(choice.delta)
                for call in choice.delta.tool_calls or ():
                    self._add_call(call)
            self._finish_reason = choice.finish_reason or self._finish_reason
        return text

    def _add_words(self, words: _Words) -> str:
        text = words.text
        self._keep(self._text, text)
        self._keep(self._reasoning, words.reasoning_content or "")
        return text

    def _keep(self, kept: list[str], text: str) -> None:
        if text:
            self.chars += len(text)
            kept.append(text)

    def _add_call(self, call: _Call) -> None:
        parts = self._find(call)
        name = call.function.name or ""
        if name and parts.name != name:  # some repeat it with each part
            parts.name += name
        self.chars += len(name)
        arguments = call.function.arguments
        text = arguments if isinstance(arguments, str) else "" if arguments is None else to_json(arguments).decode()
        self._keep(parts.arguments, text)
        if call.extra_content is not None:
            self._extras[self._calls.index(parts)] = call.extra_content

    def _find(self, call: _Call) -> ToolCallParts:
        """The call that a part belongs to. The index says it, except where an endpoint gives none, or the same one to
        calls with names and ids of their own."""
        place = call.index if call.index is not None else max(self._places, default=0)
        known = self._places.get(place)
        is_other = bool(known and call.id and call.function.name and known.id and known.id != call.id)
        if known is not None and not is_other:
            known.id = known.id or call.id or ""
            return known
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise Malformed(f"more than {MAX_TOOL_CALLS} tool calls in one reply", b"")
        made = ToolCallParts(call.id or "")
        self._calls.append(made)
        self._places[place] = made
        return made


def _status_of(data: bytes) -> int | None:
    """The HTTP status that fits an error in a stream."""
    found: object = from_json(data)
    if not isinstance(found, Mapping):
        return None
    whole = cast("Mapping[str, object]", found)
    error = whole.get("error", whole)
    if not isinstance(error, Mapping):
        return None
    kinds = [cast("Mapping[str, object]", error).get(name) for name in ("code", "status", "type")]
    for kind in kinds:
        if isinstance(kind, int) and 400 <= kind < 600:
            return kind
    text = " ".join(kind.lower() for kind in kinds if isinstance(kind, str))
    return next((status for word, status in _STATUS_OF.items() if word in text), None)


def _finish(reason: str | None, *, has_calls: bool) -> FinishReason:
    if reason == "length":
        return "length"
    if has_calls:  # some endpoints say "stop" all the same
        return "tool_calls"
    return "stop" if reason in ("stop", None) else "other"


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return TokenUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens or 0,
        cached_tokens=(prompt.cached_tokens if prompt else None) or usage.prompt_cache_hit_tokens or 0,
        cache_write_tokens=(prompt.cache_write_tokens if prompt else None) or usage.cache_creation_input_tokens or 0,
        reasoning_tokens=(completion.reasoning_tokens if completion else None) or 0,
    )
