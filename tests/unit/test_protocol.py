"""The frames' models: golden bytes of every type, and what is refused of a hostile header."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest

from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import encode_frame, split_attachments, split_frame
from cloche.runtime.protocol import (
    FromWorker,
    RunCell,
    Start,
    ToolResult,
    ToWorker,
    parse_from_worker,
    parse_to_worker,
    render,
    render_cell,
    render_start,
    render_tool_result,
)

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "frames").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_frame_is_read_and_written_as_it_stands(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    attachments = [bytes.fromhex(part) for part in golden["attachments"]]
    frame = bytes.fromhex(golden["frame"])
    header, area = split_frame(frame, max_bytes=10_000)

    assert json.loads(header) == golden["header"]
    assert [bytes(part) for part in split_attachments(area, golden["header"]["attachments"])] == attachments
    if golden["direction"] == "to_worker":
        parsed_request, _ = parse_to_worker(frame, max_bytes=10_000)
        assert render(parsed_request, tuple(attachments)) == frame
    else:
        parsed, parts = parse_from_worker(frame, max_bytes=10_000)
        assert parsed.to_json() == golden["header"]
        assert [bytes(part) for part in parts] == attachments


def test_every_type_of_frame_has_a_golden_one() -> None:
    golden = {json.loads(path.read_text(encoding="utf-8"))["header"]["type"] for path in GOLDEN}

    assert golden == {kind.type for kind in (*get_args(ToWorker), *get_args(FromWorker))}


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("end_cell", [True, False])
def test_the_quick_way_to_a_tool_result_writes_the_same_bytes(ok: bool, end_cell: bool) -> None:
    frame = ToolResult(id=2**53 - 1, ok=ok, end_cell=end_cell)

    assert render_tool_result(2**53 - 1, ok, end_cell, b"abc") == render(frame, (b"abc",))


def test_the_quick_way_to_a_cell_writes_the_same_bytes() -> None:
    frame = RunCell(id=7, output_bytes=1, artifacts=2, artifact_bytes=3, cpu_s=0.25)

    assert render_cell(frame, (b"1+1", b"\0{0")) == render(frame, (b"1+1", b"\0{0"))


def test_the_quick_way_to_a_start_writes_the_same_bytes() -> None:
    frame = Start(
        protocol_version=1,
        seed="ab" * 32,
        memory_bytes=1,
        files=2,
        file_bytes=3,
        tasks=4,
        value_bytes=5,
        int_digits=6,
        value_depth=7,
    )

    assert render_start(frame, b"\0[0") == render(frame, (b"\0[0",))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "bad frame: no JSON"),
        (b"[]", "bad frame: not one object"),
        (b"{}", "bad frame: unknown type"),
        (b"{} ", "bad frame: not one object"),
        (b'{"type":"start"}', "bad frame: unknown type"),
        (b'{"type":"ready","type":"ready","attachments":[]}', "bad frame: a key twice"),
        (
            b'{"type":"result","attachments":[],"has_value":false,"value_repr":null,"value_error":null,"error":'
            b'{"type":"E","type":"E","message":"","traceback":"","line":null},"interrupted":false,"ended_by_tool":false}',
            "bad frame: a key twice",
        ),
        (b'{"type":"ready","attachments":[],"more":1}', "bad frame: wrong fields at ready"),
        (b'{"type":"tool_cancel","id":"1","attachments":[]}', "bad frame: no int at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":1.0,"attachments":[]}', "bad frame: no int at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":-1,"attachments":[]}', "bad frame: out of range at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":9007199254740992,"attachments":[]}', "bad frame: out of range at tool_cancel.id"),
        (
            b'{"type":"wait","timeout_s":NaN,"any_result":true,"attachments":[]}',
            "bad frame: no JSON: WrongRecord",
        ),
        (b'{"type":"output","stream":"stdin","attachments":[0]}', "bad frame: unknown word at output.stream"),
        (
            b'{"type":"tool_cancel","id":1,"attachments":[-1]}',
            "bad frame: out of range at tool_cancel.attachments",
        ),
        (b'{"type":"ready","attachments":[5]}', "attachment lengths do not fit the frame"),
        (
            b'{"type":"tool_call","id":1,"name":"' + b"x" * 257 + b'","attachments":[]}',
            "bad frame: too long at tool_call.name",
        ),
        (b'{"type":"tool_call","id":1,"name":"\xff","attachments":[]}', "bad frame: no JSON: UnicodeDecodeError"),
        (
            b'{"type":"tool_call","id":1,"name":"\\ud800","attachments":[]}',
            "bad frame: lone surrogate at tool_call.name",
        ),
        (b"[" * 100_000, "bad frame: no JSON: RecursionError"),
    ],
    ids=lambda value: value[:60] if isinstance(value, bytes) else "",
)
def test_a_header_that_no_honest_worker_writes_is_a_protocol_error(header: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_from_worker(encode_frame(header), max_bytes=200_000)

    assert str(caught.value) == message


def test_a_hostile_field_name_is_quoted_in_short_only() -> None:
    header = json.dumps({"type": "ready", "attachments": [], "x" * 5000: 1}).encode()

    with pytest.raises(ProtocolError) as caught:
        parse_from_worker(encode_frame(header), max_bytes=10_000)
    assert len(str(caught.value)) < 120


def test_the_schema_is_the_one_that_protocol_version_1_stands_for() -> None:
    """A change of any field changes these lists; then PROTOCOL_VERSION changes with it, and so does this test."""
    fields = {
        kind.type: sorted({field.name for field in dataclasses.fields(kind)} - {"attachments"})
        for kind in (*get_args(ToWorker), *get_args(FromWorker))
    }

    assert fields == {
        "start": [
            "file_bytes", "files", "int_digits", "memory_bytes", "protocol_version", "seed", "tasks", "value_bytes",
            "value_depth",
        ],
        "cell": ["artifact_bytes", "artifacts", "cpu_s", "id", "output_bytes"],
        "tool_result": ["end_cell", "id", "ok"],
        "wake": ["results"],
        "write_file": ["path"],
        "read_file": ["path"],
        "list_files": [],
        "hello": ["engine", "image", "protocol_version"],
        "ready": [],
        "output": ["stream"],
        "tool_call": ["id", "name"],
        "tool_start": ["id", "name"],
        "tool_cancel": ["id"],
        "wait": ["any_result", "timeout_s"],
        "result": ["ended_by_tool", "error", "has_value", "interrupted", "value_error", "value_repr"],
        "done": ["artifacts", "artifacts_dropped", "cpu_s", "id", "memory_bytes"],
        "file_done": ["error"],
        "guest_limit": ["limit", "used"],
        "engine_limit": ["limit", "used"],
    }  # fmt: skip
