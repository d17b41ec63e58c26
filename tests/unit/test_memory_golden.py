"""The memory format, version 1, as files that stay: whoever changes the format without a new version is told here.

When a test of this file fails after a change of `RunResult`, `Cell`, `Message` or anything else that a run keeps: users
have files of version 1. Raise `memory.VERSION`, say in CHANGELOG.md what no longer loads, write new golden files with
the new number beside these, and turn the test of these into one that says how they are refused (or read).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import cast, get_args

from tests.support.memory_golden import LOOKS_LIKE_JSON, VALUES, golden_conversation, golden_run

from cloche import RunResult
from cloche.agents import memory
from cloche.agents.memory import conversation_from_json, conversation_to_json, run_from_json, run_to_json
from cloche.agents.memory_records import fields_of

FILES = Path(__file__).parents[1] / "memory_files"
RUN = (FILES / "run_v1.json").read_text(encoding="utf-8")
CONVERSATION = (FILES / "conversation_v1.json").read_text(encoding="utf-8")


def test_the_golden_run_is_read_as_what_it_was_written_from() -> None:
    read = run_from_json(RUN)
    assert read == golden_run()
    assert repr(read.output) == repr(VALUES), "types differ where values are equal: 1, True and 1.0"
    assert [step for step in read.trace if step in read.steps] == list(read.steps)
    assert read.metadata == golden_run().metadata


def test_the_golden_run_is_written_again_byte_for_byte() -> None:
    assert run_to_json(run_from_json(RUN)) == RUN
    assert run_to_json(golden_run()) == RUN


def test_the_golden_conversation_is_read_and_written_again_byte_for_byte() -> None:
    messages, results = conversation_from_json(CONVERSATION)
    assert (messages, results) == golden_conversation()
    assert conversation_to_json(messages, results) == CONVERSATION


def test_the_golden_files_are_of_the_version_that_is_written_today() -> None:
    assert [json.loads(text)["version"] for text in (RUN, CONVERSATION)] == [memory.VERSION, memory.VERSION]


def test_texts_that_look_like_json_are_texts_in_the_file_too() -> None:
    output = json.loads(RUN)["run"]["output"]
    assert output["texts"] == list(LOOKS_LIKE_JSON)


def test_every_field_of_every_record_is_used_in_the_golden_files() -> None:
    """Otherwise a change of that field could pass unseen."""
    used: dict[type, set[str]] = {}
    _note_fields(conversation_from_json(CONVERSATION), used)
    assert {kind: names for kind, names in used.items() if names != fields_of(kind).keys()} == {}
    assert _records_of(RunResult, set()) == used.keys()


def _note_fields(value: object, used: dict[type, set[str]]) -> None:
    """Which fields of which records have anything in them, somewhere in the value."""
    if isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            _note_fields(item, used)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: cast("object", getattr(value, name)) for name in fields_of(type(value))}
        used.setdefault(type(value), set()).update(name for name, part in fields.items() if part)
        for part in fields.values():
            _note_fields(part, used)


def _records_of(hint: object, found: set[type]) -> set[type]:
    """The records that an annotation names, those in their fields included."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in found:
        found.add(hint)
        for part in fields_of(hint).values():
            _records_of(part, found)
    for part in get_args(hint):
        _records_of(part, found)
    return found
