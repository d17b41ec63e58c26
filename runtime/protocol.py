"""Every frame between host and worker: the only definition, for both engines.

Transport: framing.py. Turn rule: the host sends `start`, `cell` or a file request, one at a time, and the worker
answers with exactly one `ready`, `done` or `file_done` for it. While a cell runs the worker may send any number of
`output`, `tool_call`, `tool_start`, `tool_cancel`, `wait`, `guest_limit`, `engine_limit` and at most one `result`; the
host answers `tool_call` with
`tool_result` and `wait` with `wake`, and the worker sends nothing between such a question and its answer. `hello` is
the first frame of a worker's life. The interrupt does not travel here: it is one byte on the control channel.

Evolution: every field is always present; a change of any field is a new PROTOCOL_VERSION, and both sides refuse
another. A frame from a worker is hostile: parse it with `parse_from_worker`, which raises ProtocolError and nothing
else. Values in attachments are encoded by values.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, get_args

from .errors import ProtocolError
from .framing import MAX_ATTACHMENTS, encode_frame, split_attachments, split_frame
from .plain import record
from .records import Longest, Range, Record, TaggedRecord, WrongRecord, dump, read_tagged

PROTOCOL_VERSION: Final = 1

Id = Annotated[int, Range(0, 2**53)]
ShortText = Annotated[str, Longest(4096)]


@record(kw_only=True)
class Frame(TaggedRecord):
    """Common to all frames."""

    attachments: Annotated[tuple[Annotated[int, Range(0, 2**32)], ...], Longest(MAX_ATTACHMENTS)] = ()
    """Lengths of the raw parts that follow the header, in bytes."""


# --- host to worker ---------------------------------------------------------------------------------------------------


@record(kw_only=True)
class Start(Frame):
    """Turns a warm worker into the sandbox of one tenant. Attachments: the tools' stubs as a value."""

    type: ClassVar[str] = "start"
    protocol_version: int
    seed: str
    """64 hex digits: the World's key for randomness inside this sandbox."""
    memory_bytes: int
    files: int
    file_bytes: int
    tasks: int
    value_bytes: int
    int_digits: int
    value_depth: int


@record(kw_only=True)
class RunCell(Frame):
    """Run one cell. Attachments: source (UTF-8), inputs (a value: dict of names)."""

    type: ClassVar[str] = "cell"
    id: Id
    output_bytes: int
    artifacts: int
    artifact_bytes: int
    cpu_s: Annotated[float, Range(0, 1e12)] = 30.0
    """The kernel ends the worker at this CPU time, a little late; the host's own watch comes first."""


@record(kw_only=True)
class ToolResult(Frame):
    """Answer to `tool_call`. Attachment: the result, or `[type, message]` of the error, as a value."""

    type: ClassVar[str] = "tool_result"
    id: Id
    ok: bool
    end_cell: bool = False
    """The cell ends here, quietly (final answers)."""


@record(kw_only=True)
class ToolOutcome(Record):
    """One finished `.aio` call inside `wake`; its value is the attachment at the same index."""

    id: Id
    ok: bool
    end_cell: bool = False


@record(kw_only=True)
class Wake(Frame):
    """Answer to `wait`. Attachments: one value per result, as in `tool_result`."""

    type: ClassVar[str] = "wake"
    results: tuple[ToolOutcome, ...]


@record(kw_only=True)
class WriteFile(Frame):
    """Attachment: the bytes. Parent directories are made."""

    type: ClassVar[str] = "write_file"
    path: ShortText


@record(kw_only=True)
class ReadFile(Frame):
    type: ClassVar[str] = "read_file"
    path: ShortText


@record(kw_only=True)
class ListFiles(Frame):
    """The plain files that the guest or `write_file` made."""

    type: ClassVar[str] = "list_files"


# --- worker to host ---------------------------------------------------------------------------------------------------


@record(kw_only=True)
class Hello(Frame):
    type: ClassVar[str] = "hello"
    protocol_version: int
    engine: Annotated[str, Longest(64)]
    image: Annotated[str, Longest(64)]
    """sha256 of the image that the worker runs."""


