"""`AnthropicModel` against a local server that speaks the messages API."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import messages_wire as wire
from tests.support.chat_server import Answer, ChatServer, chat_server, events, http, stream

from cloche.agents.errors import (
    BadReply,
    ModelDenied,
    ModelError,
    ModelRateLimited,
    ModelRefused,
    ModelUnavailable,
    ModelUnsupported,
)
from cloche.agents.messages import (
    Image,
    Message,
    ModelReply,
    ResponseFormat,
    TokenUsage,
    ToolCallRequest,
    ToolSchema,
)
from cloche.agents.models.anthropic import AnthropicModel
from cloche.agents.models.anthropic_reply import MessagesReader
from cloche.agents.models.prices import Prices
from cloche.agents.models.retry import Retry
from cloche.agents.models.sse import SseReader
from cloche.runtime.errors import ConfigError

KEY = "sk-ant-a-very-secret-key"
SYSTEM, TASK = Message("system", "Be brief."), Message("user", "Hi")
PRICE = ToolSchema("get_price", "Price of an item.", {"properties": {"item": {"type": "string"}}, "required": ["item"]})
PNG = b"\x89PNG\r\n\x1a\nrest"
COUNTED = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=10, cache_write_tokens=6)
AT_ONCE = Retry(attempts=3, backoff_s=0.0)
BOUND_S = 30.0


def ask(
    *answers: Answer,
    messages: Sequence[Message] = (SYSTEM, TASK),
    pieces: list[str] | None = None,
    options: dict[str, object] | None = None,
    **asked: object,
) -> tuple[ModelReply | ModelError, ChatServer]:
    """The outcome of one request, streamed if there are `pieces` to put the text into, and the server."""

    async def main(server: ChatServer) -> ModelReply | ModelError:
        made = {"base_url": server.url, "api_key": KEY, "retry": AT_ONCE, **(options or {})}
        async with AnthropicModel("claude-test", **made) as model:  # type: ignore[arg-type]
            with anyio.fail_after(BOUND_S):
                try:
                    on_text = None if pieces is None else pieces.append
                    return await model.complete(messages, on_text=on_text, **asked)  # type: ignore[arg-type]
                except ModelError as exc:
                    return exc

    with chat_server(*answers) as server:
        return anyio.run(main, server), server


def sent(*messages: Message, **asked: object) -> dict[str, object]:
    """The body of the request."""
    _, server = ask(wire.reply(wire.text("x")), messages=messages, **asked)  # type: ignore[arg-type]
    return server.requests[0].json


def read(*found: Mapping[str, object]) -> ModelReply | None:
    reader = MessagesReader()
    for event in SseReader(1_000_000).feed(events(*found, done=False, names=True)):
        reader.read_event(event)
    return reader.finish()


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_request_carries_model_system_messages_key_and_version() -> None:
    _, server = ask(wire.reply(wire.text("x")), options={"temperature": 0.0, "extra_body": {"top_k": 5}})
    [request] = server.requests
    assert request.line == "POST /v1/messages HTTP/1.1"
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert request.json == {
        "model": "claude-test",
        "max_tokens": 8192,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "temperature": 0.0,
        "top_k": 5,
    }


def test_tools_choice_stop_format_and_limit_are_sent_in_their_own_shape() -> None:
    schema: dict[str, object] = {"type": "object", "properties": {}}
    body = sent(
        TASK,
        tools=[PRICE],
        tool_choice="required",
        stop=["END"],
        response_format=ResponseFormat(schema=schema),
        max_tokens=5,
    )
    parameters = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
    assert body["tools"] == [{"name": "get_price", "description": "Price of an item.", "input_schema": parameters}]
    assert (body["tool_choice"], body["stop_sequences"], body["max_tokens"]) == ({"type": "any"}, ["END"], 5)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}


def test_calls_and_all_their_results_stand_in_one_message_each() -> None:
    calls = (ToolCallRequest("a.1", "get_price", {"item": "tea"}), ToolCallRequest("b", "get_price", {"item": "milk"}))
    body = sent(
        TASK,
        Message("assistant", "Let me see. ", tool_calls=calls),
        Message("tool", "3.5", tool_call_id="a.1"),
        Message("tool", "a picture", tool_call_id="b", images=(Image(PNG),)),
        Message("user", "Go on."),
    )
    picture = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a_1", "name": "get_price", "input": {"item": "tea"}},
                {"type": "tool_use", "id": "b", "name": "get_price", "input": {"item": "milk"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a_1", "content": "3.5"},
                {
                    "type": "tool_result",
                    "tool_use_id": "b",
                    "content": [{"type": "text", "text": "a picture"}, {"type": "image", "source": picture}],
                },
                {"type": "text", "text": "Go on."},
            ],
        },
    ]


def test_empty_texts_which_the_api_refuses_are_not_sent() -> None:
    body = sent(Message("user", " ", images=(Image(PNG),)), Message("assistant", ""), Message("user", ""))
    kinds = [[part["type"] for part in message["content"]] for message in body["messages"]]  # type: ignore[attr-defined]
    assert kinds == [["image"], ["text"], ["text"]]
    assert "(nothing)" in str(body["messages"])


def test_arguments_that_were_no_json_are_sent_back_in_an_object() -> None:
    call = ToolCallRequest("a", "get_price", invalid_arguments='{"item": ')
    body = sent(TASK, Message("assistant", "", tool_calls=(call,)), Message("tool", "no JSON", tool_call_id="a"))
    assert "{'INVALID_JSON': '{\"item\": '}" in str(body["messages"])


def test_the_cache_is_marked_after_the_system_prompt_and_after_the_last_message() -> None:
    _, server = ask(wire.reply(wire.text("x")), options={"cache": "1h"}, tools=[PRICE])
    body, mark = server.requests[0].json, {"type": "ephemeral", "ttl": "1h"}
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": mark}]}]
    assert "cache_control" not in str(body["tools"])


def test_without_a_system_prompt_the_cache_is_marked_after_the_tools() -> None:
    _, server = ask(wire.reply(wire.text("x")), messages=[TASK], options={"cache": "5m"}, tools=[PRICE])
    assert server.requests[0].json["tools"][0]["cache_control"] == {"type": "ephemeral"}  # type: ignore[index]


def test_json_without_a_schema_is_unsupported_and_says_what_to_use() -> None:
    outcome, server = ask(wire.reply(wire.text("x")), response_format=ResponseFormat())
    assert type(outcome) is ModelUnsupported
    assert "ResponseFormat(schema=...)" in str(outcome)
    assert server.requests == []


# --- replies ----------------------------------------------------------------------------------------------------------


def test_a_reply_gives_text_and_all_input_tokens_with_the_cached_ones() -> None:
    outcome, _ = ask(wire.reply(wire.text("Hej "), wire.text("då")))
    assert outcome == ModelReply(text="Hej då", usage=COUNTED)
    assert isinstance(outcome, ModelReply)
    assert (outcome.response_id, outcome.response_model) == ("msg_1", "claude-test")


def test_the_cost_follows_the_four_prices() -> None:
    prices = Prices(input=3, output=15, cached=0.3, cache_write=3.75)
    outcome, _ = ask(wire.reply(wire.text("x")), options={"prices": prices})
    assert isinstance(outcome, ModelReply)
    assert outcome.usage is not None
    assert outcome.usage.cost_usd == pytest.approx((4 * 3 + 10 * 0.3 + 6 * 3.75 + 7 * 15) / 1e6)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "other"),
        ("something_new", "other"),
    ],
)
def test_reasons_are_translated(reason: str, finish: str) -> None:
    outcome, _ = ask(wire.reply(wire.text("x"), stop_reason=reason))
    assert isinstance(outcome, ModelReply)
    assert outcome.finish_reason == finish


def test_a_reply_gives_tool_calls() -> None:
    outcome, _ = ask(wire.reply(wire.text("See."), wire.tool_use("f", {"n": [1, None]}), stop_reason="tool_use"))
    calls = (ToolCallRequest("toolu_1", "f", {"n": [1, None]}),)
    assert outcome == ModelReply(text="See.", usage=COUNTED, finish_reason="tool_calls", tool_calls=calls)


def test_signed_reasoning_goes_back_as_it_came() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s1gn"}
    reply, _ = ask(wire.reply(thinking, wire.tool_use("f", {"n": 1}), stop_reason="tool_use"))
    assert isinstance(reply, ModelReply)
    body = sent(TASK, reply.message, Message("tool", "ok", tool_call_id="toolu_1"))
    assert body["messages"][1] == {"role": "assistant", "content": [thinking, wire.tool_use("f", {"n": 1})]}  # type: ignore[index]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_text_is_given_out_as_it_comes_and_counted_once() -> None:
    pieces: list[str] = []
    outcome, server = ask(wire.streamed("Hej ", "då"), pieces=pieces)
    assert outcome == ModelReply(text="Hej då", usage=COUNTED)
    assert (pieces, server.requests[0].json["stream"]) == (["Hej ", "då"], True)


def test_the_last_count_is_the_count_even_where_it_repeats_the_input() -> None:
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {**wire.USAGE, "output_tokens": 9}}
    zero = {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 9}}
    found = read(wire.start(), *wire.text_block(0, "x"), last, zero, {"type": "message_stop"})
    assert found is not None
    assert found.usage == TokenUsage(input_tokens=20, output_tokens=9, cached_tokens=10, cache_write_tokens=6)


def test_streamed_tool_calls_are_joined_by_block() -> None:
    one, two = wire.tool_block(1, "f", '{"n"', ": 1}"), wire.tool_block(2, "g", call_id="toolu_2")
    mixed = [one[0], two[0], one[1], one[2], two[1], one[3], *two[2:], *one[4:]]
    found = read(wire.start(), *wire.text_block(0, "See."), *mixed, *wire.end("tool_use"))
    calls = (ToolCallRequest("toolu_1", "f", {"n": 1}), ToolCallRequest("toolu_2", "g", {}))
    assert found == ModelReply(text="See.", usage=COUNTED, finish_reason="tool_calls", tool_calls=calls)


def test_streamed_reasoning_is_kept_with_its_signature_and_not_given_out() -> None:
    begun: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": "h"}, {"type": "thinking_delta", "thinking": "m"}]
    thinking = wire.block(0, begun, *deltas, {"type": "signature_delta", "signature": "s1gn"})
    found = read(wire.start(), *thinking, *wire.tool_block(1, "f", '{"n": 1}'), *wire.end("tool_use"))
    assert found is not None
    assert (found.text, found.echo) == (
        "",
        {"anthropic": [{"type": "thinking", "thinking": "hm", "signature": "s1gn"}, wire.tool_use("f", {"n": 1})]},
    )


def test_events_of_later_versions_are_passed_over() -> None:
    odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": "?"}}
    begun, *rest = wire.text_block(0, "x")
    found = read(wire.start(), begun, odd, *rest, {"type": "brand_new", "index": "?"}, *wire.end())
    assert found is not None
    assert found.text == "x"


@settings(max_examples=25)
@given(st.lists(st.integers(1, 50), max_size=60))
def test_a_reply_is_the_same_however_its_bytes_are_cut(cuts: list[int]) -> None:
    said = [wire.start(), *wire.text_block(0, "日", "本"), *wire.tool_block(1, "f", '{"n": ', '"é"}'), *wire.end()]
    left = events(*said, done=False, names=True)
    sse, reader, text = SseReader(100_000), MessagesReader(), ""
    for size in [*cuts, len(left)]:
        for event in sse.feed(left[:size]):
            text += reader.read_event(event)
        left = left[size:]
    found = reader.finish()
    assert found is not None
    assert (found.text, text, found.tool_calls) == ("日本", "日本", (ToolCallRequest("toolu_1", "f", {"n": "é"}),))


def test_a_stream_that_breaks_off_before_any_text_is_asked_for_again() -> None:
    pieces: list[str] = []
    outcome, server = ask(wire.sent([wire.start()], whole=False), wire.streamed("whole"), pieces=pieces)
    assert isinstance(outcome, ModelReply)
    assert (outcome.text, pieces, len(server.requests)) == ("whole", ["whole"], 2)


def test_a_stream_that_ends_without_its_mark_is_broken() -> None:
    pieces: list[str] = []
    outcome, server = ask(wire.sent([wire.start(), *wire.text_block(0, "half")]), pieces=pieces)
    assert type(outcome) is ModelUnavailable
    assert (pieces, len(server.requests)) == (["half"], 1)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", ModelUnavailable),
        ("api_error", ModelUnavailable),
        ("rate_limit_error", ModelRateLimited),
        ("invalid_request_error", ModelRefused),
        ("authentication_error", ModelDenied),
        ("brand_new_error", ModelUnavailable),
    ],
)
def test_an_error_in_a_stream_is_sorted_by_its_kind(kind: str, error: type[ModelError]) -> None:
    reported = {"type": "error", "error": {"type": kind, "message": f"no, {KEY}"}}
    outcome, server = ask(wire.sent([wire.start(), *wire.text_block(0, "x"), reported]), pieces=[])
    assert (type(outcome), str(outcome)) == (error, f"{server.url} reported: no, ***")


@pytest.mark.parametrize(
    "data",
    [
        b"data: []\n\n",
        b'data: {"type": "message_start"}\n\n',
        b'data: {"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "x"}}\n\n',
        b'data: {"type": "content_block_start", "index": 100000, "content_block": {}}\n\n',
        b'data: {"type": "message_delta", "delta": {}, "usage": {"output_tokens": -1}}\n\n',
    ],
)
def test_an_event_that_cannot_be_is_a_bad_reply(data: bytes) -> None:
    outcome, server = ask(stream(data), pieces=[])
    assert (type(outcome), len(server.requests)) == (BadReply, 1)


def test_a_streamed_reply_that_grows_too_long_is_cut_off() -> None:
    said = [wire.start(), *wire.tool_block(0, "f", *["x" * 500] * 50)]
    outcome, _ = ask(wire.sent(said), pieces=[], options={"max_reply_bytes": 10_000})
    assert (type(outcome), str(outcome)) == (BadReply, "the answer is longer than 10000 bytes")


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "error", "requests"),
    [
        (400, "invalid_request_error", ModelRefused, 1),
        (401, "authentication_error", ModelDenied, 1),
        (404, "not_found_error", ModelRefused, 1),
        (500, "api_error", ModelUnavailable, 3),
        (529, "overloaded_error", ModelUnavailable, 3),
    ],
)
def test_an_error_is_sorted_by_its_status(status: int, kind: str, error: type[ModelError], requests: int) -> None:
    outcome, server = ask(wire.failed(status, kind, f"no, {KEY}"))
    assert (type(outcome), len(server.requests)) == (error, requests)
    assert str(outcome) == f"{server.url} answered {status}: no, ***"


def test_a_rate_limit_is_waited_for() -> None:
    outcome, server = ask(
        wire.failed(429, "rate_limit_error", "slow", {"retry-after": "0"}), wire.reply(wire.text("x"))
    )
    assert isinstance(outcome, ModelReply)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"type": "message"}', b'{"type": "message", "content": "x"}']
)
def test_an_answer_that_is_no_message_is_a_bad_reply(body: bytes) -> None:
    outcome, server = ask(http(200, body))
    assert (type(outcome), len(server.requests)) == (BadReply, 1)


def test_the_key_of_the_environment_goes_to_anthropic_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    _, server = ask(wire.reply(wire.text("x")), options={"api_key": None})
    assert "x-api-key" not in server.requests[0].headers
    assert KEY not in repr(AnthropicModel("m"))


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"cache": "2d"}, {"base_url": "ftp://x"}, {"timeout_s": 0}])
def test_an_option_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AnthropicModel("m", **options)  # type: ignore[arg-type]
