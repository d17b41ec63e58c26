"""Frames as bytes: u32 LE length, u32 LE header length, UTF-8 JSON header, raw attachments.

The first length counts everything after itself. Nothing is allocated before its length was checked against the caller's
bound. This file knows nothing of what a header means; `protocol.py` does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .errors import FrameTooLarge, ProtocolError

MAX_HEADER_BYTES = 512 * 1024
"""Headers hold ids, names and short texts; everything large is an attachment."""
MAX_ATTACHMENTS = 1024
PREFIX = struct.Struct("<II")


def encode_frame(header: bytes, attachments: Sequence[bytes] = ()) -> bytes:
    """One frame. The header must already list the attachments' lengths."""
    body = sum(map(len, attachments))
    return b"".join((PREFIX.pack(4 + len(header) + body, len(header)), header, *attachments))


def split_frame(frame: bytes | memoryview, *, max_bytes: int) -> tuple[bytes, memoryview]:
    """Header bytes and the attachments' area of one whole frame.

    Raises:
        ProtocolError: the lengths do not fit the bytes, or the frame is longer than `max_bytes`.
    """
    if len(frame) < PREFIX.size:
        raise ProtocolError(f"frame of {len(frame)} bytes is shorter than its prefix")
    length, header_length = PREFIX.unpack_from(frame)
    if length > max_bytes or header_length > MAX_HEADER_BYTES or header_length + 4 > length:
        check_lengths(length, header_length, max_bytes=max_bytes)  # says which
    if length != len(frame) - 4:
        raise ProtocolError(f"frame says {length} bytes and has {len(frame) - 4}")
    view = memoryview(frame)
    end = PREFIX.size + header_length
    return bytes(view[PREFIX.size : end]), view[end:]


def check_lengths(length: int, header_length: int, *, max_bytes: int) -> None:
    """Refuse a frame by its two lengths alone, before a byte of it is read or stored."""
    if length > max_bytes:
        raise FrameTooLarge(length, max_bytes)
    if header_length > MAX_HEADER_BYTES or header_length + 4 > length:
        raise ProtocolError(f"header of {header_length} bytes in a frame of {length}")


def split_attachments(area: memoryview, lengths: Sequence[int]) -> list[memoryview]:
    """The attachments, without copying. They must fill the area exactly."""
    if len(lengths) > MAX_ATTACHMENTS:
        raise ProtocolError(f"{len(lengths)} attachments, {MAX_ATTACHMENTS} are allowed")
    parts: list[memoryview] = []
    start = 0
    for length in lengths:
        if length < 0 or start + length > len(area):
            raise ProtocolError("attachment lengths do not fit the frame")
        parts.append(area[start : start + length])
        start += length
    if start != len(area):
        raise ProtocolError(f"{len(area) - start} bytes after the last attachment")
    return parts