@record(kw_only=True)
class Ready(Frame):
    type: ClassVar[str] = "ready"


@record(kw_only=True)
class Output(Frame):
    """What the guest printed, as it printed it. Attachment: UTF-8 text."""

    type: ClassVar[str] = "output"
    stream: Literal["stdout", "stderr"]


@record(kw_only=True)
class ToolCall(Frame):
    """Blocking call. Attachment: `[args, kwargs]` as a value. Answered by `tool_result`."""

    type: ClassVar[str] = "tool_call"
    id: Id
    name: Annotated[str, Longest(256)]


@record(kw_only=True)
class ToolStart(Frame):
    """`.aio` call. Attachment as for `tool_call`; its outcome comes in a later `wake`."""

    type: ClassVar[str] = "tool_start"
    id: Id
    name: Annotated[str, Longest(256)]


@record(kw_only=True)
class ToolCancel(Frame):
    """The guest no longer awaits this `.aio` call."""

    type: ClassVar[str] = "tool_cancel"
    id: Id


@record(kw_only=True)
class Wait(Frame):
    """Nothing is ready in the guest: wake it when an `.aio` call has finished or the time is up."""

    type: ClassVar[str] = "wait"
    timeout_s: Annotated[float, Range(0, 1e12)] | None
    """None: no timer is pending."""
    any_result: bool
    """False: `time.sleep`, which only the timer ends."""


@record(kw_only=True)
class GuestLimit(Frame):
    """The guest's runner kept to a limit by an exception of its own: a claim, for `Cell.limits` only."""

    type: ClassVar[str] = "guest_limit"
    limit: Literal["value_bytes", "value_depth", "int_digits", "tasks"]
    used: Annotated[float, Range(0, 1e20)]
    """What was asked for, in the unit of the limit."""


@record(kw_only=True)
class EngineLimit(Frame):
    """The engine refused the guest memory or room for files during this cell, or left artifacts out. Sent by the
    worker, never by a guest."""

    type: ClassVar[str] = "engine_limit"
    limit: Literal["memory_mb", "files", "file_bytes", "artifacts", "artifact_bytes"]
    used: Annotated[float, Range(0, 1e20)]
    """What was asked for, at its highest, in the unit of the limit."""


@record(kw_only=True)
class GuestError(Record):
    """An exception of the guest's code, rendered inside the guest."""

    type: Annotated[str, Longest(256)]
    message: Annotated[str, Longest(16_384)]
    traceback: Annotated[str, Longest(32_768)]
    line: Annotated[int, Range(0, 2**31)] | None
    """Line of the cell that raised, from 1; None when no line of the cell is on the stack."""


@record(kw_only=True)
class Result(Frame):
    """How the cell ended, in the guest's words. Attachment: the last expression's value, if it crosses."""

    type: ClassVar[str] = "result"
    has_value: bool
    value_repr: Annotated[str, Longest(16_384)] | None
    value_error: Annotated[str, Longest(4096)] | None
    error: GuestError | None
    interrupted: bool
    """The guest saw the interrupt."""
    ended_by_tool: bool
    """A tool with `end_cell` ended it."""


@record(kw_only=True)
class ArtifactInfo(Record):
    """One plain file new or changed under /out; its bytes are the attachment at the same index."""

    path: ShortText


@record(kw_only=True)
class Done(Frame):
    """The cell is over; the worker takes the next request."""

    type: ClassVar[str] = "done"
    id: Id
    cpu_s: Annotated[float, Range(0, 1e12)]
    memory_bytes: Annotated[int, Range(0, 2**40)]
    """Size of the linear memory now."""
    artifacts: tuple[ArtifactInfo, ...]
    artifacts_dropped: Annotated[int, Range(0, 2**31)]
    """Files under /out that did not fit the caps."""


@record(kw_only=True)
class FileDone(Frame):
    """Answer to a file request. Attachment of a `read_file`: the bytes; of a `list_files`: paths, NUL between them."""

    type: ClassVar[str] = "file_done"
    error: ShortText | None


