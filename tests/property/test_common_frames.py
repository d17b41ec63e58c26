"""The quick way to read a frame says what the strict one says: the same record and parts, or the same refusal."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.runtime import common_frames
from cloche.runtime.common_frames import read_frame
from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import encode_frame
from cloche.runtime.protocol import FromWorker, parse_from_worker

Header = dict[str, object]
Headers = st.SearchStrategy[Header]
MAX_BYTES = 100_000
NUMBERS = st.one_of(
    st.integers(-2, 2**54),
    st.sampled_from([0, 10**9 - 1, 10**9, 2**31, 2**32 - 1, 2**32, 2**40, 2**53 - 1, 2**53]),
    st.floats(),
    st.booleans(),
)
SECONDS = st.one_of(st.floats(0, 100), st.sampled_from([0, 1, 5e-05, 1e12, 1e11, 5e-324, -0.0, -1.0]), st.floats())
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(max_codepoint=127), max_size=300),
    st.sampled_from(["a" * 256, "a" * 257, "a" * 16_384, "a" * 16_385, 'say "x"', "back\\slash", "\x7f", "\x1f", "é"]),
)
ODD = st.none() | st.booleans() | st.text(max_size=3) | st.integers(-1, 3)


def headers(kind: str, **fields: st.SearchStrategy[object]) -> Headers:
    """Headers of this kind, its fields in their usual order, now and then one of them odd or missing."""
    right: Headers = st.fixed_dictionaries({"type": st.just(kind), **fields})
    names = st.sampled_from(["type", *fields])
    return st.one_of(right, right, st.builds(odd, right, names, ODD), st.builds(short, right, names), right.map(turned))


def odd(header: Header, name: str, value: object) -> Header:
    return {**header, name: value}


def short(header: Header, name: str) -> Header:
    return {key: header[key] for key in header if key != name}


def turned(header: Header) -> Header:
    return dict(reversed(header.items()))


HEADERS = st.one_of(
    headers("ready"),
    headers("output", stream=st.sampled_from(["stdout", "stderr", "stdin"])),
    headers("tool_call", id=NUMBERS, name=TEXTS),
    headers("tool_start", id=NUMBERS, name=TEXTS),
    headers("tool_cancel", id=NUMBERS),
    headers(
        "result",
        has_value=st.booleans(),
        value_repr=st.none() | TEXTS,
        value_error=st.none() | TEXTS,
        error=st.none() | st.just({"type": "E", "message": "", "traceback": "", "line": 1}),
        interrupted=st.booleans(),
        ended_by_tool=st.booleans(),
    ),
    headers(
        "result",
        has_value=st.booleans(),
        value_repr=st.none() | TEXTS,
        value_error=st.none(),
        error=st.none(),
        interrupted=st.just(False),
        ended_by_tool=st.just(False),
    ),
    headers(
        "done",
        id=NUMBERS,
        cpu_s=SECONDS,
        memory_bytes=NUMBERS,
        artifacts=st.sampled_from([[], [], [{"path": "/out/a"}]]),
        artifacts_dropped=st.sampled_from([0, 0, 1]),
    ),
)
ONE_PART = st.lists(st.binary(max_size=20), min_size=1, max_size=1)
PARTS: st.SearchStrategy[list[bytes]] = st.one_of(st.just([]), ONE_PART, st.lists(st.binary(), max_size=3))
LENGTHS = st.one_of(st.none(), st.lists(NUMBERS, max_size=3), ODD)


def whatever_comes(frame: bytes | memoryview, *, quick: bool, max_bytes: int = MAX_BYTES) -> object:
    """Record, parts, or the text of the refusal."""
    read = read_frame if quick else parse_from_worker
    try:
        record, parts = read(frame, max_bytes=max_bytes)
    except ProtocolError as exc:
        return type(exc), str(exc)
    return type(record), exactly(record), [bytes(part) for part in parts]


def exactly(record: FromWorker) -> str:
    """1 and 1.0 and True are equal, and are not the same."""
    return repr(record)


def text_of(header: object, separators: tuple[str, str], ascii_only: bool) -> bytes:
    return json.dumps(header, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@given(HEADERS, PARTS, LENGTHS, st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")]), st.booleans())
@pytest.mark.guarantee("G18")
def test_both_ways_say_the_same_of_every_header(
    header: dict[str, object], parts: list[bytes], lengths: object, separators: tuple[str, str], ascii_only: bool
) -> None:
    header = {**header, "attachments": [len(part) for part in parts] if lengths is None else lengths}

    frame = encode_frame(text_of(header, separators, ascii_only), parts)

    assert whatever_comes(frame, quick=True) == whatever_comes(frame, quick=False)


GOOD = (
    b'{"type":"ready","attachments":[]}',
    b'{"type":"output","stream":"stdout","attachments":[4]}',
    b'{"type":"tool_call","id":7,"name":"price","attachments":[4]}',
    b'{"type":"result","has_value":true,"value_repr":"4","value_error":null,"error":null,"interrupted":false,'
    b'"ended_by_tool":false,"attachments":[4]}',
    b'{"type":"result","has_value":false,"value_repr":null,"value_error":null,"error":null,"interrupted":false,'
    b'"ended_by_tool":false,"attachments":[]}',
    b'{"type":"done","id":3,"cpu_s":0.00015,"memory_bytes":31457280,"artifacts":[],"artifacts_dropped":0,'
    b'"attachments":[]}',
    b'{"type":"done","id":0,"cpu_s":9.5e-05,"memory_bytes":0,"artifacts":[],"artifacts_dropped":0,"attachments":[]}',
)


@given(st.sampled_from(GOOD), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
@pytest.mark.guarantee("G18")
def test_both_ways_say_the_same_of_a_good_header_with_a_few_bytes_changed(
    header: bytes, at: int, put: bytes, taken: int
) -> None:
    header = header[:at] + put + header[at + taken :]

    for body in (b"", b"abcd"):
        frame = encode_frame(header, [body])
        assert whatever_comes(frame, quick=True) == whatever_comes(frame, quick=False)


@given(st.sampled_from(GOOD), st.integers(-12, 12), st.integers(-12, 12), st.integers(-3, 3), st.integers(0, 200))
@pytest.mark.guarantee("G18")
def test_both_ways_say_the_same_of_lengths_that_do_not_fit(
    header: bytes, longer: int, header_longer: int, more: int, max_bytes: int
) -> None:
    body = b"abcd" * (b"[4]" in header)
    frame = encode_frame(header, [body + b"x" * max(more, 0)])[: more or None if more < 0 else None]
    length, header_length = struct.unpack_from("<II", frame)
    frame = struct.pack("<II", max(length + longer, 0), max(header_length + header_longer, 0)) + frame[8:]

    for allowed in (max_bytes, MAX_BYTES):
        quick = whatever_comes(frame, quick=True, max_bytes=allowed)
        assert quick == whatever_comes(frame, quick=False, max_bytes=allowed)


@pytest.mark.parametrize("header", GOOD)
def test_what_guests_usually_send_needs_no_strict_way(header: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode_frame(header, [b"abcd"] if b"[4]" in header else [])
    expected = whatever_comes(frame, quick=False)
    monkeypatch.delattr(common_frames, "parse_from_worker")

    assert whatever_comes(frame, quick=True) == expected
    assert whatever_comes(memoryview(frame), quick=True) == expected
