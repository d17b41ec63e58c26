"""Frames cut from a byte stream, and interrupts that meet the right request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.runtime.errors import ProtocolError
from cloche.runtime.framing import encode_frame
from cloche.wasm_sandbox.channel import FrameReader
from cloche.wasm_sandbox.worker import InterruptGate

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        yield ours, theirs


def test_a_frame_comes_out_as_it_went_in(pair: Pair) -> None:
    frame = encode_frame(b'{"a":1}', [b"attachment"])
    pair[1].sendall(frame)
    reader = FrameReader(pair[0], 1000)
    assert reader.read() == frame
    assert not reader.pending


@given(
    frames=st.lists(st.binary(min_size=0, max_size=40_000).map(lambda body: encode_frame(b"{}", [body])), max_size=5),
    cuts=st.lists(st.integers(min_value=1, max_value=20_000), min_size=1, max_size=8),
)
def test_frames_survive_any_chunking(frames: list[bytes], cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        stream = b"".join(frames)
        writer = threading.Thread(target=_send_in_pieces, args=(theirs, stream, cuts))
        writer.start()
        reader = FrameReader(ours, 100_000)
        assert [reader.read() for _ in frames] == frames
        assert not reader.pending
        writer.join(5)


def _send_in_pieces(sock: socket.socket, data: bytes, cuts: list[int]) -> None:
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        sock.sendall(data[at : at + size])
        at, turn = at + size, turn + 1


def test_a_length_over_the_bound_is_refused_before_its_bytes_come(pair: Pair) -> None:
    pair[1].sendall((2**32 - 1).to_bytes(4, "little") + (2).to_bytes(4, "little"))
    with pytest.raises(ProtocolError, match="frame of 4294967295 bytes, 1000 are allowed"):
        FrameReader(pair[0], 1000).read()


def test_a_frame_of_exactly_the_bound_is_taken_and_one_byte_more_is_not(pair: Pair) -> None:
    fits = encode_frame(b"{}", [bytes(94)])
    pair[1].sendall(fits)
    assert FrameReader(pair[0], 100).read() == fits
    pair[1].sendall(encode_frame(b"{}", [bytes(95)]))
    with pytest.raises(ProtocolError):
        FrameReader(pair[0], 100).read()


@pytest.mark.parametrize("sent", [b"", b"\x06", encode_frame(b"{}", [b"rest"])[:-1]])
def test_the_end_of_the_stream_is_an_eof_error_wherever_it_comes(pair: Pair, sent: bytes) -> None:
    pair[1].sendall(sent)
    pair[1].close()
    with pytest.raises(EOFError):
        FrameReader(pair[0], 1000).read()


@given(st.binary(max_size=300))
def test_random_bytes_give_frames_or_protocol_errors_and_nothing_else(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        reader = FrameReader(ours, 200)
        frames: list[bytes] = []
        with pytest.raises((ProtocolError, EOFError)):
            frames.extend(iter(reader.read, b"never"))
        assert data.startswith(b"".join(frames))


class Flag:
    """A guest that only knows interrupts."""

    def __init__(self) -> None:
        self.up = False

    def handle(self, frame: bytes, send: object, ask: object) -> None:
        raise AssertionError

    def interrupt(self) -> None:
        self.up = True

    def rehearse(self) -> None:
        """Nothing to touch."""

    def clear_interrupt(self) -> None:
        self.up = False


def test_an_interrupt_reaches_the_request_that_runs() -> None:
    guest = Flag()
    gate = InterruptGate(guest)
    gate.open()
    gate.deliver(1)
    assert guest.up


def test_an_interrupt_that_overtakes_its_request_waits_for_it() -> None:
    guest = Flag()
    gate = InterruptGate(guest)
    gate.open()
    gate.shut()
    gate.deliver(2)
    assert not guest.up
    gate.open()
    assert guest.up


def test_an_interrupt_that_comes_too_late_hits_no_later_request() -> None:
    guest = Flag()
    gate = InterruptGate(guest)
    gate.open()
    gate.shut()
    gate.deliver(1)
    for _ in range(600):
        gate.open()
        assert not guest.up
        gate.shut()


def test_an_interrupt_that_the_guest_has_not_seen_ends_with_its_request() -> None:
    guest = Flag()
    gate = InterruptGate(guest)
    gate.open()
    gate.deliver(1)
    gate.shut()
    assert not guest.up