ToWorker = Start | RunCell | ToolResult | Wake | WriteFile | ReadFile | ListFiles
FromWorker = (
    Hello
    | Ready
    | Output
    | ToolCall
    | ToolStart
    | ToolCancel
    | Wait
    | GuestLimit
    | EngineLimit
    | Result
    | Done
    | FileDone
)

_TO_WORKER: Final[dict[str, type[TaggedRecord]]] = {kind.type: kind for kind in get_args(ToWorker)}
_FROM_WORKER: Final[dict[str, type[TaggedRecord]]] = {kind.type: kind for kind in get_args(FromWorker)}


def render(frame: Frame, attachments: tuple[bytes, ...] = ()) -> bytes:
    """The frame as bytes, with the attachments' lengths filled in."""
    header = frame.to_json()
    if attachments:
        header["attachments"] = [len(part) for part in attachments]
    return encode_frame(dump(header), attachments)


def render_start(frame: Start, stubs: bytes) -> bytes:
    """`render(frame, (stubs,))` for the frame that every sandbox begins with."""
    header = (
        f'{{"type":"start","attachments":[{len(stubs)}],"protocol_version":{frame.protocol_version},'
        f'"seed":"{frame.seed}","memory_bytes":{frame.memory_bytes},"files":{frame.files},'
        f'"file_bytes":{frame.file_bytes},"tasks":{frame.tasks},"value_bytes":{frame.value_bytes},'
        f'"int_digits":{frame.int_digits},"value_depth":{frame.value_depth}}}'
    )
    return encode_frame(header.encode("ascii"), (stubs,))


def render_cell(frame: RunCell, attachments: tuple[bytes, bytes]) -> bytes:
    """`render(frame, attachments)` for the request that everybody waits for, four times as fast."""
    source, inputs = attachments
    header = (
        f'{{"type":"cell","attachments":[{len(source)},{len(inputs)}],"id":{frame.id},'
        f'"output_bytes":{frame.output_bytes},"artifacts":{frame.artifacts},'
        f'"artifact_bytes":{frame.artifact_bytes},"cpu_s":{frame.cpu_s!r}}}'
    )
    return encode_frame(header.encode("ascii"), attachments)


def render_tool_result(call_id: int, ok: bool, end_cell: bool, payload: bytes) -> bytes:
    """`render(ToolResult(...), (payload,))`, six times as fast: this is the answer that guests wait for."""
    flag, end = b"true" if ok else b"false", b"true" if end_cell else b"false"
    header = b'{"type":"tool_result","attachments":[%d],"id":%d,"ok":%b,"end_cell":%b}'
    return encode_frame(header % (len(payload), call_id, flag, end), (payload,))


def parse_from_worker(frame: bytes | memoryview, *, max_bytes: int) -> tuple[FromWorker, list[memoryview]]:
    """A frame from a worker and its attachments.

    Raises:
        ProtocolError: whatever is wrong with it; the message never quotes the worker's bytes.
    """
    header, area = split_frame(frame, max_bytes=max_bytes)
    try:
        parsed: FromWorker = read_tagged(_FROM_WORKER, header)  # type: ignore[assignment]  # of these kinds
    except WrongRecord as exc:
        raise ProtocolError(f"bad frame: {exc}") from None
    return parsed, split_attachments(area, parsed.attachments)


def parse_to_worker(frame: bytes | memoryview, *, max_bytes: int) -> tuple[ToWorker, list[memoryview]]:
    """A frame of the host and its attachments, for stand-ins of a worker. Raises ProtocolError."""
    header, area = split_frame(frame, max_bytes=max_bytes)
    try:
        parsed: ToWorker = read_tagged(_TO_WORKER, header)  # type: ignore[assignment]  # of these kinds
    except WrongRecord as exc:
        raise ProtocolError(f"bad frame: {exc}") from None
    return parsed, split_attachments(area, parsed.attachments)
