"""Streamed replies of chat completions: what is given out, what is counted, and what happens when a stream breaks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.chat_server import (
    Answer,
    ChatServer,
    call_part,
    chat_server,
    chunk,
    error,
    events,
    http,
    reply,
    stream,
    streamed,
    usage_chunk,
)

from cloche.agents.errors import BadReply, ModelDenied, ModelError, ModelRateLimited, ModelRefused, ModelUnavailable
from cloche.agents.messages import Message, ModelReply, TokenUsage, ToolCallRequest
from cloche.agents.models.openai import OpenAIModel
from cloche.agents.models.openai_reply import ChatReader
from cloche.agents.models.retry import Retry
from cloche.agents.models.sse import SseReader

TASK = Message("user", "Hi")
KEY = "sk-a-very-secret-key"
COUNTED = TokenUsage(input_tokens=20, output_tokens=7, cached_tokens=16, reasoning_tokens=3)
AT_ONCE = Retry(attempts=3, backoff_s=0.0)
BOUND_S = 30.0


def model_for(server: ChatServer, **options: object) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, api_key=KEY, retry=AT_ONCE, **options)  # type: ignore[arg-type]


def ask(*answers: Answer, **options: object) -> tuple[ModelReply | ModelError, list[str], ChatServer]:
    """The outcome of one streamed request, the pieces of text that came, and the server with what it saw."""
    pieces: list[str] = []

    async def main(server: ChatServer) -> ModelReply | ModelError:
        with anyio.fail_after(BOUND_S):
            async with model_for(server, **options) as model:
                try:
                    return await model.complete([TASK], on_text=pieces.append)
                except ModelError as exc:
                    return exc

    with chat_server(*answers) as server:
        return anyio.run(main, server), pieces, server


def read(*chunks: object, done: bool = True) -> ModelReply | None:
    """What a reader makes of chunks."""
    reader = ChatReader()
    for event in SseReader(1_000_000).feed(events(*chunks, done=done)):
        reader.read_event(event)
    return reader.finish()


def calls_of(*parts: Sequence[dict[str, object]]) -> tuple[ToolCallRequest, ...]:
    found = read(*(chunk(tool_calls=list(part)) for part in parts), chunk(finish_reason="tool_calls"))
    assert found is not None
    return found.tool_calls


# --- text and counts --------------------------------------------------------------------------------------------------


def test_text_is_given_out_as_it_comes_and_the_reply_is_whole() -> None:
    outcome, pieces, server = ask(streamed("Hej ", "då, ", "日本"))
    assert outcome == ModelReply(text="Hej då, 日本", usage=COUNTED)
    assert pieces == ["Hej ", "då, ", "日本"]
    assert server.requests[0].json["stream"] is True
    assert server.requests[0].json["stream_options"] == {"include_usage": True}
    assert server.requests[0].headers["accept"] == "text/event-stream"


def test_the_name_of_reply_and_model_are_kept() -> None:
    outcome, _, _ = ask(streamed("x"))
    assert isinstance(outcome, ModelReply)
    assert (outcome.response_id, outcome.response_model) == ("chatcmpl-1", "test")


def test_an_endpoint_that_refuses_stream_options_is_not_sent_any() -> None:
    said = stream(events(chunk("x"), chunk(finish_reason="stop")))
    outcome, _, server = ask(said, stream_usage=False)
    assert isinstance(outcome, ModelReply)
    assert outcome.usage is None
    assert "stream_options" not in server.requests[0].json


def test_running_totals_in_every_chunk_are_counted_once() -> None:
    """The figures of smolagents' bug #1488: the input of each chunk was added up."""
    running = [{"prompt_tokens": 4708, "completion_tokens": i, "total_tokens": 4708 + i} for i in range(1, 201)]
    found = read(*(chunk("x", usage=usage) for usage in running), chunk(finish_reason="stop", usage=running[-1]))
    assert found is not None
    assert found.usage == TokenUsage(input_tokens=4708, output_tokens=200)


