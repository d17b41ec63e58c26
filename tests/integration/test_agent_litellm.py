"""`LiteLLMModel` over the real LiteLLM, where the extra is installed, against a local endpoint."""

from __future__ import annotations

import importlib.metadata

import anyio
import pytest
from tests.support.chat_server import (
    Answer,
    ChatServer,
    call,
    call_part,
    chat_server,
    chunk,
    completion,
    error,
    events,
    http,
    reply,
    stream,
    streamed,
    usage_chunk,
)

from cloche import LiteLLMModel, Message, ModelError, ModelReply, TokenUsage
from cloche.agents.errors import ModelDenied, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.messages import ResponseFormat, ToolCallRequest, ToolSchema
from cloche.agents.models.retry import Retry

KEY = "sk-a-very-secret-key"
TASK = Message("user", "Hi")
COUNTED = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16, reasoning_tokens=3)
BOUND_S = 60.0


def missing() -> bool:
    try:
        importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


pytestmark = [
    pytest.mark.skipif(missing(), reason="the extra `litellm` is not installed"),
    pytest.mark.filterwarnings("ignore"),  # it warns about much that is not ours
]


def ask(*answers: Answer) -> tuple[ModelReply | ModelError, int]:
    """The outcome, and how many requests it took."""

    async def main(url: str) -> ModelReply | ModelError:
        model = LiteLLMModel("openai/test", api_base=url, api_key=KEY, retry=Retry(attempts=2, backoff_s=0.0))
        try:
            return await model.complete([Message("user", "Hi")])
        except ModelError as exc:
            return exc

    with chat_server(*answers) as server:
        return anyio.run(main, server.url), len(server.requests)


def test_a_reply_gives_text_and_tokens() -> None:
    assert ask(reply("Hej")) == (ModelReply(text="Hej", usage=COUNTED), 1)


@pytest.mark.parametrize(
    ("answer", "kind", "requests"),
    [
        (error(400, f"bad {KEY}"), ModelRefused, 1),
        (error(401, f"wrong {KEY}"), ModelDenied, 1),
        (error(429, f"slow {KEY}", {"Retry-After": "999"}), ModelRateLimited, 1),
        (error(500, f"down {KEY}"), ModelUnavailable, 2),
    ],
)
def test_an_error_is_sorted_and_shows_no_key(answer: bytes, kind: type[ModelError], requests: int) -> None:
    outcome, count = ask(answer)
    assert (type(outcome), count) == (kind, requests)
    assert KEY not in str(outcome)


def test_a_rate_limit_says_how_long() -> None:
    outcome, _ = ask(error(429, "slow", {"Retry-After": "999"}))
    assert isinstance(outcome, ModelRateLimited)
    assert outcome.retry_after_s == 999.0


# --- tools and streams ------------------------------------------------------------------------------------------------

ADD = ToolSchema("add", "Adds.", {"type": "object", "properties": {"n": {"type": "integer"}}})


def complete(server: ChatServer, *messages: Message, **asked: object) -> ModelReply:
    async def main() -> ModelReply:
        model = LiteLLMModel("openai/test", api_base=server.url, api_key=KEY, retry=Retry(attempts=1))
        with anyio.fail_after(BOUND_S):
            return await model.complete(messages or [TASK], **asked)  # type: ignore[arg-type]

    return anyio.run(main)


def test_tools_go_out_and_calls_come_back() -> None:
    body = completion(None, tool_calls=[call("add", '{"n": 1}')], finish_reason="tool_calls")
    with chat_server(http(200, body), reply("done")) as server:
        first = complete(server, tools=[ADD], tool_choice="required")
        complete(server, TASK, first.message, Message("tool", "2", tool_call_id="call_1"), tools=[ADD])
    assert first.tool_calls == (ToolCallRequest("call_1", "add", {"n": 1}),)
    assert first.finish_reason == "tool_calls"
    sent = server.requests[0].json
    function = {"name": "add", "description": "Adds.", "parameters": ADD.parameters}
    assert (sent["tools"], sent["tool_choice"]) == ([{"type": "function", "function": function}], "required")
    assert [message["role"] for message in server.requests[1].json["messages"]] == ["user", "assistant", "tool"]  # type: ignore[attr-defined]


def test_a_response_format_goes_out() -> None:
    with chat_server(reply("{}")) as server:
        complete(server, response_format=ResponseFormat(schema={"type": "object"}, name="n"))
    wanted = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert server.requests[0].json["response_format"] == {"type": "json_schema", "json_schema": wanted}


def test_a_stream_gives_its_pieces_and_counts_once() -> None:
    pieces: list[str] = []
    with chat_server(streamed("Hej ", "då")) as server:
        found = complete(server, on_text=pieces.append)
    assert (found, pieces) == (ModelReply(text="Hej då", usage=COUNTED), ["Hej ", "då"])
    assert server.requests[0].json["stream_options"] == {"include_usage": True}


def test_streamed_tool_calls_are_joined_by_index() -> None:
    parts = [
        [call_part(0, "", name="add", call_id="a"), call_part(1, "", name="add", call_id="b")],
        [call_part(1, '{"n"')],
        [call_part(0, '{"n": 1}')],
        [call_part(1, ": 2}")],
    ]
    said = [*(chunk(tool_calls=part) for part in parts), chunk(finish_reason="tool_calls"), usage_chunk()]
    with chat_server(stream(events(*said))) as server:
        found = complete(server, tools=[ADD], on_text=str)
    assert found.tool_calls == (ToolCallRequest("a", "add", {"n": 1}), ToolCallRequest("b", "add", {"n": 2}))
    assert (found.usage, found.finish_reason) == (COUNTED, "tool_calls")


def test_a_stream_that_breaks_off_is_unavailable() -> None:
    cut = stream(events(chunk("half"), done=False), whole=False)
    with chat_server(cut) as server, pytest.raises(ModelUnavailable):
        complete(server, on_text=str)
