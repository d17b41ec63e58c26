"""Tools, images, formats, limits, costs and pace of `OpenAIModel`, and the classes that only address it elsewhere."""

from __future__ import annotations

import base64
import logging
import time
import traceback
from collections.abc import Sequence

import anyio
import pytest
from tests.support.chat_server import Answer, ChatServer, call, chat_server, completion, error, http, reply, streamed

from cloche.agents.errors import BadReply, ModelDenied, ModelError, ModelUnavailable
from cloche.agents.messages import (
    Image,
    Message,
    ModelReply,
    ResponseFormat,
    TokenUsage,
    ToolCallRequest,
    ToolSchema,
)
from cloche.agents.models.azure import AzureOpenAIModel
from cloche.agents.models.fallback import FallbackModel
from cloche.agents.models.inference_client import InferenceClientModel
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.models.prices import Prices
from cloche.agents.models.recording import RecordingModel
from cloche.agents.models.retry import Retry
from cloche.agents.models.scripted import ScriptedModel
from cloche.runtime.errors import ConfigError

KEY = "sk-a-very-secret-key"
TASK = Message("user", "Hi")
PNG = b"\x89PNG\r\n\x1a\nrest"
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
ADD = ToolSchema("add", "Adds.", {"type": "object", "properties": {"n": {"type": "integer"}}})
AT_ONCE = Retry(attempts=2, backoff_s=0.0)
BOUND_S = 30.0


def ask(model: OpenAIModel | FallbackModel, *messages: Message, **asked: object) -> ModelReply:
    async def main() -> ModelReply:
        with anyio.fail_after(BOUND_S):
            return await model.complete(messages or [TASK], **asked)  # type: ignore[arg-type]

    return anyio.run(main)


def asked_of(answer: Answer, *messages: Message, **asked: object) -> tuple[ModelReply, dict[str, object]]:
    """The reply, and the body of the request."""
    with chat_server(answer) as server:
        found = ask(OpenAIModel("m", base_url=server.url, api_key=KEY), *messages, **asked)
    return found, server.requests[0].json


def sent(*messages: Message, **asked: object) -> dict[str, object]:
    return asked_of(reply("x"), *messages, **asked)[1]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_tools_and_choice_are_sent() -> None:
    body = sent(tools=[ADD], tool_choice="required")
    function = {"name": "add", "description": "Adds.", "parameters": ADD.parameters}
    assert (body["tools"], body["tool_choice"]) == ([{"type": "function", "function": function}], "required")


def test_without_tools_no_choice_is_sent_because_endpoints_refuse_it() -> None:
    assert "tool_choice" not in sent(tool_choice="none")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ResponseFormat(), {"type": "json_object"}),
        (
            ResponseFormat(schema={"type": "object"}, name="n", strict=False),
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": False}},
        ),
    ],
)
def test_a_response_format_is_sent(wanted: ResponseFormat, found: dict[str, object]) -> None:
    assert sent(response_format=wanted)["response_format"] == found


def test_a_limit_of_one_request_wins_over_the_model_and_the_extra_body_over_both() -> None:
    with chat_server(reply("x")) as server:
        model = OpenAIModel("m", base_url=server.url, max_tokens=100)
        for limit in (None, 5):
            ask(model, max_tokens=limit)
        ask(OpenAIModel("m", base_url=server.url, extra_body={"max_tokens": 7}), max_tokens=5)
    assert [request.json["max_tokens"] for request in server.requests] == [100, 5, 7]


def test_images_of_users_are_sent_as_data() -> None:
    body = sent(Message("user", "What is it?", images=(Image(PNG),)), Message("user", "", images=(Image(PNG),)))
    picture = {"type": "image_url", "image_url": {"url": URL}}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]},
        {"role": "user", "content": [picture]},
    ]


def test_calls_and_results_are_sent_and_images_of_tools_follow_all_results() -> None:
    calls = (ToolCallRequest("a", "add", {"n": "å"}), ToolCallRequest("b", "add", invalid_arguments="{oops"))
    body = sent(
        TASK,
        Message("assistant", "", tool_calls=calls),
        Message("tool", "a picture", tool_call_id="a", images=(Image(PNG),)),
        Message("tool", "no JSON", tool_call_id="b"),
        Message("user", "Go on."),
    )
    picture = {"type": "image_url", "image_url": {"url": URL}}
    assert body["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("add", '{"n": "å"}', "a"), call("add", "{oops", "b")],
        },
        {"role": "tool", "tool_call_id": "a", "content": "a picture"},
        {"role": "tool", "tool_call_id": "b", "content": "no JSON"},
        {"role": "user", "content": [{"type": "text", "text": "Image from the tool call a:"}, picture]},
        {"role": "user", "content": "Go on."},
    ]