def test_a_last_chunk_with_nothing_but_counts_is_read() -> None:
    found = read(chunk("x"), chunk(finish_reason="length"), usage_chunk())
    assert found == ModelReply(text="x", usage=COUNTED, finish_reason="length")


def test_a_stream_may_end_without_its_mark_once_it_has_given_a_reason() -> None:
    found = read(chunk("x"), chunk(finish_reason="stop"), usage_chunk(), done=False)
    assert found == ModelReply(text="x", usage=COUNTED)


def test_other_choices_and_chunks_without_any_are_passed_over() -> None:
    other = {**chunk("no"), "choices": [{"index": 1, "delta": {"content": "no"}}]}
    found = read({"choices": None}, other, chunk("yes"), {"id": "x"}, chunk(finish_reason="stop"))
    assert found is not None
    assert found.text == "yes"


def test_keep_alive_comments_and_events_after_the_end_are_passed_over() -> None:
    said = events(b": OPENROUTER PROCESSING\n\n", chunk("x"), b": ping\n\n", chunk(finish_reason="stop"))
    outcome, pieces, _ = ask(stream(said, events(chunk("more"))))
    assert isinstance(outcome, ModelReply)
    assert (outcome.text, pieces) == ("x", ["x"])


def test_an_endpoint_that_does_not_stream_gives_its_text_at_once() -> None:
    outcome, pieces, _ = ask(reply("whole"))
    assert outcome == ModelReply(text="whole", usage=COUNTED)
    assert pieces == ["whole"]


def test_a_stream_that_was_not_asked_for_is_read_all_the_same() -> None:
    async def main(server: ChatServer) -> ModelReply:
        with anyio.fail_after(BOUND_S):
            return await model_for(server).complete([TASK])

    with chat_server(streamed("a", "b")) as server:
        assert anyio.run(main, server).text == "ab"


def test_a_connection_is_kept_after_a_stream() -> None:
    async def main(server: ChatServer) -> None:
        with anyio.fail_after(BOUND_S):
            async with model_for(server) as model:
                for _ in range(3):
                    await model.complete([TASK], on_text=lambda text: None)

    with chat_server(streamed("x", close=False)) as server:
        anyio.run(main, server)
    assert (len(server.requests), server.connections) == (3, 1)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 60), max_size=40), st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
def test_a_reply_is_the_same_however_its_bytes_are_cut(cuts: list[int], texts: list[str]) -> None:
    whole = events(*map(chunk, texts), chunk(tool_calls=[call_part(0, '{"a": "é"}', name="f", call_id="c")]))
    whole += events(chunk(finish_reason="stop"), usage_chunk())
    sse, reader, said, left = SseReader(100_000), ChatReader(), "", whole
    for size in [*cuts, len(whole)]:
        for event in sse.feed(left[:size]):
            said += reader.read_event(event)
        left = left[size:]
    found = reader.finish()
    assert found is not None
    assert (found.text, said) == ("".join(texts), "".join(texts))
    assert found.tool_calls == (ToolCallRequest("c", "f", {"a": "é"}),)


def test_a_stream_may_be_cut_at_every_byte() -> None:
    body = events(chunk("日"), chunk("本"), chunk(finish_reason="stop"), usage_chunk())
    outcome, pieces, _ = ask(stream(*(body[i : i + 1] for i in range(len(body)))))
    assert outcome == ModelReply(text="日本", usage=COUNTED)
    assert pieces == ["日", "本"]


# --- tool calls -------------------------------------------------------------------------------------------------------


def test_parts_of_tool_calls_are_joined_by_index() -> None:
    assert calls_of(
        [call_part(0, "", name="get_price", call_id="c1")],
        [call_part(1, "", name="add", call_id="c2")],
        [call_part(0, '{"item": '), call_part(1, '{"a"')],
        [call_part(1, ": 1}"), call_part(0, '"tea"}')],
    ) == (ToolCallRequest("c1", "get_price", {"item": "tea"}), ToolCallRequest("c2", "add", {"a": 1}))


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    parts = [call_part(0, '{"n": 1}', name="f", call_id="a"), call_part(0, '{"n": 2}', name="f", call_id="b")]
    assert calls_of(parts) == (ToolCallRequest("a", "f", {"n": 1}), ToolCallRequest("b", "f", {"n": 2}))


