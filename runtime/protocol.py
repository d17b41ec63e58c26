"""Every frame between host and worker: the only definition, for both engines.

Transport: framing.py. Turn rule: the host sends `start`, `cell` or a file request, one at a time, and the worker
answers with exactly one `ready`, `done` or `file_done` for it. While a cell runs the worker may send any number of
`output`, `tool_call`, `tool_start`, `tool_cancel`, `wait` and at most one `result`; the host answers `tool_call` with
`tool_result` and `wait` with `wake`, and the worker sends nothing between such a question and its answer. `hello` is
the first frame of a worker's life. The interrupt does not travel here: it is one byte on the control channel.

Evolution: every field is always present; a change of any field is a new PROTOCOL_VERSION, and both sides refuse
another. A frame from a worker is hostile: parse it with `parse_from_worker`, which raises ProtocolError and nothing
else. Values in attachments are encoded by values.py.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import ProtocolError
from .framing import MAX_ATTACHMENTS, encode_frame, split_attachments, split_frame

PROTOCOL_VERSION: Final = 1

Id = Annotated[int, Field(ge=0, lt=2**53)]
ShortText = Annotated[str, Field(max_length=4096)]


class Frame(BaseModel):
    """Common to all frames."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    attachments: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(max_length=MAX_ATTACHMENTS)] = ()
    """Lengths of the raw parts that follow the header, in bytes."""


# --- host to worker ---------------------------------------------------------------------------------------------------


class Start(Frame):
    """Turns a warm worker into the sandbox of one tenant. Attachments: the tools' stubs as a value."""

    type: Literal["start"] = "start"
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


class RunCell(Frame):
    """Run one cell. Attachments: source (UTF-8), inputs (a value: dict of names)."""

    type: Literal["cell"] = "cell"
    id: Id
    output_bytes: int
    artifacts: int
    artifact_bytes: int


class ToolResult(Frame):
    """Answer to `tool_call`. Attachment: the result, or `[type, message]` of the error, as a value."""

    type: Literal["tool_result"] = "tool_result"
    id: Id
    ok: bool
    end_cell: bool = False
    """The cell ends here, quietly (final answers)."""


class ToolOutcome(BaseModel):
    """One finished `.aio` call inside `wake`; its value is the attachment at the same index."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    id: Id
    ok: bool
    end_cell: bool = False


class Wake(Frame):
    """Answer to `wait`. Attachments: one value per result, as in `tool_result`."""

    type: Literal["wake"] = "wake"
    results: tuple[ToolOutcome, ...]


class WriteFile(Frame):
    """Attachment: the bytes. Parent directories are made."""

    type: Literal["write_file"] = "write_file"
    path: ShortText


class ReadFile(Frame):
    type: Literal["read_file"] = "read_file"
    path: ShortText


class ListFiles(Frame):
    """The plain files that the guest or `write_file` made."""

    type: Literal["list_files"] = "list_files"


# --- worker to host ---------------------------------------------------------------------------------------------------


class Hello(Frame):
    type: Literal["hello"] = "hello"
    protocol_version: int
    engine: Annotated[str, Field(max_length=64)]
    image: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """sha256 of the image that the worker runs."""


class Ready(Frame):
    type: Literal["ready"] = "ready"


class Output(Frame):
    """What the guest printed, as it printed it. Attachment: UTF-8 text."""

    type: Literal["output"] = "output"
    stream: Literal["stdout", "stderr"]


class ToolCall(Frame):
    """Blocking call. Attachment: `[args, kwargs]` as a value. Answered by `tool_result`."""

    type: Literal["tool_call"] = "tool_call"
    id: Id
    name: Annotated[str, Field(max_length=256)]


class ToolStart(Frame):
    """`.aio` call. Attachment as for `tool_call`; its outcome comes in a later `wake`."""

    type: Literal["tool_start"] = "tool_start"
    id: Id
    name: Annotated[str, Field(max_length=256)]


class ToolCancel(Frame):
    """The guest no longer awaits this `.aio` call."""

    type: Literal["tool_cancel"] = "tool_cancel"
    id: Id


class Wait(Frame):
    """Nothing is ready in the guest: wake it when an `.aio` call has finished or the time is up."""

    type: Literal["wait"] = "wait"
    timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    """None: no timer is pending."""
    any_result: bool
    """False: `time.sleep`, which only the timer ends."""


class GuestError(BaseModel):
    """An exception of the guest's code, rendered inside the guest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    type: Annotated[str, Field(max_length=256)]
    message: Annotated[str, Field(max_length=16_384)]
    traceback: Annotated[str, Field(max_length=32_768)]
    line: Annotated[int, Field(ge=0, lt=2**31)] | None
    """Line of the cell that raised, from 1; None when no line of the cell is on the stack."""


