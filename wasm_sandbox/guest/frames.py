"""The guest's frames: built from templates, read with the C JSON scanner. No pydantic inside the sandbox.

Layout and meaning are those of `runtime/framing.py` and `runtime/protocol.py`; a test parses each of these with the
host's models. Rule: "type" comes first in a header, so that a relay can tell frames apart by their first bytes. Frames
from the host are trusted.
"""

from __future__ import annotations

import json
import marshal  # noqa: TID251  # reads what the host wrote, and writes plain scalars
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...runtime import values
else:
    from . import values

_PREFIX = struct.Struct("<II")
_pack = _PREFIX.pack
_unpack = _PREFIX.unpack_from
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_quote = json.encoder.encode_basestring
_load_plain = marshal.loads  # noqa: S302
_dump_plain = marshal.dumps
_type_of: Callable[[object], type] = type
_decode_value = values.decode
_FROM_HOST = values.ValueLimits(size=2**40, depth=500, digits=200_000)
"""The host has checked its own values; these bounds only keep the decoder's arithmetic finite."""
_LONGEST_WAIT_S = 86_400.0
_MOST_USED = 10**19
"""Whatever was asked for, the host takes a number up to this."""
_GOOD = b'"ok":true,"end_cell":false}'
"""How the host's `tool_result` header ends when all is well; such a frame has one attachment."""
NOT_GOOD = object()
_CELL = re.compile(rb'\{"type":"cell","attachments":\[(\d+),\d+\],"id":\d+,"output_bytes":(\d+),').match
"""How the host's `render_cell` begins."""
_NOTHING = len(b"\0{0")
"""Bytes of an encoded empty dict; every other one is longer."""
_NO_ITEMS = len(b"\0[\0\0\0\0")
"""The same of a list."""
SMALL_COST = 320
"""Of `value_bytes`: what a small value takes at most. Of the smallest limit a third."""
_SMALL_TEXT = SMALL_COST - 64
_LEAST_INT, _MOST_INT = -(1 << 31), (1 << 31) - 1
_SCALARS = frozenset((float, bool, type(None)))
_COPIED = 4096
"""Up to this many bytes a copy is faster made than a view."""
_VALUE = (
    b'{"type":"result","has_value":true,"value_repr":%b,"value_error":null,"error":null,"interrupted":false,'
    b'"ended_by_tool":false,"attachments":[%d]}'
)


def frame(header: bytes, attachment: bytes = b"") -> bytes:
    """A whole frame. Guest frames have at most one attachment; the header already lists its length."""
    size = len(header)
    return _pack(4 + size + len(attachment), size) + header + attachment


def parse(message: bytes) -> tuple[dict[str, Any], list[memoryview]]:
    """Header and attachments of a frame from the host."""
    _, size = _unpack(message)
    at = 8 + size
    header: dict[str, Any] = _scan(str(message[8:at], "utf-8"), 0)[0]
    view = memoryview(message)
    parts: list[memoryview] = []
    for length in header["attachments"]:
        parts.append(view[at : at + length])
        at += length
    return header, parts


def common_cell(message: bytes) -> tuple[str, dict[str, Any], int] | None:
    """Source, inputs and output bytes of a `cell` frame as the host writes it; None for all else, which `parse` takes.
    Everybody waits for this frame, and one look costs a third of what JSON does."""
    found = _CELL(message, 8)
    if found is None:
        return None
    source_bytes, output_bytes = found.group(1, 2)
    at = 8 + _unpack(message)[1]
    end = at + int(source_bytes)
    inputs: dict[str, Any] = {} if len(message) - end == _NOTHING else decode(memoryview(message)[end:])
    return str(message[at:end], "utf-8"), inputs, int(output_bytes)


def decode(part: memoryview) -> Any:
    """A value that the host encoded."""
    if part[0] == values.PLAIN:
        return _load_plain(part[1:])
    return _decode_value(part, _FROM_HOST)


def is_empty_list(part: memoryview) -> bool:
    """Told by its length, of a list that the host encoded."""
    return len(part) == _NO_ITEMS


def good_result(reply: bytes) -> Any:
    """The value in the `tool_result` of a call that succeeded, told by the header's end; NOT_GOOD for all others."""
    at = 8 + _unpack(reply)[1]
    if not reply.endswith(_GOOD, 8, at):
        return NOT_GOOD
    if reply[at] == values.PLAIN:
        return _load_plain(reply[at + 1 :] if len(reply) < _COPIED else memoryview(reply)[at + 1 :])
    return decode(memoryview(reply)[at:])


