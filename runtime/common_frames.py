"""The frames that nearly every sandbox sends, read in one look.

The rule: the pattern takes only what the strict way, `parse_from_worker`, takes as well, and gives the very same. What
it does not match, wrong or merely rare, is not judged here: the strict way has the last word and the error. A property
test holds the two against each other. Why: a cell waits for its `result` and its `done`, a tool for its call, and one
look costs about half of what JSON and its checks do.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .framing import PREFIX
from .protocol import Done, FromWorker, Output, Ready, Result, ToolCall, parse_from_worker

_PARTS = {
    b"NUMBER": rb"(?:0|[1-9][0-9]{0,8})",  # below 10**9: inside every range of the protocol
    b"SECONDS": rb"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,20})?(?:e-[0-9]{1,2})?",
    b"TEXT": rb"[ !#-\[\]-~]",  # a character of ASCII that JSON does not escape
    b"ONE": rb"[1-9][0-9]{0,8}",
}
_KINDS = (
    rb'ready","attachments":\[(?P<ready>)',
    rb'output","stream":"(?P<stream>stdout|stderr)","attachments":\[(?P<output>ONE)',
    rb'tool_call","id":(?P<call>NUMBER),"name":"(?P<name>TEXT{0,256}+)","attachments":\[(?P<tool_call>ONE)',
    rb'result","has_value":(?P<has>true|false),"value_repr":(?:null|"(?P<repr>TEXT{0,1024}+)"),"value_error":null,'
    rb'"error":null,"interrupted":false,"ended_by_tool":false,"attachments":\[(?P<result>ONE|)',
    rb'done","id":(?P<cell>NUMBER),"cpu_s":(?P<cpu>SECONDS),"memory_bytes":(?P<memory>NUMBER),"artifacts":\[\],'
    rb'"artifacts_dropped":0,"attachments":\[(?P<done>)',
)
"""The last group of each is named for its type: the length of its attachment, or nothing where it has none. A text is
matched possessively (`+`): its class has no quote, so that going back in it finds nothing and only costs. One that is
long is quicker to read the strict way."""


def _pattern() -> re.Pattern[bytes]:
    text = rb'\{"type":"(?:' + b"|".join(_KINDS) + rb")\]\}"
    for name, part in _PARTS.items():
        text = text.replace(name, part)
    return re.compile(text)


_match = _pattern().fullmatch
_unpack = PREFIX.unpack_from
_Found = re.Match[bytes]
_Lengths = tuple[int, ...]


def read_frame(frame: bytes | memoryview, *, max_bytes: int) -> tuple[FromWorker, list[memoryview]]:
    """As `parse_from_worker`, sooner for the frames above.

    Raises:
        ProtocolError: whatever is wrong with it; the message never quotes the worker's bytes.
    """
    whole = len(frame)
    if whole >= PREFIX.size:
        length, header_length = _unpack(frame)
        end = PREFIX.size + header_length
        found = _match(frame, PREFIX.size, end) if length == whole - 4 and length <= max_bytes else None
        if found is not None:
            kind = str(found.lastgroup)  # there is one: each alternative ends in a group
            size = int(found[kind] or 0)
            if end + size == whole:
                lengths = (size,) if size else ()
                return _BUILD[kind](found, lengths), [memoryview(frame)[end:]] if size else []
    return parse_from_worker(frame, max_bytes=max_bytes)


def _ready(_found: _Found, _lengths: _Lengths) -> Ready:
    return Ready()


def _output(found: _Found, lengths: _Lengths) -> Output:
    return Output(stream="stdout" if found["stream"] == b"stdout" else "stderr", attachments=lengths)


def _tool_call(found: _Found, lengths: _Lengths) -> ToolCall:
    call_id, name = found.group("call", "name")
    return ToolCall(id=int(call_id), name=str(name, "ascii"), attachments=lengths)


def _result(found: _Found, lengths: _Lengths) -> Result:
    has_value, value_repr = found.group("has", "repr")
    return Result(
        has_value=has_value == b"true",
        value_repr=None if value_repr is None else str(value_repr, "ascii"),
        value_error=None,
        error=None,
        interrupted=False,
        ended_by_tool=False,
        attachments=lengths,
    )


def _done(found: _Found, _lengths: _Lengths) -> Done:
    cell, cpu_s, memory = found.group("cell", "cpu", "memory")
    return Done(id=int(cell), cpu_s=float(cpu_s), memory_bytes=int(memory), artifacts=(), artifacts_dropped=0)


_BUILD: dict[str, Callable[[_Found, _Lengths], FromWorker]] = {
    "ready": _ready,
    "output": _output,
    "tool_call": _tool_call,
    "result": _result,
    "done": _done,
}
