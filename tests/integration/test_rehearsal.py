"""A rehearsed instance and one that never rehearsed are the same sandbox, as far as a tenant can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloche.runtime.limits import Limits
from cloche.runtime.protocol import RunCell, render_cell
from cloche.runtime.session import Session
from cloche.runtime.thread_link import ThreadSource
from cloche.runtime.values import ValueLimits, encode
from cloche.wasm_sandbox.relay import GuestHost

pytestmark = pytest.mark.wasmtime

PROBE = """
import gc, os, random, sys
(os.urandom(8), random.random(), sorted(globals()), sorted(sys.modules), hash("cloche"), gc.get_count()[2],
 getattr(sys, "last_exc", None), os.listdir("/tmp"), os.listdir("/"))
"""
SEED = "5e" * 32


@pytest.fixture(scope="module")
def source() -> Iterator[ThreadSource]:
    source = ThreadSource(None)
    source.prepare()
    yield source
    source.close()


def results(host: GuestHost) -> list[bytes]:
    """The result frames of a start and two cells."""
    said: list[bytes] = []

    def refuse(_question: bytes) -> bytes:
        raise AssertionError("nothing is asked here")

    cell = RunCell(id=0, output_bytes=10_000, artifacts=0, artifact_bytes=0, cpu_s=60.0)
    empty = encode({}, ValueLimits(), "inputs")
    host.handle(Session([], Limits()).start_frame(SEED), said.append, refuse)
    for code in (PROBE, "print(1)\nx = 2\nx"):
        host.handle(render_cell(cell, (code.encode(), empty)), said.append, refuse)
    return [bytes(frame) for frame in said if b'{"type":"result"' in bytes(frame)[:40]]


def test_a_tenant_cannot_tell_whether_his_instance_rehearsed(source: ThreadSource) -> None:
    fresh, rehearsed = source._new_host(), source._new_host()  # pyright: ignore[reportPrivateUsage]
    try:
        rehearsed.rehearse()
        rehearsed.rehearse()
        expected = results(fresh)
        assert all(b'"error":null' in frame for frame in expected)
        assert results(rehearsed) == expected
    finally:
        fresh.close()
        rehearsed.close()


def test_a_rehearsal_goes_the_whole_way_of_a_message(source: ThreadSource) -> None:
    host = source._new_host()  # pyright: ignore[reportPrivateUsage]
    passed: list[bytes] = []
    answer = host.instance.host_call

    def note(message: bytes) -> bytes:
        reply = answer(message)  # raises for what it does not take
        passed.append(message)
        return reply

    host.instance.host_call = note
    try:
        host.rehearse()
    finally:
        host.close()
    assert len(passed) == 1
    assert b'"SystemError"' in passed[0], "the word that a guest has ready"
