"""What is written to descriptors 1 and 2 past the runner: order, batches, caps. `relay_test.ts` has the twins."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cloche.wasm_sandbox import raw_output
from cloche.wasm_sandbox.filesystem import FileSystem
from cloche.wasm_sandbox.instance import Instance
from cloche.wasm_sandbox.memory import GuestMemory
from cloche.wasm_sandbox.raw_output import MOST_HELD, OVERTAKEN, WAITS
from cloche.wasm_sandbox.relay import GuestHost, build_frame
from cloche.wasm_sandbox.world import World

STATE_AT = 12
RESULT = build_frame({"type": "result", "attachments": []})
CALL = build_frame({"type": "tool_call", "attachments": []})


class FakeInstance:
    """Its guest does what the test says. One byte of its memory is the runner's."""

    def __init__(self, act: Callable[[FakeInstance], None]) -> None:
        self._bytes = ctypes.create_string_buffer(64)
        self.memory = GuestMemory(ctypes.addressof(self._bytes), 64)
        self.memory_bytes = self.memory_refused = 0
        self.output_state = STATE_AT
        self.files = FileSystem({}, 10, 100, lambda: 0)
        self.host_call: Callable[[bytes], bytes] = bytes
        self._act = act

    def enter(self, _message: bytes) -> bytes:
        self._act(self)
        return b""

    def raw(self, text: str, fd: int = 1) -> None:
        self.files.open_files.write(fd, text.encode())

    def print(self, text: str) -> None:
        header = {"type": "output", "stream": "stdout", "attachments": [len(text)]}
        self.host_call(build_frame(header, (text.encode(),)))

    @property
    def state(self) -> int:
        return self.memory.read(STATE_AT, 1)[0]

    @state.setter
    def state(self, state: int) -> None:
        self.memory.write(STATE_AT, bytes((state,)))


def heard(act: Callable[[FakeInstance], None], limit: int = 99, said: list[str] | None = None) -> list[str]:
    """What the host hears of a cell in which the guest acts so: one entry a frame. `said`: where to put it."""
    said = [] if said is None else said

    def send(frame: bytes) -> None:
        size = 8 + int.from_bytes(frame[4:8], "little")
        header: dict[str, Any] = json.loads(frame[8:size])
        said.append(f"{header.get('stream', header['type'])}:{frame[size : size + 20].decode()}")

    def ask(frame: bytes) -> bytes:
        send(frame)
        return b""

    instance = FakeInstance(act)
    host = GuestHost(cast("Instance", instance), World.fixed(), instance.files)
    cell: dict[str, Any] = {
        "type": "cell",
        "id": 7,
        "output_bytes": limit,
        "artifacts": 1,
        "artifact_bytes": 1,
        "attachments": [],
    }
    instance.raw("before the cell\n")
    host.handle(build_frame(cell), send, ask)
    instance.raw("after it\n")
    return said


@pytest.fixture(autouse=True)
def _clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(raw_output, "time", SimpleNamespace(monotonic=lambda: 0.0))


def test_a_line_is_sent_at_first_then_together_before_the_host_is_asked_and_at_the_end() -> None:
    def act(guest: FakeInstance) -> None:
        guest.raw("one\n")
        guest.raw("two\n")
        guest.raw("three\n", fd=2)
        guest.host_call(CALL)
        guest.raw("end")

    assert heard(act) == ["stdout:one\n", "stdout:two\n", "stderr:three\n", "tool_call:", "stdout:end", "done:"]


def test_it_keeps_its_place_among_what_the_runner_sends() -> None:
    def act(guest: FakeInstance) -> None:
        guest.raw("raw 1")
        guest.print("print 2")
        guest.raw("raw 3")
        guest.state = WAITS  # print 4 waits
        guest.raw("raw 5\n")
        assert guest.state == OVERTAKEN
        guest.print("print 4a")
        guest.state = 0
        guest.print("print 4b")
        guest.host_call(RESULT)
        guest.raw("late")

    places = [f"stdout:{text}" for text in ("raw 1", "print 2", "raw 3", "print 4a", "print 4b", "raw 5\n")]
    assert heard(act) == [*places, "result:", "stdout:late", "done:"]


def test_the_cap_holds_and_more_than_can_be_held_does_not_wait() -> None:
    assert heard(lambda guest: guest.raw("x" * 99), limit=2) == ["stdout:" + "x" * 10, "done:"]

    def act(guest: FakeInstance) -> None:
        guest.state = WAITS
        guest.raw("x" * (MOST_HELD + 1))
        guest.host_call(CALL)

    said = heard(act, limit=2 * MOST_HELD)
    assert len(said) == MOST_HELD // (256 * 1024) + 3
    assert said[-2:] == ["tool_call:", "done:"]


def test_what_is_held_is_bounded_however_small_its_parts() -> None:
    early = 0

    def act(guest: FakeInstance) -> None:
        nonlocal early
        guest.state = WAITS
        for number in range(MOST_HELD // 100):
            guest.raw("x", fd=1 + number % 2)
        early = len(said)

    said: list[str] = []
    heard(act, limit=MOST_HELD, said=said)
    assert early > 30_000


def test_a_flood_of_single_bytes_makes_few_frames() -> None:
    def act(guest: FakeInstance) -> None:
        for _ in range(40_000):
            guest.raw("x")

    assert len(heard(act, limit=40_000)) == 4
