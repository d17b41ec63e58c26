"""Scripted, recording and replaying models: what is said when, and what makes a replay fail."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from cloche.agents.errors import ModelError, ModelUnavailable, ReplayMismatch
from cloche.agents.messages import Message, ModelReply, TokenUsage
from cloche.agents.model import Model
from cloche.agents.models.conversation import read_recording
from cloche.agents.models.recording import RecordingModel
from cloche.agents.models.replay import ReplayModel
from cloche.agents.models.scripted import ScriptedModel
from cloche.runtime.errors import ConfigError

SYSTEM = Message("system", "s")
TASK = Message("user", "What is it?")
USAGE = TokenUsage(input_tokens=3, output_tokens=2, cached_tokens=1)


def ask(model: Model, *messages: Message, stop: tuple[str, ...] = ()) -> ModelReply:
    async def main() -> ModelReply:
        return await model.complete(messages, stop=stop)

    return anyio.run(main)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A conversation of two replies."""
    path = tmp_path / "talk.json"
    inner = ScriptedModel(
        [ModelReply(text='first "é"\n', usage=USAGE), ModelReply(text="second", finish_reason="length")], name="real"
    )
    model = RecordingModel(inner, path)
    ask(model, SYSTEM, TASK)
    ask(model, SYSTEM, TASK, Message("assistant", 'first "é"\n'), Message("user", "Output:\n42\nGo on."))
    return path


def mismatch(path: Path, *messages: Message, stop: tuple[str, ...] = ()) -> str:
    with pytest.raises(ReplayMismatch) as caught:
        ask(ReplayModel(path), *messages, stop=stop)
    return str(caught.value)


# --- scripted ---------------------------------------------------------------------------------------------------------


def test_the_line_depends_on_the_conversation_so_runs_may_be_mixed() -> None:
    model = ScriptedModel(["one", "two"])
    later = (TASK, Message("assistant", "one"), Message("user", "and?"))
    assert [ask(model, *talk).text for talk in ((TASK,), later, (TASK,))] == ["one", "two", "one"]
    assert model.requests == [(TASK,), later, (TASK,)]


def test_a_script_that_is_over_is_an_error() -> None:
    with pytest.raises(ModelError, match="the script has 0 lines and the model was asked for one more"):
        ask(ScriptedModel([]), TASK)


def test_a_line_may_be_an_error_or_a_function() -> None:
    with pytest.raises(ModelUnavailable):
        ask(ScriptedModel([ModelUnavailable("down")]), TASK)
    assert ask(ScriptedModel([lambda messages: messages[-1].content.upper()]), TASK).text == "WHAT IS IT?"


def test_words_are_counted_as_tokens() -> None:
    assert ask(ScriptedModel(["two words"]), SYSTEM, TASK).usage == TokenUsage(input_tokens=4, output_tokens=2)


# --- recording and replay ---------------------------------------------------------------------------------------------


def test_a_replay_gives_each_reply_whole(recorded: Path) -> None:
    model = ReplayModel(recorded)
    assert model.name == "real"
    first = ask(model, SYSTEM, TASK)
    assert first == ModelReply(text='first "é"\n', usage=USAGE)
    second = ask(model, SYSTEM, TASK, Message("assistant", first.text), Message("user", "Output:\n42\nGo on."))
    assert second == ModelReply(text="second", finish_reason="length")


def test_a_recording_holds_what_was_said_and_nothing_else(recorded: Path) -> None:
    found = json.loads(recorded.read_text(encoding="utf-8"))
    assert sorted(found) == ["exchanges", "format", "model", "version"]
    assert found["exchanges"][0] == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "What is it?"}],
        "stop": [],
        "text": 'first "é"\n',
        "finish_reason": "stop",
        "usage": {"input_tokens": 3, "output_tokens": 2, "cached_tokens": 1, "reasoning_tokens": 0},
    }
    assert [path.name for path in recorded.parent.iterdir()] == ["talk.json"]


def test_an_error_of_the_inner_model_is_passed_on_and_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    model = RecordingModel(ScriptedModel([ModelUnavailable("down")]), path)
    with pytest.raises(ModelUnavailable):
        ask(model, TASK)
    assert not path.exists()


def test_a_replay_shows_the_first_character_that_differs(recorded: Path) -> None:
    talk = (SYSTEM, TASK, Message("assistant", 'first "é"\n'), Message("user", "Output:\n43\nGo on."))
    assert mismatch(recorded, *talk) == (
        "message 4 (user) differs from the recorded one at character 9, line 2:\n"
        "  recorded: 'Output:\\n42\\nGo on.'\n"
        "  live:     'Output:\\n43\\nGo on.'"
    )


def test_a_replay_compares_with_the_closest_request(recorded: Path) -> None:
    assert mismatch(recorded, SYSTEM, Message("user", "What?")).startswith("message 2 (user) differs")
    assert mismatch(recorded, Message("system", "t"), TASK).startswith("message 1 (system) differs")


def test_a_longer_message_differs_where_the_recorded_one_ends(recorded: Path) -> None:
    assert "at character 11, line 1" in mismatch(recorded, SYSTEM, Message("user", TASK.content + " Now."))


def test_a_replay_names_other_differences(recorded: Path) -> None:
    over = (SYSTEM, TASK, Message("assistant", 'first "é"\n'), Message("user", "Output:\n42\nGo on."))
    assert mismatch(recorded, *over, Message("assistant", "second"), TASK) == (
        "the recording ends: no reply to a request of 6 messages, the closest has 4"
    )
    assert mismatch(recorded, SYSTEM) == "the request has 1 messages, the closest recorded one 2"
    assert mismatch(recorded, SYSTEM, TASK, stop=("END",)) == (
        "the request has other stop sequences: recorded [], live ['END']"
    )
    assert mismatch(recorded, SYSTEM, Message("assistant", TASK.content)) == (
        "message 2 is of 'assistant', recorded was one of 'user'"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "other", "version": 1, "model": "m", "exchanges": []}',
        '{"format": "cloche-conversation", "version": 3, "model": "m", "exchanges": []}',
        '{"format": "cloche-conversation", "version": 1, "model": "m", "exchanges": [{"text": 5}]}',
        '{"format": "cloche-conversation", "version": 1, "model": "m", "exchanges": [], "more": 1}',
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="no recording"):
        read_recording(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recording"):
        ReplayModel(tmp_path / "none.json")
