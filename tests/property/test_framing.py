"""Frames under arbitrary contents and arbitrary bytes."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import encode_frame, split_attachments, split_frame
from cloche.runtime.protocol import Output, ToolCall, Wait, parse_from_worker, render

MAX_BYTES = 10_000
FRAMES = st.one_of(
    st.builds(Output, stream=st.sampled_from(["stdout", "stderr"])),
    st.builds(
        ToolCall, id=st.integers(0, 2**53 - 1), name=st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
    ),
    st.builds(Wait, timeout_s=st.none() | st.floats(0, 1e9), any_result=st.booleans()),
)
ATTACHMENTS = st.lists(st.binary(max_size=50), max_size=5)


@given(st.binary(max_size=100), ATTACHMENTS)
def test_a_frame_comes_apart_as_it_was_put_together(header: bytes, attachments: list[bytes]) -> None:
    found, area = split_frame(encode_frame(header, attachments), max_bytes=MAX_BYTES)

    assert found == header
    assert [bytes(part) for part in split_attachments(area, list(map(len, attachments)))] == attachments


@given(FRAMES, ATTACHMENTS)
def test_a_rendered_frame_parses_to_itself(frame: Output | ToolCall | Wait, attachments: list[bytes]) -> None:
    parsed, parts = parse_from_worker(render(frame, tuple(attachments)), max_bytes=MAX_BYTES)

    assert parsed == dataclasses.replace(frame, attachments=tuple(map(len, attachments)))
    assert [bytes(part) for part in parts] == attachments


@given(st.binary(max_size=300))
@pytest.mark.guarantee("G18")
def test_random_bytes_give_a_protocol_error_and_nothing_else(frame: bytes) -> None:
    with suppress(ProtocolError):
        parse_from_worker(frame, max_bytes=MAX_BYTES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=5), values, max_size=4),
)
FIELDS = st.sampled_from(
    ["type", "id", "name", "stream", "attachments", "timeout_s", "any_result", "error", "artifacts"]
)
TYPES = st.sampled_from(["hello", "ready", "output", "tool_call", "tool_cancel", "wait", "result", "done", "file_done"])


@given(st.dictionaries(FIELDS, JSON | TYPES), TYPES, st.binary(max_size=20))
def test_any_json_as_a_header_gives_a_frame_or_a_protocol_error(
    header: dict[str, object], kind: str, area: bytes
) -> None:
    with suppress(ProtocolError):
        parse_from_worker(encode_frame(json.dumps({**header, "type": kind}).encode(), (area,)), max_bytes=MAX_BYTES)


@given(FRAMES, st.data())
def test_a_frame_with_one_byte_changed_gives_a_frame_or_a_protocol_error(
    frame: Output | ToolCall | Wait, data: st.DataObject
) -> None:
    raw = bytearray(render(frame, (b"abc",)))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    with suppress(ProtocolError):
        parse_from_worker(bytes(raw), max_bytes=MAX_BYTES)
