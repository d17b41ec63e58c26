"""The host's state machine: requests, output, and every frame that does not belong."""

from __future__ import annotations

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# Lambdas and nested data of any type are what these tests feed in.
import contextvars

import pytest
from tests.support.session_frames import (
    ARGUMENTS,
    ERROR,
    VALUES,
    done,
    get_price,
    read,
    request,
    result,
    send,
    session_in_cell,
)

from cloche.runtime.cell import LimitHit
from cloche.runtime.errors import CannotCross, ConfigError, FrameTooLarge, LimitExceeded, ProtocolError, SandboxBusy
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import (
    FileDone,
    Frame,
    GuestLimit,
    Hello,
    Output,
    Ready,
    RunCell,
    Start,
    ToolCall,
    ToolCancel,
    ToolStart,
    Wait,
)
from cloche.runtime.running_cell import CellRequest
from cloche.runtime.session import Session
from cloche.runtime.values import decode

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


# --- requests ---------------------------------------------------------------------------------------------------------


def test_the_start_frame_carries_the_limits_and_the_tools() -> None:
    parsed, (stubs,) = read(Session([get_price], Limits(memory_mb=100, tasks=7)).start_frame("ab" * 32))

    assert isinstance(parsed, Start)
    assert (parsed.seed, parsed.memory_bytes, parsed.tasks, parsed.protocol_version) == ("ab" * 32, 100 * 2**20, 7, 1)
    assert decode(stubs, VALUES) == [get_price.guest_stub]


def test_a_cell_frame_carries_source_and_inputs_and_ids_rise() -> None:
    session = Session([get_price], Limits(output_bytes=5))
    parsed, (source, inputs) = read(session.begin_cell(request("é = n", {"n": 1})))

    assert isinstance(parsed, RunCell)
    assert (parsed.id, parsed.output_bytes) == (0, 5)
    assert (source.decode(), decode(inputs, VALUES)) == ("é = n", {"n": 1})
    send(session, result())
    send(session, done())
    second, _ = read(session.begin_cell(request()))
    assert isinstance(second, RunCell)
    assert second.id == 1


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (request("\ud800"), ConfigError, "the code has a lone surrogate at index 0"),
        (request(b"1 + 1"), ConfigError, "code is text (str), not bytes"),  # type: ignore[arg-type]
        (request(inputs=[1]), ConfigError, 'inputs are values by name, not [1]; write inputs={"name": value}'),  # type: ignore[arg-type]
        (request("x" * 101), LimitExceeded, "the code has 101 bytes, code_bytes allows 100"),
        (request(inputs={"a b": 1}), ConfigError, "an input is a variable of the cell; 'a b' cannot be one"),
        (request(inputs={"class": 1}), ConfigError, "an input is a variable of the cell; 'class' cannot be one"),
        (request(inputs={"get_price": 1}), ConfigError, "the input 'get_price' would hide a tool; rename it"),
        (request(inputs={"x": [object()]}), CannotCross, "inputs['x'][0]: object cannot cross"),
        (request(inputs={"x": "y" * 2000}), CannotCross, "inputs['x']: value_bytes of 1024 exceeded (2193)"),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_the_session_goes_on(
    bad: CellRequest, error: type[Exception], message: str
) -> None:
    session = Session([get_price], Limits(code_bytes=100, value_bytes=1024))

    with pytest.raises(error) as caught:
        session.begin_cell(bad)

    assert str(caught.value) == message
    assert session.finished
    session.begin_cell(request())


def test_a_second_cell_while_one_runs_is_refused() -> None:
    with pytest.raises(SandboxBusy):
        session_in_cell().begin_cell(request())


# --- output -----------------------------------------------------------------------------------------------------------


def test_a_character_split_over_frames_arrives_whole_per_stream() -> None:
    seen: list[tuple[str, str]] = []
    session = session_in_cell(on_output=lambda stream, text: seen.append((stream, text)))
    euro = "€".encode()
    send(session, Output(stream="stdout"), euro[:2])
    send(session, Output(stream="stderr"), b"e")
    send(session, Output(stream="stdout"), euro[2:] + b"\xff" + euro[:1])
    send(session, result())
    send(session, done())

    assert seen == [("stderr", "e"), ("stdout", "€\ufffd"), ("stdout", "\ufffd")]
    assert session.end_cell().stdout == "€\ufffd\ufffd"


@pytest.mark.guarantee("G33")
def test_output_over_its_cap_is_cut_marked_and_counted_over_both_streams() -> None:
    seen: list[str] = []
    session = session_in_cell(on_output=lambda _, text: seen.append(text), output_bytes=10)
    send(session, Output(stream="stdout"), b"12345")
    send(session, Output(stream="stderr"), b"678")
    send(session, Output(stream="stdout"), "9€x".encode())
    for _ in range(1000):
        send(session, Output(stream="stderr"), b"flood")
    send(session, result())
    send(session, done())
    cell = session.end_cell()

    assert cell.stdout == "123459\n[output cut: more than 10 bytes]\n"
    assert cell.stderr == "678"
    assert (cell.output_cut, cell.usage.output_bytes) == (True, 5013)
    assert cell.limits == (LimitHit("output_bytes", 5013, 10),)
    assert "".join(seen) == "12345678" + "9\n[output cut: more than 10 bytes]\n"


