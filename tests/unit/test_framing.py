"""Frames as bytes: what is taken, and what is refused by its lengths alone."""

from __future__ import annotations

import struct

import pytest

from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import (
    MAX_ATTACHMENTS,
    MAX_HEADER_BYTES,
    check_lengths,
    encode_frame,
    split_attachments,
    split_frame,
)


def test_a_frame_is_two_lengths_the_header_and_the_attachments() -> None:
    frame = encode_frame(b"{}", (b"ab", b"", b"c"))

    assert frame == struct.pack("<II", 4 + 2 + 3, 2) + b"{}abc"
    header, area = split_frame(frame, max_bytes=100)
    assert (header, [bytes(part) for part in split_attachments(area, (2, 0, 1))]) == (b"{}", [b"ab", b"", b"c"])


def test_attachments_are_views_and_no_copies() -> None:
    _, area = split_frame(encode_frame(b"{}", (b"x" * 10,)), max_bytes=100)

    assert split_attachments(area, (10,))[0].obj is area.obj


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "frame of 0 bytes is shorter than its prefix"),
        (b"\0" * 7, "frame of 7 bytes is shorter than its prefix"),
        (struct.pack("<II", 3, 0), "header of 0 bytes in a frame of 3"),
        (struct.pack("<II", 4, 1), "header of 1 bytes in a frame of 4"),
        (struct.pack("<II", 2**32 - 1, 2), "frame of 4294967295 bytes, 100 are allowed"),
        (struct.pack("<II", 50, 2**32 - 1), "header of 4294967295 bytes in a frame of 50"),
        (encode_frame(b"{}")[:-1], "frame says 6 bytes and has 5"),
        (encode_frame(b"{}") + b"x", "frame says 6 bytes and has 7"),
    ],
)
def test_a_frame_whose_lengths_do_not_fit_is_refused(frame: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_frame(frame, max_bytes=100)

    assert str(caught.value) == message


def test_a_header_has_its_own_bound() -> None:
    check_lengths(MAX_HEADER_BYTES + 4, MAX_HEADER_BYTES, max_bytes=2**32)
    with pytest.raises(ProtocolError):
        check_lengths(MAX_HEADER_BYTES + 5, MAX_HEADER_BYTES + 1, max_bytes=2**32)


@pytest.mark.parametrize("lengths", [(4,), (1,), (1, 1), (-1, 4), (2, 2), (), (0,) * (MAX_ATTACHMENTS + 1)])
def test_attachment_lengths_must_fill_the_area_exactly(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        split_attachments(memoryview(b"abc"), lengths)