def test_images_of_the_last_tool_are_sent_too() -> None:
    asking = Message("assistant", "", tool_calls=(ToolCallRequest("a", "add"),))
    body = sent(TASK, asking, Message("tool", "x", tool_call_id="a", images=(Image(PNG),)))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "user"]  # type: ignore[attr-defined]


# --- replies ----------------------------------------------------------------------------------------------------------


def test_a_whole_reply_gives_tool_calls() -> None:
    calls = [call("add", '{"n": 1}', "a"), call("add", "", "b"), call("add", "nonsense", "c")]
    found, _ = asked_of(http(200, completion(None, tool_calls=calls, finish_reason="tool_calls")), tools=[ADD])
    assert found.tool_calls == (
        ToolCallRequest("a", "add", {"n": 1}),
        ToolCallRequest("b", "add"),
        ToolCallRequest("c", "add", invalid_arguments="nonsense"),
    )
    assert (found.text, found.finish_reason) == ("", "tool_calls")


def test_arguments_that_come_as_an_object_are_taken() -> None:
    function = {"name": "add", "arguments": {"n": 1}}
    found, _ = asked_of(http(200, completion("", tool_calls=[{"function": function}])))
    [made] = found.tool_calls
    assert (made.name, made.arguments, made.id[:5]) == ("add", {"n": 1}, "call_")


@pytest.mark.parametrize("wrong", [5, "x", [5], [{"function": 5}], [{"id": 5}]])
def test_calls_of_another_shape_are_a_bad_reply(wrong: object) -> None:
    with pytest.raises(BadReply):
        asked_of(http(200, completion("", tool_calls=wrong)))


def test_hidden_reasoning_and_signatures_go_back_with_the_calls() -> None:
    made = {**call("add", "{}", "a"), "extra_content": {"google": {"thought_signature": "s"}}}
    found, _ = asked_of(http(200, completion("", tool_calls=[made], reasoning_content="hm")))
    body = sent(TASK, found.message, Message("tool", "1", tool_call_id="a"))
    assert body["messages"][1] == {  # type: ignore[index]
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [made],
    }


def test_reasoning_without_calls_does_not_go_back() -> None:
    found, _ = asked_of(http(200, completion("x", reasoning_content="hm")))
    assert (found.text, found.echo) == ("x", None)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 5},
            TokenUsage(input_tokens=9, output_tokens=1, cached_tokens=5),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3}},
            TokenUsage(input_tokens=9, cached_tokens=2, cache_write_tokens=3),
        ),
        ({"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}, TokenUsage(input_tokens=9)),
    ],
)
def test_counts_are_read_in_the_forms_that_endpoints_use(usage: dict[str, object], counted: TokenUsage) -> None:
    assert asked_of(http(200, completion("x", usage=usage)))[0].usage == counted


@pytest.mark.parametrize("answer", [reply("x"), streamed("x")])
def test_the_cost_is_the_same_streamed_or_not(answer: bytes) -> None:
    prices = Prices(input=1, cached=0.5, output=10)
    with chat_server(answer) as server:
        found = ask(OpenAIModel("m", base_url=server.url, prices=prices), on_text=str)
    assert found.usage is not None
    assert found.usage.cost_usd == pytest.approx((4 * 1 + 16 * 0.5 + 7 * 10) / 1e6)


def test_without_prices_the_cost_is_unknown() -> None:
    found = asked_of(reply("x"))[0].usage
    assert found is not None
    assert found.cost_usd is None


# --- pace, secrets, errors --------------------------------------------------------------------------------------------


def test_requests_of_one_model_are_spread_over_the_minute() -> None:
    with chat_server(reply("x")) as server:
        model = OpenAIModel("m", base_url=server.url, requests_per_minute=1200)
        started = time.monotonic()
        for _ in range(3):
            ask(model)
        assert time.monotonic() - started >= 0.1


def test_the_key_is_in_no_log_at_any_level(caplog: pytest.LogCaptureFixture, tmp_path: object) -> None:
    caplog.set_level(logging.DEBUG)
    with chat_server(streamed("x"), error(401, f"wrong {KEY}")) as server:
        model = OpenAIModel("m", base_url=server.url, api_key=KEY, headers={"x-other": "hush-hush"})
        ask(model, on_text=str)
        with pytest.raises(ModelDenied):
            ask(model)
    assert caplog.records
    assert KEY not in caplog.text
    assert "hush" not in caplog.text


def test_the_key_is_in_no_recording(tmp_path: object) -> None:
    path = f"{tmp_path}/talk.json"
    with chat_server(reply("x")) as server:
        model = OpenAIModel("m", base_url=server.url, api_key=KEY)

        async def main() -> None:
            await RecordingModel(model, path).complete([TASK])

        anyio.run(main)
        with open(path, encoding="utf-8") as file:
            text = file.read()
    assert KEY not in text
    assert server.url not in text