def test_output_of_exactly_the_cap_is_not_cut() -> None:
    session = session_in_cell(output_bytes=3)
    send(session, Output(stream="stdout"), b"123")
    send(session, result())
    send(session, done())
    cell = session.end_cell()

    assert (cell.stdout, cell.output_cut, cell.limits) == ("123", False, ())


def test_an_error_of_the_callback_is_raised_when_the_cell_is_over_and_the_session_lives_on() -> None:
    seen: list[str] = []

    def on_output(stream: str, text: str) -> None:
        seen.append(text)
        raise OSError("disk full")

    session = session_in_cell(on_output=on_output)
    send(session, Output(stream="stdout"), b"one")
    send(session, Output(stream="stdout"), b"two")
    send(session, result())
    send(session, done())

    with pytest.raises(OSError, match="disk full"):
        session.end_cell()
    assert seen == ["one"]
    partial = session.partial_cell()
    assert partial is not None
    assert partial.stdout == "onetwo"
    session.begin_cell(request())


def test_the_callback_sees_the_callers_context() -> None:
    seen: list[str] = []
    token = where.set("here")
    session = session_in_cell(on_output=lambda _, text: seen.append(where.get()))
    where.reset(token)

    send(session, Output(stream="stdout"), b"x")

    assert seen == ["here"]


# --- frames that do not belong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "attachments", "message"),
    [
        (Hello(protocol_version=1, engine="x", image="ab" * 32), (), "hello while a cell runs"),
        (Ready(), (), "ready while a cell runs"),
        (FileDone(error=None), (), "file_done while a cell runs"),
        (Output(stream="stdout"), (), "output with 0 attachments, 1 are due"),
        (Output(stream="stdout"), (b"a", b"b"), "output with 2 attachments, 1 are due"),
        (ToolCall(id=0, name="get_price"), (), "tool_call with 0 attachments, 1 are due"),
        (ToolStart(id=0, name="get_price"), (ARGUMENTS, b""), "tool_start with 2 attachments, 1 are due"),
        (ToolCall(id=0, name="get_price"), (b"junk",), "arguments of a tool call: unknown value format"),
        (ToolCancel(id=0), (), "tool_cancel of a call that is not open"),
        (ToolCancel(id=0), (b"",), "tool_cancel with 1 attachments, 0 are due"),
        (Wait(timeout_s=0.0, any_result=True), (b"",), "wait with 1 attachments, 0 are due"),
        (result(has_value=True), (), "result with 0 attachments, 1 are due"),
        (result(), (b"\0N",), "result with 1 attachments, 0 are due"),
        (result(has_value=True), (b"\0X",), "value of the cell: unknown tag"),
        (result(has_value=True, error=ERROR), (b"\0N",), "a result with a value and an error"),
        (done(cell_id=1), (), "done of another cell"),
        (done("/out/a"), (), "done with 0 attachments, 1 are due"),
        (done(), (b"x",), "done with 1 attachments, 0 are due"),
        (done(*["/out/a"] * 3), (b"x",) * 3, "more artifacts than the cell was allowed"),
        (done("/out/a"), (b"x" * 11,), "more artifacts than the cell was allowed"),
    ],
)
@pytest.mark.guarantee("G18")
def test_a_frame_that_does_not_belong_kills_the_session(
    frame: Frame, attachments: tuple[bytes, ...], message: str
) -> None:
    session = session_in_cell(artifacts=2, artifact_bytes=10)

    with pytest.raises(ProtocolError) as caught:
        send(session, frame, *attachments)

    assert str(caught.value) == message
    with pytest.raises(ProtocolError):
        send(session, Output(stream="stdout"), b"late")
    with pytest.raises(ProtocolError):
        session.end_cell()


@pytest.mark.parametrize(
    ("frame", "attachments"),
    [
        (result(), ()),
        (ToolCall(id=0, name="get_price"), (ARGUMENTS,)),
        (ToolStart(id=0, name="get_price"), (ARGUMENTS,)),
        (ToolCancel(id=0), ()),
        (Wait(timeout_s=0.0, any_result=True), ()),
        (GuestLimit(limit="tasks", used=2000), ()),
    ],
)
@pytest.mark.guarantee("G23")
def test_after_the_result_the_guest_may_only_print(frame: Frame, attachments: tuple[bytes, ...]) -> None:
    session = session_in_cell()
    send(session, result())
    send(session, Output(stream="stderr"), b"a task was still running\n")

    with pytest.raises(ProtocolError, match=f"{frame.type} after the result"):
        send(session, frame, *attachments)


def test_a_frame_before_the_first_cell_or_after_the_last_kills_the_session() -> None:
    for session in (Session([], Limits()), session_in_cell()):
        if not session.finished:
            send(session, result())
            send(session, done())
        with pytest.raises(ProtocolError, match="a frame where none was due"):
            send(session, Output(stream="stdout"), b"x")
        with pytest.raises(ProtocolError):
            session.begin_cell(request())


@pytest.mark.guarantee("G22")
def test_a_frame_over_its_cap_is_refused_unread() -> None:
    session = session_in_cell(frame_bytes=1024 * 1024, value_bytes=1024, artifact_bytes=0)

    with pytest.raises(FrameTooLarge, match="frame of .* bytes, 1048576 are allowed") as caught:
        send(session, Output(stream="stdout"), b"x" * 1_100_000)
    assert isinstance(caught.value, ProtocolError)
    assert isinstance(caught.value, LimitExceeded)
    assert (caught.value.limit, caught.value.allowed) == ("frame_bytes", 1024 * 1024)
