"""Server-sent events, cut into pieces at every place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.chat_server import chunk, events, usage_chunk

from cloche.agents.models.sse import EventTooLong, SseEvent, SseReader

STREAM = (
    b"\xef\xbb\xbf: hello\n\ndata: one\n\nevent: error\r\ndata:two\r\ndata: 2\r\n\r\n"
    b"id: 5\rdata: \xe6\x97\xa5\xe6\x9c\xac \r\rretry: 3\n\n: keep-alive\n\nevent: lonely\n\ndata\n\ndata: left over\n"
)
FOUND = [
    SseEvent(b"", b"one"),
    SseEvent(b"error", b"two\n2"),
    SseEvent(b"", "日本 ".encode()),
]


def read(*pieces: bytes, max_event_bytes: int = 10_000) -> list[SseEvent]:
    reader = SseReader(max_event_bytes)
    return [event for piece in pieces for event in reader.feed(piece)]


def test_events_are_read_with_every_kind_of_line_end() -> None:
    assert read(STREAM) == FOUND


def test_a_stream_is_the_same_wherever_it_is_cut_in_two() -> None:
    for at in range(len(STREAM) + 1):
        assert read(STREAM[:at], STREAM[at:]) == FOUND


def test_a_stream_is_the_same_byte_by_byte() -> None:
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == FOUND


@given(st.lists(st.integers(0, 400)), st.text(max_size=60))
def test_chunks_are_the_same_however_they_are_cut(cuts: list[int], text: str) -> None:
    whole = events(b": ping\n\n", chunk(text), usage_chunk())
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    pieces = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert b"".join(pieces) == whole
    assert read(*pieces) == read(whole)


@given(st.lists(st.binary(max_size=40)))
def test_no_bytes_break_the_reader(pieces: list[bytes]) -> None:
    assert read(*pieces) == read(b"".join(pieces))


def test_an_event_that_grows_too_long_is_refused_before_it_ends() -> None:
    reader = SseReader(1000)
    assert reader.feed(b"data: " + b"x" * 900) == []
    with pytest.raises(EventTooLong):
        reader.feed(b"x" * 100)


def test_an_event_of_very_many_empty_lines_is_refused() -> None:
    with pytest.raises(EventTooLong):
        read(b"data\n" * 1000)


def test_comments_may_go_on_for_ever() -> None:
    assert read(*[b": keep-alive\n\n"] * 10_000, b"data: x\n\n", max_event_bytes=100) == [SseEvent(b"", b"x")]
    assert read(*[b": keep-alive\n"] * 10_000, b"data: x\n\n", max_event_bytes=100) == [SseEvent(b"", b"x")]