@pytest.mark.parametrize("pad", range(480, 520, 3))
def test_no_part_of_the_key_is_left_where_a_message_is_cut(pad: int) -> None:
    with chat_server(error(400, "x" * pad + KEY)) as server, pytest.raises(ModelError) as caught:
        ask(OpenAIModel("m", base_url=server.url, api_key=KEY))
    assert "sk-" not in str(caught.value)


def test_no_exception_behind_an_error_holds_the_request() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        ask(OpenAIModel("m", base_url="http://127.0.0.1:1/v1", api_key=KEY, retry=AT_ONCE))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_long_error_page_is_cut_and_its_status_counts() -> None:
    with chat_server(http(502, b"<html>" + b"x" * 1_000_000), reply("x")) as server:
        model = OpenAIModel("m", base_url=server.url, retry=AT_ONCE, max_reply_bytes=1000)
        assert ask(model).text == "x"


def test_a_wait_in_milliseconds_is_read() -> None:
    slow = error(429, "slow", {"retry-after-ms": "86400000", "retry-after": "1"})
    with chat_server(slow) as server, pytest.raises(ModelError) as caught:
        ask(OpenAIModel("m", base_url=server.url))
    assert getattr(caught.value, "retry_after_s", None) == 86400.0


# --- thin classes -----------------------------------------------------------------------------------------------------


def local(server: ChatServer) -> str:
    return server.url.removesuffix("/v1")


def test_azure_has_its_own_header_and_an_undated_address() -> None:
    with chat_server(reply("x")) as server:
        ask(AzureOpenAIModel("d", azure_endpoint=local(server), api_key=KEY, max_tokens=9))
    [request] = server.requests
    assert request.line == "POST /openai/v1/chat/completions HTTP/1.1"
    assert (request.headers["api-key"], "authorization" in request.headers) == (KEY, False)
    assert (request.json["model"], request.json["max_completion_tokens"]) == ("d", 9)


def test_azure_with_a_date_names_the_deployment_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(error(401, f"no {KEY}")) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", local(server))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        with pytest.raises(ModelDenied) as caught:
            ask(AzureOpenAIModel("my model", api_version="2024-10-21"))
    line = "POST /openai/deployments/my%20model/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert (server.requests[0].line, server.requests[0].headers["api-key"]) == (line, KEY)
    assert KEY not in str(caught.value)


def test_azure_without_an_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(ConfigError, match="AZURE_OPENAI_ENDPOINT"):
        AzureOpenAIModel("d")


def test_the_hub_is_addressed_with_provider_token_and_who_pays() -> None:
    with chat_server(reply("x")) as server:
        model = InferenceClientModel(
            "org/m", provider="together", token=KEY, bill_to="us", base_url=server.url, headers={"x-a": "b"}
        )
        ask(model)
    [request] = server.requests
    assert (request.json["model"], model.name) == ("org/m:together", "org/m:together")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (request.headers["x-hf-bill-to"], request.headers["x-a"]) == ("us", "b")


def test_the_token_of_the_environment_goes_to_the_router_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert repr(InferenceClientModel("org/m")) == "<InferenceClientModel 'org/m' at https://router.huggingface.co/v1>"
    with chat_server(reply("x")) as server:
        ask(InferenceClientModel("org/m", base_url=server.url))
    assert "authorization" not in server.requests[0].headers


def test_two_providers_are_refused() -> None:
    with pytest.raises(ConfigError, match="names a provider already"):
        InferenceClientModel("org/m:groq", provider="together")


# --- fallbacks --------------------------------------------------------------------------------------------------------


def fall_back(lines: Sequence[str | ModelError], **asked: object) -> ModelReply:
    return ask(FallbackModel([ScriptedModel([line], name=f"m{i}") for i, line in enumerate(lines)]), **asked)


def test_the_next_model_is_asked_where_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    assert fall_back([ModelUnavailable("down"), ModelDenied("no"), "third"]).text == "third"
    assert [record.getMessage() for record in caplog.records if record.name == "cloche.models"] == [
        "m0 failed with ModelUnavailable; asking m1",
        "m1 failed with ModelDenied; asking m2",
    ]


def test_if_all_models_fail_the_last_error_names_the_others() -> None:
    with pytest.raises(ModelDenied, match="no") as caught:
        fall_back([ModelUnavailable("down"), ModelDenied("no")])
    assert caught.value.__notes__ == ["before it, m0 failed: ModelUnavailable: down"]


def test_once_text_was_given_out_no_other_model_is_asked() -> None:
    class Breaks(ScriptedModel):
        async def complete(self, messages: Sequence[Message], **options: object) -> ModelReply:
            on_text = options["on_text"]
            assert callable(on_text)
            on_text("half")
            raise ModelUnavailable("cut")

    pieces: list[str] = []
    other = ScriptedModel(["whole"])
    with pytest.raises(ModelUnavailable, match="cut"):
        ask(FallbackModel([Breaks([]), other]), on_text=pieces.append)
    assert (pieces, other.calls) == (["half"], [])


def test_no_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        FallbackModel([])
