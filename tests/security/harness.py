"""Runs a probe in a sandbox of cloche and records what the host sees: `Range` is the place, `Range.shoot` one run.

The rule: the harness believes no probe. It watches from outside: memory of host and worker, files, sockets, logs, other
sandboxes, and a fresh one afterwards. Waits have a bound, and a run that outlives it is a finding, not a hanging suite.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from tests.support.places import where

from cloche import Cell, ClocheError, Limits, Runtime, Sandbox, TimedOut

from .canaries import Canaries, planted
from .corpus import Probe, prepared
from .seen import HEADROOM_BYTES, Artifact, Seen
from .watch import WorkerWatch, audit, logs, memory_bytes, reset_peak

MIB = 1024 * 1024
HANG_S = 20.0
"""Past its deadline; a run that is still there then will not come back."""
PING_EVERY_S = 0.1
WORKER_BASE_BYTES = {"process": 160 * MIB, "thread": 0, "deno": 384 * MIB}
"""A worker without guest memory of its own: Python, wasmtime, the image's pages."""
ENDLESS = frozenset({"hp-02", "brg-22"})
UNHURRIED = frozenset({"res-09", "res-11", "res-12", "res-14", "res-16", "res-18", "res-28"})
"""Their attack is not on time: they end by themselves, some after seconds of preparation."""
MEMORY_MB = {"brg-10": 256, "hp-03": 256, "res-05": 512}
"""They build large objects; with less memory their guest would stop them before what they attack has to."""


def limits_for(probe: Probe) -> Limits:
    """Small caps: a run that needs more is the attack."""
    busy = (probe.category == "resource" and probe.id not in UNHURRIED) or probe.id in ENDLESS
    return Limits(
        wall_s=2.5 if busy else 15.0,
        cpu_s=30.0,
        memory_mb=MEMORY_MB.get(probe.id, 128),
        output_bytes=(16 if probe.id == "res-15" else 256) * 1024,  # res-15 prints byte by byte
        value_bytes=1 * MIB,
        frame_bytes=8 * MIB,
        files=200,
        file_bytes=16 * MIB,
        artifact_bytes=4 * MIB,
        tool_calls=10_000_000 if probe.id == "res-30" else 1000,  # res-30 shall end by its deadline, not by this cap
    )