class Result(Frame):
    """How the cell ended, in the guest's words. Attachment: the last expression's value, if it crosses."""

    type: Literal["result"] = "result"
    has_value: bool
    value_repr: Annotated[str, Field(max_length=16_384)] | None
    value_error: Annotated[str, Field(max_length=4096)] | None
    error: GuestError | None
    interrupted: bool
    """The guest saw the interrupt."""
    ended_by_tool: bool
    """A tool with `end_cell` ended it."""


class ArtifactInfo(BaseModel):
    """One plain file new or changed under /out; its bytes are the attachment at the same index."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    path: ShortText


class Done(Frame):
    """The cell is over; the worker takes the next request."""

    type: Literal["done"] = "done"
    id: Id
    cpu_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    memory_bytes: Annotated[int, Field(ge=0, lt=2**40)]
    """Size of the linear memory now."""
    artifacts: tuple[ArtifactInfo, ...]
    artifacts_dropped: Annotated[int, Field(ge=0, lt=2**31)]
    """Files under /out that did not fit the caps."""


class FileDone(Frame):
    """Answer to a file request. Attachment of a `read_file`: the bytes."""

    type: Literal["file_done"] = "file_done"
    error: ShortText | None
    paths: tuple[ShortText, ...]


ToWorker = Start | RunCell | ToolResult | Wake | WriteFile | ReadFile | ListFiles
FromWorker = Hello | Ready | Output | ToolCall | ToolStart | ToolCancel | Wait | Result | Done | FileDone

GUEST_TYPES: Final = ("output", "tool_call", "tool_start", "tool_cancel", "wait", "result")
"""Frames that the guest itself builds; the worker passes them on as they are."""

to_worker: Final[TypeAdapter[ToWorker]] = TypeAdapter(Annotated[ToWorker, Field(discriminator="type")])
from_worker: Final[TypeAdapter[FromWorker]] = TypeAdapter(Annotated[FromWorker, Field(discriminator="type")])

FrameT = TypeVar("FrameT", bound=Frame)


def render(frame: Frame, attachments: tuple[bytes, ...] = ()) -> bytes:
    """The frame as bytes, with the attachments' lengths filled in."""
    if attachments:
        frame = frame.model_copy(update={"attachments": tuple(map(len, attachments))})
    return encode_frame(frame.__pydantic_serializer__.to_json(frame), attachments)


def render_tool_result(call_id: int, ok: bool, end_cell: bool, payload: bytes) -> bytes:
    """`render(ToolResult(...), (payload,))`, six times as fast: this is the answer that guests wait for."""
    flag, end = b"true" if ok else b"false", b"true" if end_cell else b"false"
    header = b'{"attachments":[%d],"type":"tool_result","id":%d,"ok":%b,"end_cell":%b}'
    return encode_frame(header % (len(payload), call_id, flag, end), (payload,))


def parse_from_worker(frame: bytes | memoryview, *, max_bytes: int) -> tuple[FromWorker, list[memoryview]]:
    """A frame from a worker and its attachments.

    Raises:
        ProtocolError: whatever is wrong with it; the message never quotes the worker's bytes at length.
    """
    header, area = split_frame(frame, max_bytes=max_bytes)
    try:
        parsed = from_worker.validate_json(header)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ProtocolError(f"bad frame: {first['type']} at {_place(first['loc'])}") from None
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"bad frame: {type(exc).__name__}") from None
    return parsed, split_attachments(area, parsed.attachments)


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:40] for part in loc[:6]) or "the top"