def is_small(value: object) -> bool:
    """Whether the value is of an exact scalar type, so that none of its code runs, and within every limit on values."""
    kind = _type_of(value)
    if kind is int:
        return _LEAST_INT <= value <= _MOST_INT  # type: ignore[operator]  # narrowed by `kind`, as below
    if kind is str:
        return len(value) <= _SMALL_TEXT and value.isascii()  # type: ignore[arg-type,attr-defined]
    return kind in _SCALARS


def encode_small(value: object) -> bytes:
    """A value that `is_small`, or a list or dict of a few of them, as `values.encode` writes it."""
    return b"\0" + _dump_plain(value, 2)  # type: ignore[arg-type]  # what marshal takes


def call_template(kind: bytes, name: str) -> bytes:
    """Header of `tool_call` or `tool_start` with room (%d) for the id and the attachment's length."""
    quoted = _quote(name).encode().replace(b"%", b"%%")
    return b'{"type":"' + kind + b'","id":%d,"name":' + quoted + b',"attachments":[%d]}'


def tool_cancel(call_id: int) -> bytes:
    return frame(b'{"type":"tool_cancel","id":%d,"attachments":[]}' % call_id)


def wait(timeout_s: float | None, *, any_result: bool) -> bytes:
    """`None`: no timer is pending."""
    text = "null" if timeout_s is None else repr(float(min(max(timeout_s, 0.0), _LONGEST_WAIT_S)))
    flag = "true" if any_result else "false"
    return frame(f'{{"type":"wait","timeout_s":{text},"any_result":{flag},"attachments":[]}}'.encode())


def output(stream: bytes, data: bytes) -> bytes:
    return frame(b'{"type":"output","stream":"%b","attachments":[%d]}' % (stream, len(data)), data)


def guest_limit(limit: str, used: float) -> bytes:
    """A limit that we kept to by an exception, for the host's record of the cell."""
    text = repr(float(min(used, _MOST_USED)))
    return frame(f'{{"type":"guest_limit","limit":"{limit}","used":{text},"attachments":[]}}'.encode())


def result(outcome: Outcome) -> bytes:
    """How the cell ended. Every text in `outcome` is already bounded and encodable."""
    attachment = outcome.value
    if outcome.error is None and outcome.value_error is None and not outcome.interrupted and not outcome.ended_by_tool:
        if attachment is None and outcome.value_repr is None:
            return _NO_VALUE
        if attachment is not None and outcome.value_repr is not None:
            return frame(_VALUE % (_quote(outcome.value_repr).encode(), len(attachment)), attachment)
    return _any_result(outcome, attachment)


def _any_result(outcome: Outcome, attachment: bytes | None) -> bytes:
    header = (
        f'{{"type":"result","has_value":{_bool(attachment is not None)},'
        f'"value_repr":{_text(outcome.value_repr)},"value_error":{_text(outcome.value_error)},'
        f'"error":{_error(outcome.error)},"interrupted":{_bool(outcome.interrupted)},'
        f'"ended_by_tool":{_bool(outcome.ended_by_tool)},'
        f'"attachments":[{"" if attachment is None else len(attachment)}]}}'
    )
    return frame(header.encode(), attachment or b"")


class Failure:
    """An exception as bounded text: the fields of `GuestError`."""

    __slots__ = ("line", "message", "traceback", "type")

    def __init__(self, type_name: str, message: str, traceback: str, line: int | None) -> None:
        self.type = type_name
        self.message = message
        self.traceback = traceback
        self.line = line


class Outcome:
    """What a cell came to, collected by the runner."""

    value: bytes | None = None
    """The encoded value of the last expression, if it has one that crosses."""
    value_repr: str | None = None
    value_error: str | None = None
    error: Failure | None = None
    interrupted = False
    ended_by_tool = False


def _bool(flag: bool) -> str:
    return "true" if flag else "false"


def _text(text: str | None) -> str:
    return "null" if text is None else _quote(text)


def _error(failure: Failure | None) -> str:
    if failure is None:
        return "null"
    line = "null" if failure.line is None else failure.line
    return (
        f'{{"type":{_quote(failure.type)},"message":{_quote(failure.message)},'
        f'"traceback":{_quote(failure.traceback)},"line":{line}}}'
    )


_NO_VALUE = _any_result(Outcome(), None)
