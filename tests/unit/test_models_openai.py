"""The HTTP client against a local server that speaks chat completions, well and badly."""

from __future__ import annotations

import asyncio
import copy
import socket
import threading

import anyio
import anyio.to_thread
import pytest
from tests.support.chat_server import ChatServer, chat_server, completion, error, http, reply

from cloche.agents.errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.messages import Message, ModelReply, TokenUsage
from cloche.agents.models.endpoint import is_it_running
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.models.retry import Retry
from cloche.runtime.errors import ConfigError

MESSAGES = (Message("system", "Be brief."), Message("user", "Hej å 日本"))
KEY = "sk-a-very-secret-key"
AT_ONCE = Retry(attempts=3, backoff_s=0.0)
BOUND_S = 30.0


def model_for(server: ChatServer, **options: object) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, api_key=KEY, retry=AT_ONCE, **options)  # type: ignore[arg-type]


def ask(model: OpenAIModel, **options: object) -> ModelReply:
    async def main() -> ModelReply:
        with anyio.fail_after(BOUND_S):
            async with model:
                return await model.complete(MESSAGES, **options)  # type: ignore[arg-type]

    return anyio.run(main)


def failure(server: ChatServer, **options: object) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(model_for(server, **options))
    return caught.value


# --- what is sent and read --------------------------------------------------------------------------------------------


def test_a_request_carries_model_messages_key_and_options() -> None:
    with chat_server(reply("Hi.")) as server:
        ask(model_for(server, temperature=0.0, max_tokens=9, extra_body={"seed": 1}, headers={"x-team": "green"}))
    [request] = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (request.headers["x-team"], request.headers["accept-encoding"]) == ("green", "identity")
    assert request.json == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hej å 日本"}],
        "temperature": 0.0,
        "max_tokens": 9,
        "seed": 1,
    }


def test_stop_sequences_are_sent_when_there_are_any() -> None:
    with chat_server(reply("Hi.")) as server:
        ask(model_for(server), stop=["END"])
    assert server.requests[0].json["stop"] == ["END"]


def test_a_reply_gives_text_and_tokens() -> None:
    with chat_server(reply("Hej då")) as server:
        got = ask(model_for(server))
    usage = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16, reasoning_tokens=3)
    assert got == ModelReply(text="Hej då", usage=usage, finish_reason="stop")


def test_an_endpoint_that_does_not_count_gives_no_usage() -> None:
    with chat_server(reply("x", usage=None)) as server:
        assert ask(model_for(server)).usage is None


def test_a_cut_reply_says_so() -> None:
    with chat_server(reply("x", finish_reason="length")) as server:
        assert ask(model_for(server)).finish_reason == "length"


def test_a_reply_without_content_is_an_empty_text() -> None:
    with chat_server(reply(None)) as server:
        assert ask(model_for(server)).text == ""


def test_content_in_parts_is_joined() -> None:
    body = completion("")
    body["choices"] = [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]
    with chat_server(http(200, body)) as server:
        assert ask(model_for(server)).text == "ab"


def test_connections_are_kept_within_one_loop() -> None:
    async def main(model: OpenAIModel) -> None:
        with anyio.fail_after(BOUND_S):
            async with model:
                for _ in range(3):
                    await model.complete(MESSAGES)

    with chat_server(reply("x", close=False)) as server:
        anyio.run(main, model_for(server))
    assert (len(server.requests), server.connections) == (3, 1)


def test_one_model_serves_several_loops() -> None:
    with chat_server(reply("x", close=False)) as server:
        model = model_for(server)
        assert [ask(model).text for _ in range(2)] == ["x", "x"]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ModelRefused), (401, ModelDenied), (403, ModelDenied), (404, ModelRefused), (422, ModelRefused)],
)
def test_an_error_that_no_retry_mends_is_raised_at_once(status: int, kind: type[ModelError]) -> None:
    with chat_server(error(status, "no such model")) as server:
        exc = failure(server)
    assert (type(exc), exc.status, len(server.requests)) == (kind, status, 1)
    assert str(exc) == f"{server.url} answered {status}: no such model"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
def test_a_server_error_is_tried_again(status: int) -> None:
    with chat_server(error(status, "busy"), reply("at last")) as server:
        assert ask(model_for(server)).text == "at last"
    assert len(server.requests) == 2


def test_after_the_last_attempt_the_error_is_raised() -> None:
    with chat_server(error(503, "busy")) as server:
        exc = failure(server)
    assert (type(exc), exc.status, len(server.requests)) == (ModelUnavailable, 503, 3)


def test_a_rate_limit_is_waited_for() -> None:
    with chat_server(error(429, "slow down", {"Retry-After": "0"}), reply("x")) as server:
        assert ask(model_for(server)).text == "x"


