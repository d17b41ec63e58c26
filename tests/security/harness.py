"""Runs a probe in a sandbox of cloche and records what the host sees: `Range` is the place, `Range.shoot` one run.

The rule: the harness believes no probe. It watches from outside: memory of host and worker, files, sockets, logs, other
sandboxes, and a fresh one afterwards. Waits have a bound, and a run that outlives it is a finding, not a hanging suite.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cloche import Cell, ClocheError, Limits, Runtime, Sandbox

from .canaries import Canaries, planted
from .corpus import Probe, prepared
from .verdict import HEADROOM_BYTES, Artifact, Seen

MIB = 1024 * 1024
HANG_S = 20.0
"""Past its deadline; a run that is still there then will not come back."""
PING_EVERY_S = 0.1
WORKER_BASE_BYTES = 160 * MIB
"""A worker without guest memory of its own: Python, wasmtime, the image's pages."""
ENDLESS = frozenset({"hp-02", "brg-22"})
ROOMY = frozenset({"brg-10", "hp-03"})
"""They build objects of 64 and 128 MB; with less memory their guest would stop them before the host has to."""


def limits_for(probe: Probe) -> Limits:
    """Small caps: a run that needs more is the attack."""
    busy = probe.category == "resource" or probe.id in ENDLESS
    return Limits(
        wall_s=2.5 if busy else 15.0,
        cpu_s=2.5 if busy else 15.0,
        memory_mb=256 if probe.id in ROOMY else 128,
        output_bytes=256 * 1024,
        value_bytes=1 * MIB,
        frame_bytes=8 * MIB,
        files=200,
        file_bytes=16 * MIB,
        artifact_bytes=4 * MIB,
        tool_calls=10_000_000 if probe.id == "res-30" else 1000,  # res-30 shall end by its deadline, not by this cap
    )


class Range:
    """A runtime with a neighbour per isolation, who is asked all the time, and canaries all around."""

    def __init__(self, runtime: Runtime, canaries: Canaries) -> None:
        self.runtime = runtime
        self.canaries = canaries
        self._neighbours: dict[str, _Neighbour] = {}
        self.plants: list[str] = []
        """Probes of the planting kind that ran here."""

    def shoot(
        self,
        probe: Probe,
        isolation: str,
        *,
        final_answer: bool = False,
        before: str = "",
        host_output: Callable[[], str] = str,
    ) -> Seen:
        """One run in a fresh sandbox. `before`: guest code in front. `host_output`: what this process printed."""
        limits = limits_for(probe)
        code = prepared(
            probe, self.canaries, deadline_s=limits.wall_s, memory_mb=limits.memory_mb, before=before
        )
        seen = Seen(probe=probe, outcome="hang", deadline_s=limits.wall_s, output_bytes=limits.output_bytes)
        tools = [_recording("echo", seen), *([_recording("final_answer", seen)] if final_answer else [])]
        neighbour = self._neighbour(isolation)
        secret, contacts = self.canaries.tool_calls, self.canaries.server.contacts
        hits = self.canaries.server.hits(probe.id)
        host_output()
        with _logs(seen.log), _audit(str(self.canaries.folder.parent), seen.audit):
            box = self.runtime.sandbox(tools=tools, limits=limits, isolation=isolation)
            self._observe(box, code, seen, neighbour, limits)
            box.close()
            self._after(isolation, seen)
        worker = _Worker.of(box)
        seen.secret_calls = self.canaries.tool_calls - secret
        seen.contacts = self.canaries.server.contacts - contacts
        seen.hits = self.canaries.server.hits(probe.id) - hits
        seen.pwned = self.canaries.pwned()
        seen.printed = host_output()
        del worker
        if probe.expect == "harmless" and probe.category == "persistence":
            self.plants.append(probe.id)
        return seen

    def close(self) -> None:
        for neighbour in self._neighbours.values():
            neighbour.box.close()

    def _neighbour(self, isolation: str) -> _Neighbour:
        if isolation not in self._neighbours:
            box = self.runtime.sandbox(
                tools=[self.canaries.secret_tool], isolation=isolation, limits=Limits(wall_s=HANG_S, memory_mb=64)
            )
            self._neighbours[isolation] = _Neighbour(box)
        return self._neighbours[isolation]

    def _observe(self, box: Sandbox, code: str, seen: Seen, neighbour: _Neighbour, limits: Limits) -> None:
        worker = _Worker.of(box)
        before = _reset_peak()
        ended: list[Cell | BaseException] = []
        thread = threading.Thread(target=_run, args=(box, code, ended), daemon=True)
        started = time.monotonic()
        thread.start()
        while thread.is_alive() and time.monotonic() - started < limits.wall_s + HANG_S:
            thread.join(PING_EVERY_S)
            neighbour.ping(seen)
            worker.look(seen)
        seen.wall_s = (_ended_at(ended) or time.monotonic()) - started
        neighbour.ping(seen)
        seen.host_growth_bytes = _memory("VmHWM") - before
        in_host = 0 if worker.pid else limits.memory_mb * MIB + limits.file_bytes
        seen.host_budget_bytes = HEADROOM_BYTES + in_host
        if worker.pid:
            seen.worker_budget_bytes = limits.memory_mb * MIB + limits.file_bytes + WORKER_BASE_BYTES
        if ended:
            _record(ended[0], seen)

    def _after(self, isolation: str, seen: Seen) -> None:
        """A fresh sandbox answers as if nothing had been."""
        asked: list[object] = []

        def echo(x: object) -> object:
            asked.append(x)
            return x

        try:
            with self.runtime.sandbox(tools=[echo], isolation=isolation, limits=Limits(wall_s=HANG_S)) as box:
                cell = box.run("echo(['after', 6 * 7])")
        except ClocheError as exc:
            seen.next_session = f"{type(exc).__name__}: {exc}"
            return
        if (cell.value, asked, cell.stdout) != (["after", 42], [["after", 42]], ""):
            seen.next_session = repr(cell)


@contextlib.contextmanager
def open_range(folder: Path) -> Generator[Range]:
    """A range in an empty folder. The canaries are there before the first worker starts, so that one could inherit."""
    with planted(folder) as canaries, Runtime() as runtime:
        made = Range(runtime, canaries)
        try:
            yield made
        finally:
            made.close()