class Neighbour:
    """A sandbox of somebody else, who was granted what probes are not, and asks all the time."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._count = 0

    def ping(self, seen: Seen) -> None:
        """One cell whose answer depends on all cells before it."""
        self._count += 1
        started = time.monotonic()
        try:
            value = self.box.run("count = globals().get('count', 0) + 1\ncount").value
        except ClocheError as exc:
            seen.neighbour = f"{type(exc).__name__}: {exc}"
        else:
            if value != self._count:
                seen.neighbour = f"it answered {value!r} instead of {self._count}"
        seen.slowest_ping_s = max(seen.slowest_ping_s, time.monotonic() - started)


class Range:
    """A runtime with canaries around it and a neighbour in each isolation."""

    def __init__(self, runtime: Runtime, canaries: Canaries) -> None:
        self.runtime = runtime
        self.canaries = canaries
        self._neighbours: dict[str, Neighbour] = {}

    def shoot(
        self,
        probe: Probe,
        isolation: str,
        *,
        final_answer: bool = False,
        before: str = "",
        host_output: Callable[[], str] = str,
    ) -> Seen:
        """One run in a fresh sandbox.

        Args:
            probe: what to run.
            isolation: where.
            final_answer: also grant the tool that hands the host a last value.
            before: guest code to run in front of it.
            host_output: gives and forgets what this process printed.
        """
        limits, server = limits_for(probe), self.canaries.server
        code = prepared(probe, self.canaries, deadline_s=limits.wall_s, memory_mb=limits.memory_mb, before=before)
        seen = Seen(probe=probe, outcome="hang", deadline_s=limits.wall_s, output_bytes=limits.output_bytes)
        seen.final_answer = final_answer
        self._neighbour(isolation)
        secret, contacts, hits = self.canaries.tool_calls, server.contacts, server.hits(probe.id)
        host_output()
        with logs(seen.log), audit(str(self.canaries.folder.parent), seen.audit):
            box = self.runtime.sandbox(tools=_tools(seen, final_answer), limits=limits, **where(isolation))
            worker = WorkerWatch(box)
            try:
                self._watch(_Shot(box, code), seen, worker, isolation)
            finally:
                box.close()
            worker.check_gone(seen)
            self._next_session(isolation, seen)
        seen.secret_calls = self.canaries.tool_calls - secret
        seen.contacts = server.contacts - contacts
        seen.hits = server.hits(probe.id) - hits
        seen.pwned = self.canaries.pwned()
        seen.printed = host_output()
        return seen

    def close(self) -> None:
        for neighbour in self._neighbours.values():
            neighbour.box.close()

    def _neighbour(self, isolation: str) -> Neighbour:
        if isolation not in self._neighbours:
            tools = [self.canaries.secret_tool]
            box = self.runtime.sandbox(tools=tools, **where(isolation), limits=Limits(wall_s=HANG_S, memory_mb=64))
            self._neighbours[isolation] = Neighbour(box)
        return self._neighbours[isolation]

    def _watch(self, shot: _Shot, seen: Seen, worker: WorkerWatch, isolation: str) -> None:
        limits, neighbour = limits_for(seen.probe), self._neighbour(isolation)
        before = reset_peak()
        shot.start()
        while not shot.over(PING_EVERY_S) and time.monotonic() - shot.started < limits.wall_s + HANG_S:
            neighbour.ping(seen)
            worker.look(seen)
        worker.look(seen)
        neighbour.ping(seen)
        seen.host_growth_bytes = memory_bytes("VmHWM") - before
        guest_bytes = limits.memory_mb * MIB + limits.file_bytes
        if worker.pid is None:
            seen.host_budget_bytes = HEADROOM_BYTES + guest_bytes
        else:
            seen.worker_budget_bytes = WORKER_BASE_BYTES[isolation] + guest_bytes
        shot.record(seen)

    def _next_session(self, isolation: str, seen: Seen) -> None:
        """A fresh sandbox answers as if nothing had been."""
        asked: list[object] = []

        def echo(x: object) -> object:
            asked.append(x)
            return x

        try:
            with self.runtime.sandbox(tools=[echo], **where(isolation), limits=Limits(wall_s=HANG_S)) as box:
                cell = box.run("echo(['after', 6 * 7])")
        except ClocheError as exc:
            seen.next_session = f"{type(exc).__name__}: {exc}"
            return
        if (cell.value, asked, cell.stdout) != (["after", 42], [["after", 42]], ""):
            seen.next_session = repr(cell)


class _Shot:
    """The cell of one probe, on a thread of its own so that the harness can look meanwhile."""

    def __init__(self, box: Sandbox, code: str) -> None:
        self._box = box
        self._code = code
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._end: Cell | BaseException | None = None
        self._ended = 0.0
        self.started = 0.0

    def start(self) -> None:
        self.started = time.monotonic()
        self._thread.start()

    def over(self, wait_s: float) -> bool:
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._end = self._box.run(self._code)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, the verdict is over it
            self._end = exc
        self._ended = time.monotonic()

    def record(self, seen: Seen) -> None:
        end = self._end
        seen.wall_s = (self._ended or time.monotonic()) - self.started
        if isinstance(end, Cell):
            seen.outcome = "cell"
            _record_cell(end, seen)
        elif end is not None:
            ours = isinstance(end, ClocheError)
            seen.outcome = type(end).__name__ if ours else f"{type(end).__name__}, no error of cloche"
            seen.message = str(end)
            if isinstance(end, TimedOut) and end.cell is not None:
                _record_cell(end.cell, seen)


def _record_cell(cell: Cell, seen: Seen) -> None:
    seen.shown = repr(cell)
    seen.stdout, seen.stderr, seen.cut = cell.stdout, cell.stderr, cell.output_cut
    seen.value, seen.value_repr, seen.value_error = cell.value, cell.value_repr or "", cell.value_error or ""
    if cell.error is not None:
        seen.error_type, seen.error_text = cell.error.type, f"{cell.error.message}\n{cell.error.traceback}"
    seen.artifacts = tuple(Artifact(name=found.name, data=found.data) for found in cell.artifacts)
    seen.limits = tuple(hit.limit for hit in cell.limits)


def _tools(seen: Seen, final_answer: bool) -> list[Callable[..., object]]:
    def echo(x: object) -> object:
        """Gives back what it is given."""
        seen.tool_arguments.append(x)
        return x

    def final_answer_(x: object) -> None:
        """Takes a last value."""
        seen.tool_arguments.append(x)

    final_answer_.__name__ = "final_answer"
    return [echo, final_answer_] if final_answer else [echo]


@contextlib.contextmanager
def open_range(folder: Path) -> Generator[Range]:
    """A range in an empty folder. The canaries are there before the first worker starts, so that one could inherit."""
    with planted(folder) as canaries, Runtime() as runtime:
        made = Range(runtime, canaries)
        try:
            yield made
        finally:
            made.close()
