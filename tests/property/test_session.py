"""The host's state machine under arbitrary frames: a cell, a protocol error, and nothing else."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.runtime.cell import Cell
from cloche.runtime.errors import ProtocolError
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import (
    ArtifactInfo,
    Done,
    EngineLimit,
    FileDone,
    Frame,
    GuestError,
    GuestLimit,
    Hello,
    Output,
    Ready,
    Result,
    ToolCall,
    ToolCancel,
    ToolStart,
    Wait,
    render,
)
from cloche.runtime.running_cell import CellRequest
from cloche.runtime.session import Session
from cloche.runtime.tools import Tool
from cloche.runtime.values import ValueLimits, encode

LIMITS = Limits(
    output_bytes=100, value_bytes=1024, tool_calls=20, concurrent_tool_calls=3, artifacts=3, artifact_bytes=50
)
VALUES = ValueLimits()


class Inline:
    """Runs everything at once, on the calling thread: no test of order depends on a scheduler."""

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        def drive() -> object:
            awaited = call().__await__()
            try:
                next(awaited)
            except StopIteration as end:
                return end.value
            raise AssertionError("the tools of this test never wait")

        return self.submit(lambda: context.run(drive))

    def submit(self, call: Callable[[], object], /) -> Future[object]:
        future: Future[object] = Future()
        try:
            future.set_result(call())
        except Exception as exc:  # noqa: BLE001  # as an executor does
            future.set_exception(exc)
        return future


def echo(x: object = None) -> object:
    return x


async def fail(x: object = None) -> object:
    raise ValueError(str(x)[:100])


TOOLS = (Tool(echo), Tool(fail), Tool(echo, name="answer", end_cell=True))
NAMES = st.sampled_from(["echo", "fail", "answer", "nothing"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
IDS = st.integers(0, 12)
DATA = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.binary(max_size=20),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text("abc", max_size=2), values, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.one_of(
    st.tuples(st.lists(DATA, max_size=2), st.dictionaries(st.sampled_from(["x", "y"]), DATA, max_size=1)).map(list),
    DATA,
).map(lambda value: encode(value, VALUES))
ENCODED = DATA.map(lambda value: encode(value, VALUES)) | st.binary(max_size=20)
ERRORS = st.none() | st.builds(
    GuestError, type=st.just("E"), message=st.text("ab"), traceback=st.just(""), line=st.none()
)
RESULTS = st.builds(
    Result,
    has_value=st.booleans(),
    value_repr=st.none() | st.just("r"),
    value_error=st.none() | st.just("e"),
    error=ERRORS,
    interrupted=st.booleans(),
    ended_by_tool=st.booleans(),
)
DONES = st.builds(
    Done,
    id=st.integers(0, 1),
    cpu_s=st.just(0.0),
    memory_bytes=st.just(0),
    artifacts=st.lists(st.builds(ArtifactInfo, path=st.text("a/.\x1b", max_size=5)), max_size=4).map(tuple),
    artifacts_dropped=st.integers(0, 3),
)
Sent = tuple[Frame, tuple[bytes, ...]]
FITTING: st.SearchStrategy[Sent] = st.one_of(
    st.tuples(st.builds(Output, stream=st.sampled_from(["stdout", "stderr"])), st.tuples(st.binary(max_size=60))),
    st.tuples(st.builds(ToolCall, id=IDS, name=NAMES), st.tuples(ARGUMENTS)),
    st.tuples(st.builds(ToolStart, id=IDS, name=NAMES), st.tuples(ARGUMENTS)),
    st.tuples(st.builds(ToolCancel, id=IDS), st.just(())),
    st.tuples(st.builds(Wait, timeout_s=st.none() | st.floats(0, 1e300), any_result=st.booleans()), st.just(())),
    st.tuples(
        st.builds(GuestLimit, limit=st.sampled_from(["value_bytes", "tasks"]), used=st.floats(0, 1e19))
        | st.builds(EngineLimit, limit=st.sampled_from(["memory_mb", "files"]), used=st.floats(0, 1e19)),
        st.just(()),
    ),
    RESULTS.flatmap(lambda frame: st.tuples(st.just(frame), st.tuples(*[ENCODED] * frame.has_value))),
    DONES.flatmap(lambda frame: st.tuples(st.just(frame), st.tuples(*[st.binary(max_size=20)] * len(frame.artifacts)))),
)
FRAMES: st.SearchStrategy[Sent] = st.one_of(
    FITTING,
    FITTING,
    st.tuples(
        FITTING.map(lambda sent: sent[0])
        | st.sampled_from([Ready(), Hello(protocol_version=1, engine="x", image="ab" * 32), FileDone(error=None)]),
        st.lists(st.binary(max_size=5), max_size=3).map(tuple),
    ),
)
ANSWERED = (ToolCall, Wait)


def begun() -> Session:
    session = Session(TOOLS, LIMITS)
    inline = Inline()
    session.begin_cell(
        CellRequest(
            code="",
            inputs={},
            on_output=None,
            context=contextvars.copy_context(),
            async_runner=inline,
            thread_pool=lambda: inline,
            deadline_monotonic=time.monotonic(),  # no wait waits
        )
    )
    return session


def check(cell: Cell | None, *, over: bool) -> None:
    assert cell is not None
    assert cell.complete is over
    assert len(cell.stdout) + len(cell.stderr) <= LIMITS.output_bytes + len("\n[output cut: more than 100 bytes]\n")
    assert cell.output_cut == ("output_bytes" in [hit.limit for hit in cell.limits])
    assert sum(len(artifact.data) for artifact in cell.artifacts) <= LIMITS.artifact_bytes
    assert all("/" not in artifact.name and "\x1b" not in artifact.path for artifact in cell.artifacts)
    assert len({hit.limit for hit in cell.limits}) == len(cell.limits)
    repr(cell)


@given(st.lists(FRAMES, max_size=25))
def test_any_frames_in_any_order_give_a_cell_or_a_protocol_error(frames: list[Sent]) -> None:
    session = begun()
    for frame, attachments in frames:
        try:
            answer = session.on_frame(render(frame, attachments))
        except ProtocolError:
            assert_dead(session)
            return
        assert (answer is not None) == isinstance(frame, ANSWERED)
        check(session.partial_cell(), over=session.finished)
        if session.finished:
            assert isinstance(frame, Done)
            check(session.end_cell(), over=True)
            session.begin_cell(
                CellRequest(
                    code="",
                    inputs={},
                    on_output=None,
                    context=contextvars.copy_context(),
                    async_runner=Inline(),
                    thread_pool=Inline,
                    deadline_monotonic=time.monotonic(),
                )
            )


def assert_dead(session: Session) -> None:
    """Nothing revives it."""
    for frame in (Output(stream="stdout"), Ready()):
        try:
            session.on_frame(render(frame, (b"x",)))
        except ProtocolError:
            continue
        raise AssertionError("a dead session took a frame")


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3))
@pytest.mark.guarantee("G18")
def test_arbitrary_bytes_are_a_protocol_error(frames: list[bytes]) -> None:
    session = begun()
    for frame in frames:
        try:
            session.on_frame(frame)
        except ProtocolError:
            continue
        raise AssertionError("these bytes are no frame")


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=20)), max_size=20), st.data())
def test_text_under_the_cap_arrives_as_it_was_whatever_the_frames(
    printed: list[tuple[str, str]], data: st.DataObject
) -> None:
    session = begun()
    wanted = {"stdout": b"", "stderr": b""}
    for stream, text in printed:
        raw = text.encode("utf-8", "replace")
        if sum(map(len, wanted.values())) + len(raw) > LIMITS.output_bytes:
            continue
        wanted[stream] += raw
        at = data.draw(st.integers(0, len(raw)))
        for piece in (raw[:at], raw[at:]):
            session.on_frame(render(Output(stream="stdout" if stream == "stdout" else "stderr"), (piece,)))
    cell = session.partial_cell()

    assert cell is not None
    assert (cell.stdout, cell.stderr, cell.output_cut) == (wanted["stdout"].decode(), wanted["stderr"].decode(), False)
