"""Every field of `Limits` in a real sandbox, in each place: one over, and one that just fits.

The rule: a field stands in `CASES`, or has its own two tests in `OWN_TESTS`; the last tests compare both with `Limits`
and with the words of docs/limits.md, so that a new field without a test fails.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadlines import not_kept, timed_out
from tests.support.places import matrix, params

from cloche import FrameTooLarge, LimitExceeded, Limits, Runtime, SandboxClosed
from cloche.runtime.cell import LimitHit
from cloche.runtime.errors import CannotCross, SandboxFileError
from cloche.runtime.limits import FRAME_ROOM_BYTES, MIB

from .limit_cases import CASES, MEETING, OWN_TESTS, sandbox

pytestmark = pytest.mark.wasmtime

SAMPLE = ("output_bytes", "value_depth", "file_bytes", "concurrent_tool_calls")
"""Cases that run on the engine "deno" in `make test` too; the others in `make test-all`."""
sampled = pytest.mark.parametrize("place", params(), indirect=True)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "limits.md"


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        yield runtime


@pytest.fixture(params=params(sampled=False))
def place(request: pytest.FixtureRequest) -> str:
    MEETING.clear()
    return str(request.param)


# --- exact boundaries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "place"), matrix(CASES, SAMPLE), indirect=["place"])
def test_a_cell_that_uses_all_that_is_allowed_hits_no_limit(runtime: Runtime, place: str, limit: str) -> None:
    case = CASES[limit]
    with sandbox(runtime, place, **{limit: case.allowed}) as box:
        cell = box.run(case.under)
    assert (cell.error, cell.value_error, cell.output_cut, cell.artifacts_dropped) == (None, None, False, 0)
    assert cell.limits == ()


@pytest.mark.parametrize(("limit", "place"), matrix(CASES, SAMPLE), indirect=["place"])
def test_one_over_is_refused_or_cut_and_told_with_three_fields_and_the_sandbox_lives(
    runtime: Runtime, place: str, limit: str
) -> None:
    case = CASES[limit]
    with sandbox(runtime, place, **{limit: case.allowed}) as box:
        cell = box.run(case.over)
        assert box.run("20 + 1").value == 21
    assert (cell.error.type if cell.error else None) == case.raises
    assert cell.limits == (LimitHit(limit, case.used or case.allowed + 1, case.allowed),)


@pytest.mark.parametrize(
    ("limit", "place"), matrix([n for n, case in CASES.items() if case.raises], SAMPLE[:2]), indirect=["place"]
)
def test_a_guest_that_catches_the_exception_does_not_hide_the_limit(runtime: Runtime, place: str, limit: str) -> None:
    case = CASES[limit]
    caught = case.over.replace("\n", "\n    ")
    with sandbox(runtime, place, **{limit: case.allowed}) as box:
        cell = box.run(f"try:\n    {caught}\nexcept BaseException: pass\n'quiet'")
        calm = box.run("'nothing'")
    assert (cell.value, [hit.limit for hit in cell.limits]) == ("quiet", [limit])
    assert calm.limits == ()


@pytest.mark.parametrize("limit", ["files", "file_bytes"])
@pytest.mark.guarantee("G34")
def test_a_full_file_system_says_so_in_the_guest(runtime: Runtime, place: str, limit: str) -> None:
    with sandbox(runtime, place, **{limit: CASES[limit].allowed}) as box:
        over = CASES[limit].over.replace("\n", "\n    ")
        assert (
            box.run(f"try:\n    {over}\nexcept OSError as exc: n = exc.strerror\nn").value == "No space left on device"
        )


@pytest.mark.guarantee("G33")
def test_what_is_cut_is_marked(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, output_bytes=100, artifacts=1) as box:
        cell = box.run("print('x' * 500)\nfor i in range(3): open(f'/out/{i}', 'w').close()")
    assert cell.stdout == "x" * 100 + "\n[output cut: more than 100 bytes]\n"
    assert (cell.output_cut, len(cell.artifacts), cell.artifacts_dropped) == (True, 1, 2)


def test_a_value_too_large_is_refused_on_every_way(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, value_bytes=2000) as box:
        assert box.run("'x' * 5000").value_error == "value: value_bytes of 2000 exceeded (5064)"
        argument = box.run("echo('x' * 5000)")
        result = box.run("make(5000)")
        with pytest.raises(CannotCross, match="value_bytes of 2000 exceeded"):
            box.run("x", inputs={"x": "x" * 5000})
        assert box.run("1").value == 1
    for cell, kind in ((argument, "ValueError"), (result, "ToolError")):
        assert cell.error is not None
        assert (cell.error.type, [hit.limit for hit in cell.limits]) == (kind, ["value_bytes"])


def test_the_hosts_own_file_over_the_quota_is_its_own_error(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, file_bytes=1000, files=2) as box:
        box.write_file("/tmp/a", bytes(1000))
        with pytest.raises(SandboxFileError, match="file_bytes allows 1000"):
            box.write_file("/tmp/b", bytes(1001))
        with pytest.raises(SandboxFileError, match="no space"):
            box.write_file("/tmp/b", b"1")
        assert box.run("1").limits == ()


# --- memory -----------------------------------------------------------------------------------------------------------

FILL = """
blocks = []
try:
    while True: blocks.append(bytearray(1 << 20))
