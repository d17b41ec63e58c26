"""Recordings of what version 1 had no place for: tools, images, formats, streams, costs."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from cloche.agents.errors import ReplayMismatch
from cloche.agents.messages import (
    Image,
    Message,
    ModelReply,
    ResponseFormat,
    TokenUsage,
    ToolCallRequest,
    ToolSchema,
)
from cloche.agents.model import Model
from cloche.agents.models.conversation import read_recording
from cloche.agents.models.recording import RecordingModel
from cloche.agents.models.replay import ReplayModel
from cloche.agents.models.scripted import ScriptedModel
from cloche.runtime.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
TASK = Message("user", "What is it?", images=(Image(PNG),))
ADD = ToolSchema("add", "Adds.", {"type": "object", "properties": {"images": {"type": "array", "items": {}}}})
CALLS = (
    ToolCallRequest("a", "add", {"images": [], "deep": {"x": [1, 2.5, None, True, 10**30]}}),
    ToolCallRequest("b", "add", invalid_arguments="{oops"),
)
FIRST = ModelReply(
    text="See.\nNow.",
    usage=TokenUsage(input_tokens=9, output_tokens=2, cache_write_tokens=4, cost_usd=0.000123),
    finish_reason="tool_calls",
    tool_calls=CALLS,
    echo={"anthropic": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
)
TALK = (
    TASK,
    FIRST.message,
    Message("tool", "4", tool_call_id="a", images=(Image(PNG, "image/webp"),)),
    Message("tool", "no JSON", tool_call_id="b"),
)
FORMAT = ResponseFormat(schema={"type": "object"}, name="n", strict=False)
DEMO = Path(__file__).parents[2] / "examples" / "demo_data" / "conversation.json"


def ask(model: Model, *messages: Message, **asked: object) -> ModelReply:
    async def main() -> ModelReply:
        return await model.complete(messages, **asked)  # type: ignore[arg-type]

    return anyio.run(main)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "talk.json"
    model = RecordingModel(ScriptedModel([FIRST, "done"], name="real"), path)
    ask(model, TASK, tools=[ADD], tool_choice="auto", max_tokens=50, on_text=str)
    ask(model, *TALK, response_format=FORMAT)
    return path


def test_a_replay_gives_back_calls_usage_cost_and_echo(recorded: Path) -> None:
    model = ReplayModel(recorded)
    assert ask(model, TASK, tools=[ADD], tool_choice="auto", max_tokens=50) == FIRST
    assert ask(model, *TALK, response_format=FORMAT).text == "done"


def test_a_replay_streams_in_the_pieces_of_the_recording(recorded: Path) -> None:
    pieces: list[str] = []
    ask(ReplayModel(recorded), TASK, tools=[ADD], tool_choice="auto", max_tokens=50, on_text=pieces.append)
    assert pieces == ["See.\n", "Now."]


def test_a_reply_that_was_not_streamed_is_replayed_in_one_piece(recorded: Path) -> None:
    pieces: list[str] = []
    ask(ReplayModel(recorded), *TALK, response_format=FORMAT, on_text=pieces.append)
    assert pieces == ["done"]


def test_what_a_recording_does_not_need_is_not_written(recorded: Path) -> None:
    found = json.loads(recorded.read_text(encoding="utf-8"))
    assert found["version"] == 2
    assert sorted(found["exchanges"][1]) == ["finish_reason", "messages", "response_format", "stop", "text", "usage"]
    assert found["exchanges"][0]["messages"] == [
        {"role": "user", "content": "What is it?", "images": [{"data": "iVBORw0KGgoA_w==", "mime": "image/png"}]}
    ]


def test_a_file_of_version_1_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    recording = read_recording(DEMO)
    assert recording.version == 1
    path = tmp_path / "again.json"
    replayed = RecordingModel(ReplayModel(DEMO), path)
    for exchange in recording.exchanges:
        ask(replayed, *exchange.messages, stop=exchange.stop)
    assert path.read_bytes() == DEMO.read_bytes()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "the request has other tools: recorded ['add'], live []"),
        (
            {"tools": [ToolSchema("add", "Other.", {})]},
            "the request has other tools: recorded ['add'], live ['add']; their descriptions or parameters differ",
        ),
        ({"tools": [ADD]}, "the request has another tool_choice: recorded 'auto', live None"),
        (
            {"tools": [ADD], "tool_choice": "auto", "max_tokens": 51},
            "the request has another max_tokens: recorded 50, live 51",
        ),
    ],
)
def test_a_replay_names_the_option_that_differs(recorded: Path, asked: dict[str, object], told: str) -> None:
    with pytest.raises(ReplayMismatch) as caught:
        ask(ReplayModel(recorded), TASK, **asked)
    assert str(caught.value) == told


def test_a_replay_names_the_part_of_a_message_that_differs(recorded: Path) -> None:
    other = Message("user", TASK.content, images=(Image(PNG + b"!"),))
    with pytest.raises(ReplayMismatch) as caught:
        ask(ReplayModel(recorded), other)
    assert str(caught.value) == "message 1 (user) has other images than the recorded one"


def test_an_image_that_cannot_be_is_refused(recorded: Path) -> None:
    text = recorded.read_text(encoding="utf-8").replace("image/webp", "text/html")
    recorded.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="an image is one of"):
        read_recording(recorded)


# --- the script -------------------------------------------------------------------------------------------------------


def test_a_line_may_be_calls_of_tools() -> None:
    call = ToolCallRequest("a", "add", {"n": 1})
    model = ScriptedModel([call, [call, ToolCallRequest("b", "add")]])
    first = ask(model, Message("user", "Add."), tools=[ADD])
    assert (first.tool_calls, first.finish_reason, first.text) == ((call,), "tool_calls", "")
    second = ask(model, Message("user", "Add."), first.message, Message("tool", "1", tool_call_id="a"))
    assert [made.id for made in second.tool_calls] == ["a", "b"]


def test_a_script_keeps_all_that_was_asked_for() -> None:
    model = ScriptedModel(["x"])
    ask(model, TASK, tools=[ADD], response_format=FORMAT, max_tokens=7)
    [request] = model.calls
    assert (request.messages, request.tools, request.response_format, request.max_tokens) == (
        (TASK,),
        (ADD,),
        FORMAT,
        7,
    )
