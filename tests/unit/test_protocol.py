"""The frames' models: golden bytes of every type, and what is refused of a hostile header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import encode_frame, split_attachments, split_frame
from cloche.runtime.protocol import (
    FromWorker,
    ToolResult,
    ToWorker,
    from_worker,
    parse_from_worker,
    render,
    render_tool_result,
    to_worker,
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
        assert render(to_worker.validate_json(header), tuple(attachments)) == frame
    else:
        parsed, parts = parse_from_worker(frame, max_bytes=10_000)
        assert parsed.model_dump(mode="json") == golden["header"]
        assert [bytes(part) for part in parts] == attachments


def test_every_type_of_frame_has_a_golden_one() -> None:
    golden = {json.loads(path.read_text(encoding="utf-8"))["header"]["type"] for path in GOLDEN}

    assert golden == {kind.model_fields["type"].default for kind in (*get_args(ToWorker), *get_args(FromWorker))}


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("end_cell", [True, False])
def test_the_quick_way_to_a_tool_result_writes_the_same_bytes(ok: bool, end_cell: bool) -> None:
    frame = ToolResult(id=2**53 - 1, ok=ok, end_cell=end_cell)

    assert render_tool_result(2**53 - 1, ok, end_cell, b"abc") == render(frame, (b"abc",))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "bad frame: json_invalid at the top"),
        (b"[]", "bad frame: dict_type at the top"),
        (b"{}", "bad frame: union_tag_not_found at the top"),
        (b'{"type":"start"}', "bad frame: union_tag_invalid at the top"),
        (b'{"type":"ready","attachments":[],"more":1}', "bad frame: extra_forbidden at ready.more"),
        (b'{"type":"tool_cancel","id":"1","attachments":[]}', "bad frame: int_type at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":1.0,"attachments":[]}', "bad frame: int_type at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":-1,"attachments":[]}', "bad frame: greater_than_equal at tool_cancel.id"),
        (b'{"type":"tool_cancel","id":9007199254740992,"attachments":[]}', "bad frame: less_than at tool_cancel.id"),
        (
            b'{"type":"wait","timeout_s":NaN,"any_result":true,"attachments":[]}',
            "bad frame: finite_number at wait.timeout_s",
        ),
        (b'{"type":"output","stream":"stdin","attachments":[0]}', "bad frame: literal_error at output.stream"),
        (
            b'{"type":"tool_cancel","id":1,"attachments":[-1]}',
            "bad frame: greater_than_equal at tool_cancel.attachments.0",
        ),
        (b'{"type":"ready","attachments":[5]}', "attachment lengths do not fit the frame"),
        (
            b'{"type":"tool_call","id":1,"name":"' + b"x" * 257 + b'","attachments":[]}',
            "bad frame: string_too_long at tool_call.name",
        ),
        (b'{"type":"tool_call","id":1,"name":"\xff","attachments":[]}', "bad frame: json_invalid at the top"),
        (b'{"type":"tool_call","id":1,"name":"\\ud800","attachments":[]}', "bad frame: json_invalid at the top"),
        (b"[" * 100_000, "bad frame: json_invalid at the top"),
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
        kind.model_fields["type"].default: sorted(set(kind.model_fields) - {"type", "attachments"})
        for kind in (*get_args(ToWorker), *get_args(FromWorker))
    }

    assert fields == {
        "start": [
            "file_bytes", "files", "int_digits", "memory_bytes", "protocol_version", "seed", "tasks", "value_bytes",
            "value_depth",
        ],
        "cell": ["artifact_bytes", "artifacts", "id", "output_bytes"],
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
        "file_done": ["error", "paths"],
    }  # fmt: skip
    assert from_worker.json_schema()["discriminator"]["propertyName"] == "type"