def test_an_id_and_a_name_that_come_with_every_part_count_once() -> None:
    parts = [[call_part(0, piece, name="f", call_id="a")] for piece in ("{", '"n": 1', "}")]
    assert calls_of(*parts) == (ToolCallRequest("a", "f", {"n": 1}),)


def test_parts_without_index_belong_to_the_last_call() -> None:
    parts = [[call_part(None, '{"n"', name="f", call_id="a")], [call_part(None, ": 1}")]]
    assert calls_of(*parts) == (ToolCallRequest("a", "f", {"n": 1}),)


def test_calls_without_ids_or_with_the_same_get_ids_of_their_own() -> None:
    found = calls_of([call_part(0, "{}", name="f"), call_part(1, "{}", name="g")])
    assert len({call.id for call in found} - {""}) == 2
    found = calls_of([call_part(0, "{}", name="f", call_id="a"), call_part(1, "{}", name="g", call_id="a")])
    assert found[0].id == "a" != found[1].id


@pytest.mark.parametrize("written", ['{"a": ', "[1]", '"x"', '{"a": NaN}', "[" * 5000, '{"a": "\\ud800"}'])
def test_arguments_that_are_no_json_object_are_kept_as_written(written: str) -> None:
    assert calls_of([call_part(0, written, name="f", call_id="a")]) == (
        ToolCallRequest("a", "f", invalid_arguments=written),
    )


def test_no_arguments_are_an_empty_object() -> None:
    assert calls_of([call_part(0, name="f", call_id="a")]) == (ToolCallRequest("a", "f", {}),)


def test_calls_give_the_finish_reason_even_where_the_endpoint_says_stop() -> None:
    found = read(chunk(tool_calls=[call_part(0, "{}", name="f", call_id="a")]), chunk(finish_reason="stop"))
    assert found is not None
    assert found.finish_reason == "tool_calls"


def test_too_many_calls_are_a_bad_reply() -> None:
    parts = [chunk(tool_calls=[call_part(i, "{}", name="f", call_id=str(i))]) for i in range(200)]
    outcome, _, _ = ask(stream(events(*parts)))
    assert type(outcome) is BadReply
    assert "more than 128 tool calls" in str(outcome)


# --- broken streams ---------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_before_any_text_is_asked_for_again() -> None:
    cut = stream(events(chunk("", role="assistant"), done=False), whole=False)
    outcome, pieces, server = ask(cut, streamed("whole"))
    assert isinstance(outcome, ModelReply)
    assert (outcome.text, pieces, len(server.requests)) == ("whole", ["whole"], 2)


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_that_breaks_off_after_text_is_an_error_at_once(whole: bool) -> None:
    outcome, pieces, server = ask(stream(events(chunk("half"), done=False), whole=whole), streamed("again"))
    assert type(outcome) is ModelUnavailable
    assert (pieces, len(server.requests)) == (["half"], 1)


def test_half_an_event_at_the_end_is_a_break_and_not_a_bad_reply() -> None:
    whole = events(chunk("half"), done=False)
    outcome, _, _ = ask(stream(whole + whole[:-30]))
    assert type(outcome) is ModelUnavailable
    assert str(outcome).endswith("the stream broke off before the end of the reply")


