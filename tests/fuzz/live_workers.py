"""Real worker processes that send hostile bytes, each once: the second mode of `tests.fuzz.frames`.

The claim: a request to such a worker ends with its answer, `ProtocolError` or `WorkerCrashed`, within its bound; the
worker is dead afterwards, no descriptor is left, and a good worker of the same fork server goes on answering.
"""

from __future__ import annotations

import contextvars
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.frames import LIMITS, TOOLS, Inline, begin, check
from tests.fuzz.hostile_frames import FrameMaker

from cloche.runtime.errors import ProtocolError, WorkerCrashed
from cloche.runtime.fork_server import ForkServer
from cloche.runtime.interpreter import WorkerProgram
from cloche.runtime.links import HandOver
from cloche.runtime.process_link import ProcessLink
from cloche.runtime.protocol import Done, render
from cloche.runtime.running_cell import CellRequest
from cloche.runtime.session import Session

SUPPORT = str(Path(__file__).resolve().parent.parent / "support")
PATIENCE_S = 0.25
"""A worker that goes quiet in the middle of a frame is killed by whoever holds the deadline: here, a timer."""
BOUND_S = 10.0
PING_EVERY = 20


def run_live(count: int, seed: int) -> Counter[str]:
    """`count` workers with a stream each; how their requests ended. AssertionError for anything else, with the seed."""
    ends: Counter[str] = Counter()
    server = ForkServer(WorkerProgram(("good",), "fake_program", SUPPORT))
    try:
        good = _ready(server)
        _ask(good, "nothing")
        before = len(os.listdir("/proc/self/fd"))
        for index in range(count):
            number = seed * 1_000_000_007 + index
            try:
                ends[_one(server, random.Random(number))] += 1  # noqa: S311  # a seed has to give the same bytes again
            except BaseException as exc:
                exc.add_note(f"stream seed {number}")
                raise
            if index % PING_EVERY == 0:
                assert _ask(good, "nothing") == "answered"
        assert len(os.listdir("/proc/self/fd")) <= before
        good.close(BOUND_S)
    finally:
        server.close()
    return ends


def _one(server: ForkServer, rng: random.Random) -> str:
    link = _ready(server)
    action = "raw" if rng.random() < 0.05 else "burst"  # waits for ever after it, or ends
    try:
        started = time.monotonic()
        end = _ask(link, f"{action} {_stream(rng).hex()}", here=rng.random() < 0.5)
        assert time.monotonic() - started < BOUND_S
        return end
    finally:
        link.close(BOUND_S)
        assert link.process.exited
        assert link.released


def _stream(rng: random.Random) -> bytes:
    """Frames in a row, and sometimes only a part of the last."""
    maker = FrameMaker(rng, hostility=0.3)
    maker.new_cell(1)
    raw = b"".join(maker.frame() for _ in range(rng.randint(1, 12)))[: 256 * 1024]
    return raw[: rng.randint(0, len(raw))] if rng.random() < 0.3 else raw


def _ask(link: ProcessLink, source: str, *, here: bool = False) -> str:
    """`here`: as a blocking caller does, up to what it hands over."""
    inline, session = Inline(), Session(TOOLS, LIMITS)
    begin(session, inline)
    session.on_frame(render(Done(id=0, cpu_s=0, memory_bytes=0, artifacts=(), artifacts_dropped=0)))
    frame = session.begin_cell(  # the second cell: the fake guest's `done` has number 1
        CellRequest(
            code=source,
            inputs={},
            on_output=None,
            context=contextvars.copy_context(),
            async_runner=inline,
            thread_pool=lambda: inline,
            deadline_monotonic=time.monotonic(),
        )
    )
    timer = threading.Timer(PATIENCE_S, link.kill)
    timer.start()
    try:
        if here:
            _request_here(link, frame, session)
        else:
            link.request(frame, session)
    except (ProtocolError, WorkerCrashed) as exc:
        end, text = type(exc).__name__, str(exc)
    else:
        end, text = "answered", ""
    finally:
        timer.cancel()
    assert text.isprintable()
    check(session.partial_cell())
    return end


def _request_here(link: ProcessLink, frame: bytes, session: Session) -> None:
    session.begin_here()
    try:
        link.request_here(frame, session)
    except HandOver:
        link.resume(session)


def _ready(server: ForkServer) -> ProcessLink:
    link = server.start_worker()
    link.wait_hello(BOUND_S)
    link.frame_bytes = LIMITS.frame_bytes
    return link