except MemoryError:
    count = len(blocks)
    blocks.clear()
count"""


@sampled
def test_memory_mb_over_is_a_memory_error_and_one_block_less_fits(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, memory_mb=96) as box:
        full = box.run(FILL)
        assert isinstance(full.value, int)
        assert full.usage.memory_bytes <= 96 * MIB
        assert [(hit.limit, hit.allowed) for hit in full.limits] == [("memory_mb", 96)]
        assert 96 < full.limits[0].used < 100
        assert box.run("20 + 1").limits == ()
    take = f"blocks = [bytearray(1 << 20) for _ in range({full.value - 2})]\nlen(blocks)"
    with sandbox(runtime, place, memory_mb=96) as box:
        cell = box.run(take)
        assert (cell.error, cell.value, cell.limits) == (None, full.value - 2, ())


def test_a_memory_error_that_ends_the_cell_is_told_too(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, memory_mb=80) as box:
        cell = box.run("x = bytearray(200 << 20)")
        assert cell.error is not None
        assert (cell.error.type, cell.limits[0].limit) == ("MemoryError", "memory_mb")
        assert cell.limits[0].used > 200
        assert box.run("20 + 1").value == 21


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
@sampled
def test_wall_s_over_raises_and_well_under_does_not(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, wall_s=20) as box:
        assert box.run("import time; time.sleep(0.2); 'slept'").value == "slept"
        error = timed_out(
            lambda wait_s: box.run("print('here'); time.sleep(60)", deadline_s=wait_s),
            lambda error: error.cell is not None and error.cell.stdout != "",
        )
    assert (error.limit, error.state_kept) == ("wall_s", True)
    assert error.allowed <= error.used < error.allowed + 10
    assert error.cell is not None
    assert error.cell.stdout == "here\n"


def test_wall_s_raises_although_the_guest_swallows_the_interrupt(runtime: Runtime, place: str) -> None:
    deaf = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    closed: list[bool] = []

    def run(wall_s: float) -> None:
        with sandbox(runtime, place, wall_s=wall_s) as box:
            try:
                box.run(deaf)
            finally:
                closed.append(box.closed)

    assert not timed_out(run, not_kept).state_kept
    assert closed[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="CPU time of workers is seen on Linux")
def test_cpu_s_over_raises_and_ends_the_worker_and_well_under_does_not(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, cpu_s=1, wall_s=60) as box:
        assert box.run("import time\nfor n in range(100_000): pass\ntime.sleep(1.5)\nn").limits == ()
        assert box.run("work(1.3)").limits == (), "time in tools is not the guest's"
        with pytest.raises(LimitExceeded) as caught:
            box.run("sum(range(10**12))")
        assert (type(caught.value), caught.value.limit, caught.value.allowed) == (LimitExceeded, "cpu_s", 1)
        assert 1 <= caught.value.used < 60  # exactly 1 where the kernel was before the watch
        with pytest.raises(SandboxClosed):
            box.run("1")


def test_tool_s_over_is_a_tool_error_and_a_quick_tool_is_not(runtime: Runtime, place: str) -> None:
    with sandbox(runtime, place, tool_s=0.3) as box:
        started = time.monotonic()
        for call in ("hang()", "await hang.aio()"):
            cell = box.run(call)
            assert cell.error is not None
            assert (cell.error.type, [(hit.limit, hit.allowed) for hit in cell.limits]) == (
                "ToolError",
                [("tool_s", 0.3)],
            )
            assert cell.limits[0].used >= 0.3
        assert time.monotonic() - started < 30
    with sandbox(runtime, place, tool_s=20) as box:
        cell = box.run("await meet.aio(1)")
        assert (cell.error, cell.limits) == (None, ())


# --- bytes as sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "code"), [("tool_bytes_in", "echo(b'x' * 1000) is None"), ("tool_bytes_out", "len(make(1000))")]
)
@pytest.mark.guarantee("G35")
def test_tool_bytes_over_by_one_is_a_tool_error_and_exactly_enough_is_not(
    runtime: Runtime, place: str, limit: str, code: str
) -> None:
    with sandbox(runtime, place) as box:
        needed = getattr(box.run(code).usage, limit)
    with sandbox(runtime, place, **{limit: needed}) as box:
        assert box.run(code).limits == ()
        assert box.run(code).limits == (), "the budget counts per cell"
    with sandbox(runtime, place, **{limit: needed - 1}) as box:
        cell = box.run(code)
        assert cell.error is not None
        assert (cell.error.type, cell.limits) == ("ToolError", (LimitHit(limit, needed, needed - 1),))
        assert box.run("20 + 1").value == 21


FORGE = """
import _host, struct
def forge(length):
    room = length - 4
    header = b'{"type":"output","stream":"stdout","attachments":[%d]}'
    raw = header % (room - len(header) - 5)  # seven digits for two letters
    _host.call(struct.pack("<II", length, len(raw)) + raw + bytes(room - len(raw)))
