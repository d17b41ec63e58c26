"""Sandboxes of the real engine and the life of their host: forks, an end without `close`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from tests.support.places import PLACES, params, where
from tests.support.waiting import wait_until

import cloche

pytestmark = [
    pytest.mark.wasmtime,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc"),
]

FOLDER = Path(cloche.__file__ or "").parent.parent

FORKS = """
import json, os, sys
from cloche import Sandbox, UsedAfterFork
places = json.loads(sys.argv[1])
boxes = [Sandbox(**place) for place in places]
for box in boxes:
    box.run("x = 1")
for place in places:
    pid = os.fork()
    if pid == 0:
        with Sandbox(**place) as mine:
            print("child", mine.run("1 + 1").value, flush=True)
        try:
            boxes[0].run("x")
        except UsedAfterFork:
            print("refused", flush=True)
        sys.exit(0)
    print("exit status", os.waitpid(pid, 0)[1], flush=True)
for box in boxes:
    print("parent", box.run("x").value)
    box.close()
"""

LEAVES = """
import json, sys, threading
from cloche import Sandbox, TimedOut
from cloche.runtime import execution

begun = threading.Event()

def hang():
    begun.set()
    threading.Event().wait(60)

for place in json.loads(sys.argv[1]):
    box = Sandbox(tools=[hang], **place)
    # Where the state is kept, the guest has all the time it needs to heed the interrupt.
    for code, execution.INTERRUPT_GRACE_S in (("hang()", 0.2), ("await hang.aio()", 5.0)):
        for deadline_s in (1, 5, 20):  # the first in which the tool begins
            begun.clear()
            try:
                box.run(code, deadline_s=deadline_s)
            except TimedOut as exc:
                kept = exc.state_kept
            if box.closed:
                box.reset()
            if begun.is_set():
                break
        print(kept)
"""


def run_host(script: str, places: Collection[str]) -> tuple[list[str], int]:
    """Lines that a host process printed, which has sandboxes in these places, and its pid."""
    allowed = {name: value for name, value in os.environ.items() if name.startswith(("CLOCHE_", "HOME", "XDG_"))}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, json.dumps([where(place) for place in places])],
        env={**allowed, "PYTHONPATH": str(FOLDER)},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return out.splitlines(), process.pid


def check_forks(places: Collection[str]) -> None:
    lines, _ = run_host(FORKS, places)
    child = ["child 2", "refused", "exit status 0"]
    assert lines == child * len(places) + ["parent 1"] * len(places)


def test_a_forked_child_has_its_own_sandboxes_and_the_parent_keeps_its_own() -> None:
    check_forks(PLACES[:2])


@pytest.mark.deno
@pytest.mark.exhaustive
def test_a_fork_is_the_same_beside_the_engine_deno() -> None:
    check_forks(PLACES)


@pytest.mark.parametrize("place", params())
def test_a_host_ends_at_once_although_tools_hang_and_leaves_no_process_behind(place: str) -> None:
    lines, host_pid = run_host(LEAVES, [place])
    assert lines == ["False", "True"]
    told = f"\0{host_pid}\0".encode()  # a fork server is told the pid of its host
    wait_until(lambda: not any(told in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