def test_a_rate_limit_that_asks_for_too_long_goes_to_the_caller() -> None:
    with chat_server(error(429, "quota", {"Retry-After": "86400"})) as server:
        exc = failure(server)
    assert isinstance(exc, ModelRateLimited)
    assert (exc.retry_after_s, len(server.requests)) == (86400.0, 1)


def test_a_redirect_is_not_followed_so_the_key_goes_nowhere_else() -> None:
    with chat_server(reply("stolen")) as other, chat_server(http(307, b"", headers={"Location": other.url})) as server:
        exc = failure(server)
        assert (type(exc), exc.status, other.requests) == (BadReply, 307, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gateway</html>",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1}}',
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_completion_is_a_bad_reply(body: bytes) -> None:
    with chat_server(http(200, body)) as server:
        exc = failure(server)
    assert (type(exc), len(server.requests)) == (BadReply, 1)
    assert len(str(exc)) < 1000


def test_an_answer_that_ends_too_early_is_tried_again() -> None:
    whole = reply("x" * 500)
    with chat_server(whole[:-100], reply("whole")) as server:
        assert ask(model_for(server)).text == "whole"


def test_bytes_that_are_no_http_are_tried_again_and_then_an_error() -> None:
    with chat_server(b"SSH-2.0-x\r\n\r\nconnection: close") as server:
        assert type(failure(server)) is ModelUnavailable


def test_an_answer_over_the_size_limit_is_refused() -> None:
    with chat_server(reply("x" * 10_000)) as server:
        exc = failure(server, max_reply_bytes=5000)
    assert (type(exc), str(exc)) == (BadReply, "the answer is longer than 5000 bytes")


def test_a_compressed_answer_is_refused_unread() -> None:
    with chat_server(http(200, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})) as server:
        assert "compressed" in str(failure(server))


def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(ModelUnavailable) as caught:
        ask(OpenAIModel("m", base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, retry=AT_ONCE))
    text = str(caught.value)
    assert text.startswith(f"http://127.0.0.1:{port}/v1: ConnectError")
    assert text.endswith(f"; is the server running at 127.0.0.1:{port}?")
    assert KEY not in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://gateway.example/a-key-in-the-path/v1", "gateway.example:80"),
        ("https://gateway.example/v1", "gateway.example:443"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_who_cannot_connect_is_asked_about_host_and_port_only(url: str, told: str) -> None:
    assert is_it_running(url) == f"; is the server running at {told}?"


def test_an_endpoint_that_never_answers_is_given_up_in_time() -> None:
    over = threading.Event()

    def hang(connection: socket.socket) -> None:
        over.wait(BOUND_S)

    with chat_server(hang) as server:
        exc = failure(server, timeout_s=0.05)
        over.set()
    assert (type(exc), str(exc)) == (ModelUnavailable, f"{server.url}: no answer within 0.05 s")


def test_an_endpoint_that_drips_bytes_is_given_up_in_time() -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.005):
            connection.sendall(b" ")

    with chat_server(drip) as server:
        exc = failure(server, timeout_s=0.1)
        over.set()
    assert "no answer within 0.1 s" in str(exc)


def test_cancelling_the_task_abandons_the_request() -> None:
    arrived, hung_up = threading.Event(), threading.Event()

    def hang(connection: socket.socket) -> None:
        arrived.set()
        if connection.recv(1) == b"":
            hung_up.set()

    async def main(model: OpenAIModel) -> None:
        task = asyncio.create_task(model.complete(MESSAGES))
        assert await anyio.to_thread.run_sync(arrived.wait, BOUND_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await anyio.to_thread.run_sync(hung_up.wait, BOUND_S)
        await model.aclose()

    with chat_server(hang) as server:
        anyio.run(main, model_for(server))


# --- secrets and options ----------------------------------------------------------------------------------------------


def test_the_key_is_in_no_text_of_model_or_errors() -> None:
    with chat_server(error(401, f"Incorrect API key provided: {KEY}, header hush-hush")) as server:
        model = model_for(server, headers={"x-other": "hush-hush"})
        with pytest.raises(ModelDenied) as caught:
            ask(model)
    for text in (repr(model), str(caught.value), repr(caught.value), repr(copy.copy(caught.value))):
        assert KEY not in text
        assert "hush" not in text


def test_the_key_of_the_environment_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with chat_server(reply("x")) as server:
        ask(OpenAIModel("m", base_url=server.url))
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/v1",
        "localhost:8000",
        "http://",
        "http://user:hush@host/v1",
        "ftp://user:hush@host/v1",
        "http://host/v1?key=hush",
        "http://host/v1#hush",
        "http://[::1",
    ],
)
def test_an_address_that_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        OpenAIModel("m", base_url=url)
    assert "hush" not in str(caught.value)


def test_extra_fields_that_are_no_json_are_refused() -> None:
    with pytest.raises(ConfigError, match="the request is no JSON"):
        ask(OpenAIModel("m", base_url="http://127.0.0.1:1/v1", extra_body={"x": {1, 2}}))