"""


@sampled
@pytest.mark.guarantee("G22")
def test_frame_bytes_over_by_one_ends_the_worker_and_exactly_enough_does_not(runtime: Runtime, place: str) -> None:
    allowed = 2 * MIB
    with sandbox(runtime, place, frame_bytes=allowed, value_bytes=MIB, artifact_bytes=MIB) as box:
        assert box.run(FORGE + f"forge({allowed})\n'went on'").value == "went on"
        with pytest.raises(FrameTooLarge) as caught:
            box.run(f"forge({allowed + 1})")
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("frame_bytes", allowed + 1, allowed)
        with pytest.raises(SandboxClosed):
            box.run("1")


def test_a_frame_has_room_for_what_the_other_limits_allow(runtime: Runtime, place: str) -> None:
    tight: dict[str, float] = {
        "frame_bytes": 4 * MIB,
        "value_bytes": 4 * MIB - FRAME_ROOM_BYTES,
        "artifact_bytes": 4 * MIB - FRAME_ROOM_BYTES,
        "artifacts": 1024,
        "files": 2000,
        "file_bytes": 8 * MIB,
    }
    with sandbox(runtime, place, **tight) as box:
        size = int(tight["value_bytes"]) - 64
        value = box.run(f"b'x' * {size}").value
        assert isinstance(value, bytes)
        assert len(value) == size
        one = box.run(f"with open('/out/a', 'wb') as f: f.write(bytes({int(tight['artifact_bytes'])}))")
        assert [len(artifact.data) for artifact in one.artifacts] == [tight["artifact_bytes"]]
        many = box.run("import os\nos.unlink('/out/a')\nfor i in range(1025): open(f'/out/{i}', 'w').close()")
        assert (len(many.artifacts), many.artifacts_dropped) == (1024, 1)


def test_artifacts_with_endless_paths_are_left_out_and_harm_nobody(runtime: Runtime, place: str) -> None:
    deep = """
import os
path = "/out"
for _ in range(15):
    path += "/" + "\\N{GRINNING FACE}" * 60
    os.mkdir(path)
for i in range(100): open(f"{path}/{i}", "w").close()"""
    with sandbox(runtime, place) as box:
        cell = box.run(deep)
        assert cell.error is None
        assert len(cell.artifacts) + cell.artifacts_dropped == 100
        assert cell.artifacts_dropped > 0
        assert box.run("20 + 1").value == 21


def test_code_bytes_over_by_one_raises_before_anything_runs_and_exactly_enough_runs(
    runtime: Runtime, place: str
) -> None:
    with sandbox(runtime, place, code_bytes=50) as box:
        assert box.run("x = 1".ljust(50)).ok
        with pytest.raises(LimitExceeded) as caught:
            box.run("x = 2".ljust(51))
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("code_bytes", 51, 50)
        assert box.run("x").value == 1, "the only hard limit that costs no sandbox"


# --- the table is whole -----------------------------------------------------------------------------------------------


def test_every_field_of_limits_has_its_tests() -> None:
    fields = {field.name for field in dataclasses.fields(Limits)}
    assert CASES.keys() | OWN_TESTS.keys() == fields
    assert not CASES.keys() & OWN_TESTS.keys()
    tests = [name for name in globals() if name.startswith("test_")]
    for field in OWN_TESTS:
        name = "tool_bytes" if field.startswith("tool_bytes") else field
        assert [test for test in tests if re.match(f"test_{name}_(over|raises)", test)], field


def test_the_page_says_of_every_limit_what_the_tests_show() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|[^|]*\|[^|]*\| (hard|guest|cut)\b", DOCS.read_text(encoding="utf-8"), re.MULTILINE
    )
    kinds: dict[str, str] = {name: case.kind for name, case in CASES.items()}
    assert dict(rows) == kinds | OWN_TESTS
    assert len(rows) == len(dict(rows))
