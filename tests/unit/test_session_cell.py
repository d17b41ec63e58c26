"""The host's state machine: one whole cell, from its frames to what the caller gets."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import pickle  # noqa: TID251  # our own objects: errors carry cells between processes
import threading

import pytest
from tests.support.session_frames import ARGUMENTS, ERROR, VALUES, done, read, request, result, send, session_in_cell

from cloche.runtime.cell import Artifact, Cell, LimitHit, Usage
from cloche.runtime.errors import ProtocolError
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import Output, ToolCall
from cloche.runtime.session import Session
from cloche.runtime.values import decode, encode


def test_a_cell_is_collected_from_its_frames() -> None:
    session = session_in_cell()
    send(session, Output(stream="stdout"), "tea: 2.50 €\n".encode())
    send(session, Output(stream="stderr"), b"warn\n")
    answer, (payload,) = read(send(session, ToolCall(id=0, name="get_price"), encode([["tea"], {}], VALUES)))
    send(session, result(has_value=True, value_repr="[2.5]"), encode([2.5], VALUES))
    assert not session.finished
    send(session, done("/out/plot.png", "/out/a/plot.png", dropped=2), b"\x89PNG", b"")
    assert session.finished
    cell = session.end_cell()

    assert (getattr(answer, "ok", None), decode(payload, VALUES)) == (True, 2.5)
    assert cell == Cell(
        value=[2.5],
        value_repr="[2.5]",
        stdout="tea: 2.50 €\n",
        stderr="warn\n",
        artifacts=(
            Artifact(
                name="plot.png",
                path="/out/plot.png",
                mime="image/png",
                data=b"\x89PNG",
                sha256="0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543",
            ),
            Artifact(
                name="plot-2.png",
                path="/out/a/plot.png",
                mime="image/png",
                data=b"",
                sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
        ),
        artifacts_dropped=2,
        limits=(LimitHit("artifact_bytes", 4, 16 * 2**20),),
        usage=Usage(
            wall_s=cell.usage.wall_s,
            cpu_s=0.5,
            memory_bytes=1000,
            output_bytes=19,
            tool_calls=1,
            tool_s=cell.usage.tool_s,
            tool_bytes_in=21,
            tool_bytes_out=10,
        ),
    )
    assert cell.ok
    assert pickle.loads(pickle.dumps(cell)) == cell  # noqa: S301  # our own bytes
    assert session.partial_cell() == cell


def test_an_exception_of_the_guest_is_data() -> None:
    session = session_in_cell()
    send(session, result(error=ERROR, interrupted=True))
    send(session, done())
    cell = session.end_cell()

    assert (cell.ok, cell.error, cell.interrupted, cell.value) == (False, ERROR, True, None)
    assert repr(cell).startswith("<Cell failed error=ValueError: no interrupted ")


def test_a_cell_whose_guest_never_said_how_it_ended_is_not_ok() -> None:
    session = session_in_cell()
    send(session, done())
    cell = session.end_cell()

    assert not cell.ok
    assert cell.error is not None
    assert (cell.error.type, cell.complete) == ("NoResult", True)


def test_a_value_larger_than_its_cap_is_left_out_and_told() -> None:
    session = session_in_cell(value_bytes=1024)
    send(session, result(has_value=True, value_repr="'yyy...'"), encode("y" * 2000, VALUES))
    send(session, done())
    cell = session.end_cell()

    assert (cell.value, cell.value_repr, cell.ok) == (None, "'yyy...'", True)
    assert (cell.value_error, cell.limits) == (
        "value: value_bytes of 1024 exceeded (2006)",
        (LimitHit("value_bytes", 2006, 1024),),
    )


def test_a_running_cell_can_be_looked_at_from_another_thread() -> None:
    session = session_in_cell()
    assert Session([], Limits()).partial_cell() is None
    send(session, Output(stream="stdout"), b"so far\n")
    seen: list[Cell | None] = []

    thread = threading.Thread(target=lambda: seen.append(session.partial_cell()))
    thread.start()
    thread.join(10)

    (cell,) = seen
    assert cell is not None
    assert (cell.stdout, cell.complete, cell.ok, cell.error) == ("so far\n", False, False, None)
    assert "incomplete" in repr(cell)


def test_a_limit_hit_by_an_argument_and_by_the_value_is_told_once_at_its_highest() -> None:
    session = session_in_cell(value_bytes=1024)
    send(session, ToolCall(id=0, name="get_price"), encode([["y" * 3000], {}], VALUES))
    send(session, result(has_value=True, value_repr="'yyy...'"), encode("y" * 2000, VALUES))
    send(session, done())
    cell = session.end_cell()

    assert [hit.limit for hit in cell.limits] == ["value_bytes"]
    assert cell.limits[0].used > 3000


def test_a_cell_that_is_not_over_has_no_end() -> None:
    with pytest.raises(ProtocolError, match="the worker stopped before the cell was over"):
        session_in_cell().end_cell()


def test_an_abort_reaches_the_calls_of_the_running_cell_only() -> None:
    session = session_in_cell()
    session.abort("deadline")
    answer, (payload,) = read(send(session, ToolCall(id=0, name="get_price"), ARGUMENTS))
    assert decode(payload, VALUES) == ["Interrupted", "the cell was stopped"]
    assert getattr(answer, "ok", None) is False
    send(session, result(error=ERROR, interrupted=True))
    send(session, done())

    session.begin_cell(request())
    answer, _ = read(send(session, ToolCall(id=0, name="get_price"), ARGUMENTS))
    assert getattr(answer, "ok", None) is True
    Session([], Limits()).abort("nothing runs")
