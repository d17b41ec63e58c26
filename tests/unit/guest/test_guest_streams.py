"""stdout and stderr: live, in order, bounded, whatever is written to them."""

from __future__ import annotations

import pytest

from cloche.runtime import protocol
from cloche.runtime.framing import MAX_HEADER_BYTES
from cloche.runtime.limits import FRAME_ROOM_BYTES, Limits

from .conftest import FakeHost, Ran


def _outputs(ran: Ran) -> int:
    return sum(isinstance(frame, protocol.Output) for frame in ran.frames)


def test_a_line_is_sent_while_the_cell_runs(host: FakeHost) -> None:
    seen: list[str] = []
    host.on_frame = lambda frame: seen.append(frame.type)
    host.run("print('first')\nget_price('tea')\nprint('second', end='')\nget_price('tea')")
    assert seen == ["output", "tool_call", "output", "tool_call", "result"]


def test_lines_that_follow_each_other_closely_share_a_frame(host: FakeHost) -> None:
    ran = host.run("for i in range(100): print(i)")
    assert ran.stdout == "".join(f"{i}\n" for i in range(100))
    assert _outputs(ran) == 2


def test_slow_lines_each_have_their_frame(host: FakeHost) -> None:
    ran = host.run("import time\nfor i in range(5):\n    print(i)\n    time.sleep(0.5)")
    assert _outputs(ran) == 5


def test_an_explicit_flush_is_obeyed(host: FakeHost) -> None:
    assert _outputs(host.run("for i in range(5): print(i, end='', flush=True)")) == 5


def test_stdout_and_stderr_keep_their_order(host: FakeHost) -> None:
    ran = host.run("import sys\nfor i in range(3):\n    print(i, end=' ')\n    print(i, file=sys.stderr)")
    order = [frame.stream for frame in ran.frames if isinstance(frame, protocol.Output)]
    assert order == ["stdout", "stderr"] * 3
    assert (ran.stdout, ran.stderr) == ("0 1 2 ", "0\n1\n2\n")


def test_a_flood_stops_costing_frames_just_past_the_cap(host: FakeHost) -> None:
    ran = host.run("for i in range(100_000): print('x' * 99)", output_bytes=5000)
    assert 5000 < len(ran.stdout) <= 5008
    assert _outputs(ran) <= 3
    assert host.run("print('again')", output_bytes=5000).stdout == "again\n"


def test_output_that_fills_the_cap_exactly_is_whole(host: FakeHost) -> None:
    assert host.run("print('x' * 4999)", output_bytes=5000).stdout == "x" * 4999 + "\n"


def test_one_huge_write_is_sent_in_frames_of_bounded_size(host: FakeHost) -> None:
    ran = host.run("print('é' * 2_000_000, end='')", output_bytes=8 << 20)
    sizes = [frame.attachments[0] for frame in ran.frames if isinstance(frame, protocol.Output)]
    assert ran.stdout == "é" * 2_000_000
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    "code",
    ["print('x' * (3 << 20))", "import sys\nn = sys.stdout.buffer.write(b'\\xff' * 3_000_000)"],
    ids=["text", "not UTF-8"],
)
def test_no_frame_of_output_is_longer_than_the_smallest_limit_on_frames(host: FakeHost, code: str) -> None:
    longest = Limits(frame_bytes=1 << 20, value_bytes=1 << 16, artifact_bytes=1 << 16).frame_bytes
    ran = host.run(code, output_bytes=16 << 20)
    sizes = [frame.attachments[0] for frame in ran.frames if isinstance(frame, protocol.Output)]
    assert len(ran.stdout) >= 3_000_000
    assert max(sizes) + FRAME_ROOM_BYTES - MAX_HEADER_BYTES <= longest  # its header is short


def test_with_no_room_at_all_the_host_still_learns_that_there_was_output(host: FakeHost) -> None:
    assert host.run("print('x' * 100)", output_bytes=0).stdout == "x" * 8


def test_text_that_cannot_be_encoded_is_escaped(host: FakeHost) -> None:
    assert host.run("print('a\\ud800b')").stdout == "a\\ud800b\n"


def test_bytes_are_text_in_the_end(host: FakeHost) -> None:
    ran = host.run(
        "import sys\nsys.stdout.buffer.write(b'caf\\xc3')\nsys.stdout.flush()\nsys.stdout.buffer.write(b'\\xa9\\n')"
    )
    assert ran.stdout == "caf\ufffd\ufffd\n"  # a flush sends half a character as it is
    ran = host.run(
        "import sys\nn = sys.stdout.buffer.write(b'caf\\xc3')\nn += sys.stdout.buffer.write(b'\\xa9\\n\\xff')"
    )
    assert ran.stdout == "café\n\ufffd"


def test_stdout_is_a_text_stream_like_any_other(host: FakeHost) -> None:
    code = (
        "import sys, io\ns = sys.stdout\n[isinstance(s, io.TextIOBase), s.encoding, s.isatty(), s.writable(), s.name]"
    )
    assert host.run(code).value == [True, "utf-8", False, True, "<stdout>"]
    assert host.run("sys.stdout.fileno()").error.type == "UnsupportedOperation"
    assert host.run("sys.stdout.buffer.write('text')").error.type == "TypeError"


def test_a_stream_that_a_cell_closed_behind_our_back_is_a_fresh_one_in_the_next(host: FakeHost) -> None:
    host.run("import sys\nsys.stdout.buffer.flush = lambda: None\nsys.stdout.close()")
    assert host.run("print('here again')").stdout == "here again\n"


def test_redirected_output_is_not_sent(host: FakeHost) -> None:
    ran = host.run(
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f: print('x')\nf.getvalue()"
    )
    assert (ran.stdout, ran.value) == ("", "x\n")


def test_a_logging_handler_of_an_earlier_cell_still_writes(host: FakeHost) -> None:
    host.run(
        "import logging\nlog = logging.getLogger('x')\nlog.propagate = False\nlog.addHandler(logging.StreamHandler())"
    )
    assert host.run("log.warning('careful')").stderr == "careful\n"


def test_input_says_that_nobody_is_there_to_answer(host: FakeHost) -> None:
    ran = host.run("input('name? ')")
    assert ran.error.type == "EOFError"
    assert "no stdin" in ran.error.message
    assert host.run("import sys\nsys.stdin.read()").value == ""
