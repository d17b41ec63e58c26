"""Plays a hostile worker against the host's decoder and state machine, in this process.

The claim: whatever frames come, in whatever order, `Session.on_frame` answers as the protocol says or raises
ProtocolError and nothing else; the cell that can be read at any time is well-formed; a frame costs bounded time and
memory. A finding prints the seed of its session.

    python -m tests.fuzz.frames --count 1000000 --seed 7       frames through decoder and state machine
    python -m tests.fuzz.frames --live 2000 --seed 7           byte streams of real worker processes
"""

from __future__ import annotations

import argparse
import contextvars
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tests.fuzz.hostile_frames import FrameMaker

from cloche.runtime.cell import Cell
from cloche.runtime.errors import ProtocolError
from cloche.runtime.limits import Limits
from cloche.runtime.protocol import ToolCall, ToolResult, Wait, Wake, parse_from_worker, parse_to_worker
from cloche.runtime.running_cell import CellRequest
from cloche.runtime.session import Session
from cloche.runtime.tools import Tool

LIMITS = Limits(
    output_bytes=2000, value_bytes=64 * 1024, frame_bytes=2 * 1024 * 1024, tool_calls=50, concurrent_tool_calls=4,
    artifacts=1, artifact_bytes=30, value_depth=50,
)  # fmt: skip
FRAMES_PER_SESSION = 60
SLOW_S = 1.0
"""For one frame. The largest that is allowed takes a hundredth of it."""
GROWTH_BYTES = 64 * 2**20
"""Of this process over a whole run: sessions leave nothing behind, and no frame makes the host build a large object."""


class Inline:
    """Runs every tool at once on the calling thread; those of `later` stay open until they are cancelled."""

    def start(self, call: Callable[[], Awaitable[object]], context: contextvars.Context, /) -> Future[object]:
        future: Future[object] = Future()
        if self._never(call):
            return future
        try:
            context.run(lambda: call().__await__().send(None))
        except StopIteration as end:
            future.set_result(end.value)
        except Exception as exc:  # noqa: BLE001  # as a loop does
            future.set_exception(exc)
        return future

    def submit(self, call: Callable[[], object], /) -> Future[object]:
        future: Future[object] = Future()
        try:
            future.set_result(call())
        except Exception as exc:  # noqa: BLE001  # as an executor does
            future.set_exception(exc)
        return future

    @staticmethod
    def _never(call: Callable[[], Awaitable[object]]) -> bool:
        return getattr(getattr(call, "func", None), "__name__", "") == "later"


def echo(x: object = None) -> object:
    return x


async def later(x: object = None) -> object:
    return x


def fail(x: object = None) -> object:
    raise ValueError(str(type(x)))


TOOLS = (Tool(echo), Tool(later), Tool(fail), Tool(echo, name="answer", end_cell=True))


@dataclass
class Report:
    """What a run saw."""

    frames: int = 0
    sessions: int = 0
    cells: int = 0
    accepted: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    slowest_s: float = 0.0
    grown_bytes: int = 0


def begin(session: Session, inline: Inline) -> None:
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


def run(count: int, seed: int) -> Report:
    """At least `count` frames. Raises AssertionError, or whatever the host should not have raised, with the seed."""
    report, rss = Report(), _peak_bytes()
    while report.frames < count:
        number = seed * 1_000_000_007 + report.sessions
        try:
            _run_session(random.Random(number), report)  # noqa: S311  # a seed has to give the same frames again
        except BaseException as exc:
            exc.add_note(f"session seed {number}")
            raise
        report.sessions += 1
    report.grown_bytes = _peak_bytes() - rss
    assert report.grown_bytes < GROWTH_BYTES, f"memory grew by {report.grown_bytes} bytes"
    return report


def _run_session(rng: random.Random, report: Report) -> None:
    maker, session, inline, cell_id = FrameMaker(rng), Session(TOOLS, LIMITS), Inline(), 0
    begin(session, inline)
    maker.new_cell(cell_id)
    for _ in range(FRAMES_PER_SESSION):
        frame = maker.frame()
        report.frames += 1
        if not _feed(session, frame, report):
            _assert_dead(session, frame)
            check(session.partial_cell())
            return
        if session.finished:
            check(session.end_cell())
            report.cells += 1
            cell_id += 1
            begin(session, inline)
            maker.new_cell(cell_id)
    check(session.partial_cell())


def _feed(session: Session, frame: bytes, report: Report) -> bool:
    """Whether the session took it."""
    started = time.perf_counter()
    try:
        answer = session.on_frame(frame)
    except ProtocolError as exc:
        text = str(exc)
        assert text.isprintable()
        assert len(text) < 500
        report.refused[text[:40]] += 1
        return False
    finally:
        took = time.perf_counter() - started
        report.slowest_s = max(report.slowest_s, took)
        assert took < SLOW_S, f"{took:.2f} s for a frame of {len(frame)} bytes"
    parsed, _ = parse_from_worker(frame, max_bytes=LIMITS.frame_bytes)
    report.accepted[parsed.type] += 1
    assert (answer is not None) == isinstance(parsed, ToolCall | Wait)
    if answer is not None:
        reply, _ = parse_to_worker(answer, max_bytes=10**8)
        assert isinstance(reply, ToolResult if isinstance(parsed, ToolCall) else Wake)
    return True


def _assert_dead(session: Session, frame: bytes) -> None:
    for late in (frame, b"", b"\x04\x00\x00\x00\x00\x00\x00\x00"):
        try:
            session.on_frame(late)
        except ProtocolError:
            continue
        raise AssertionError("a dead session took a frame")


def check(cell: Cell | None) -> None:
    """A cell that callers, logs and terminals can work with."""
    assert cell is not None
    assert len(cell.stdout.encode()) + len(cell.stderr.encode()) <= 3 * LIMITS.output_bytes + 200  # U+FFFD takes three
    assert sum(len(artifact.data) for artifact in cell.artifacts) <= LIMITS.artifact_bytes
    for artifact in cell.artifacts:
        assert "/" not in artifact.name
        assert artifact.name not in ("", ".", "..")
        assert artifact.name.isprintable()
    assert len({hit.limit for hit in cell.limits}) == len(cell.limits), cell.limits
    repr(cell)
    repr(cell.value)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.frames", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="frames in this process")
    parser.add_argument("--live", type=int, default=0, help="byte streams of worker processes, instead")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    if options.live:
        from tests.fuzz.live_workers import run_live

        sys.stdout.write(f"{run_live(options.live, options.seed)}\n")
    else:
        report = run(options.count, options.seed)
        sys.stdout.write(
            f"{report.frames} frames in {report.sessions} sessions, {report.cells} whole cells; slowest frame "
            f"{report.slowest_s * 1000:.1f} ms, memory +{report.grown_bytes >> 20} MiB\n"
            f"accepted {dict(report.accepted)}\nrefused {dict(report.refused.most_common(60))}\n"
        )
    sys.stdout.write(f"seed {options.seed}, {time.monotonic() - started:.1f} s, no finding\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
