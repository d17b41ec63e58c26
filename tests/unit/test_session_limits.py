"""Limits in the host's state machine: those that the other side held and tells, and those that hang together."""

from __future__ import annotations

import pytest
from tests.support.session_frames import done, request, result, send, session_in_cell

from cloche.runtime.cell import LimitHit
from cloche.runtime.errors import ConfigError, ProtocolError
from cloche.runtime.framing import encode_frame
from cloche.runtime.limits import FRAME_ROOM_BYTES, MIB, Limits
from cloche.runtime.protocol import EngineLimit, GuestLimit


def test_limits_held_on_the_other_side_stand_in_the_cell_with_the_hosts_own_bound() -> None:
    session = session_in_cell(tasks=10, files=5, memory_mb=100)
    send(session, GuestLimit(limit="tasks", used=11))
    send(session, GuestLimit(limit="tasks", used=20))
    send(session, GuestLimit(limit="value_depth", used=100))  # as much as is allowed is no hit
    send(session, result())
    send(session, EngineLimit(limit="memory_mb", used=300.5))
    send(session, EngineLimit(limit="files", used=6))
    send(session, done())

    hits = {hit.limit: hit for hit in session.end_cell().limits}
    assert hits == {
        "tasks": LimitHit("tasks", 20, 10),
        "memory_mb": LimitHit("memory_mb", 300.5, 100),
        "files": LimitHit("files", 6, 5),
    }
    session.begin_cell(request())
    send(session, result())
    send(session, done(cell_id=1))
    assert session.end_cell().limits == ()


@pytest.mark.parametrize(
    "header",
    [
        b'{"type":"guest_limit","limit":"memory_mb","used":1,"attachments":[]}',
        b'{"type":"guest_limit","limit":"__class__","used":1,"attachments":[]}',
        b'{"type":"guest_limit","limit":"wall_s","used":1,"attachments":[]}',
        b'{"type":"engine_limit","limit":"tasks","used":1,"attachments":[]}',
        b'{"type":"engine_limit","limit":"files","used":-1,"attachments":[]}',
        b'{"type":"engine_limit","limit":"files","used":NaN,"attachments":[]}',
        b'{"type":"engine_limit","limit":"files","used":1e400,"attachments":[]}',
        b'{"type":"engine_limit","limit":"files","used":true,"attachments":[]}',
        b'{"type":"engine_limit","limit":["files"],"used":1,"attachments":[]}',
    ],
)
def test_a_limit_that_is_not_the_senders_to_tell_kills_the_session(header: bytes) -> None:
    session = session_in_cell()
    with pytest.raises(ProtocolError):
        session.on_frame(encode_frame(header))


@pytest.mark.parametrize("field", ["value_bytes", "artifact_bytes"])
def test_a_frame_must_hold_what_the_other_limits_allow(field: str) -> None:
    size = 50 * MIB
    Limits(**{field: size}, frame_bytes=size + FRAME_ROOM_BYTES)
    with pytest.raises(ConfigError, match=rf"frame_bytes is at least {size + FRAME_ROOM_BYTES} with {field}={size}"):
        Limits(**{field: size}, frame_bytes=size + FRAME_ROOM_BYTES - 1)