@pytest.mark.parametrize(
    "data",
    [
        b"data: {not json}\n\n",
        b'data: {"choices": 5}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
        b"data: " + b"[" * 10_000 + b"\n\n",
        b'data: {"choices": [], "usage": {"prompt_tokens": -5}}\n\n',
    ],
)
def test_an_event_that_is_no_chunk_is_a_bad_reply(data: bytes) -> None:
    outcome, _, server = ask(stream(data))
    assert (type(outcome), len(server.requests)) == (BadReply, 1)
    assert len(str(outcome)) < 1000


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        ({"message": "no", "type": "server_error"}, ModelUnavailable),
        ({"message": "no", "code": 429}, ModelRateLimited),
        ({"message": "no", "type": "tokens", "code": "rate_limit_exceeded"}, ModelRateLimited),
        ({"message": "no", "type": "BadRequestError", "code": 400}, ModelRefused),
        ({"message": "no", "type": "invalid_request_error", "code": "context_length_exceeded"}, ModelRefused),
        ({"message": "no", "code": "invalid_api_key"}, ModelDenied),
        ("no", ModelUnavailable),
    ],
)
def test_an_error_in_the_stream_is_sorted_like_one_before_it(reported: object, kind: type[ModelError]) -> None:
    outcome, _, server = ask(stream(events(chunk("x"), {"error": reported}, done=False)))
    assert (type(outcome), str(outcome)) == (kind, f"{server.url} reported: no")


def test_an_answer_of_another_type_is_a_bad_reply_that_shows_it() -> None:
    page = http(200, b"<html>Please log in</html>", headers={"Content-Type": "text/html"})
    outcome, _, _ = ask(page)
    assert type(outcome) is BadReply
    assert "<html>Please log in</html>" in str(outcome)


def test_an_error_before_the_stream_is_tried_again() -> None:
    outcome, _, server = ask(error(503, "busy"), streamed("x"))
    assert isinstance(outcome, ModelReply)
    assert len(server.requests) == 2


def test_a_reply_that_grows_too_long_is_cut_off() -> None:
    outcome, _, _ = ask(stream(events(*[chunk("x" * 500)] * 50)), max_reply_bytes=10_000)
    assert (type(outcome), str(outcome)) == (BadReply, "the answer is longer than 10000 bytes")


def test_a_stream_of_comments_without_end_is_cut_off() -> None:
    def babble(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            connection.sendall(b": keep-alive\n\n" * 1000)

    outcome, _, _ = ask(babble, max_reply_bytes=10_000)
    assert (type(outcome), str(outcome)) == (BadReply, "the answer is longer than 10000 bytes")


def test_a_stream_that_falls_silent_is_given_up() -> None:
    over = threading.Event()

    def hang(connection: socket.socket) -> None:
        connection.sendall(stream(events(chunk("half"), done=False), whole=False))
        over.wait(BOUND_S)

    outcome, pieces, server = ask(hang, timeout_s=3)
    over.set()
    assert (str(outcome), pieces) == (f"{server.url}: silent for 3 s", ["half"])


def test_a_stream_that_drips_is_given_up_in_time() -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(stream(events(chunk("half"), done=False), whole=False))
        while not over.wait(0.005):
            connection.sendall(b"d\r\n: keep-alive\n\r\n")

    outcome, _, server = ask(drip, timeout_s=5, stream_timeout_s=0.2)
    over.set()
    assert (type(outcome), str(outcome)) == (ModelUnavailable, f"{server.url}: no end within 0.2 s")


def test_cancelling_in_the_middle_of_a_stream_closes_the_connection() -> None:
    hung_up = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(stream(events(chunk("half"), done=False), whole=False))
        if connection.recv(1) == b"":
            hung_up.set()

    async def main(server: ChatServer) -> None:
        began = asyncio.Event()
        model = model_for(server)
        task = asyncio.create_task(model.complete([TASK], on_text=lambda text: began.set()))
        with anyio.fail_after(BOUND_S):
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await anyio.to_thread.run_sync(hung_up.wait, BOUND_S)
        await model.aclose()

    with chat_server(stall) as server:
        anyio.run(main, server)


def test_an_error_of_the_callback_ends_the_request() -> None:
    def burst(text: str) -> None:
        raise LookupError(text)

    async def main(server: ChatServer) -> None:
        with anyio.fail_after(BOUND_S):
            await model_for(server).complete([TASK], on_text=burst)

    with chat_server(streamed("x", "y")) as server, pytest.raises(LookupError, match="x"):
        anyio.run(main, server)
