"""Clocks, calendar, randomness, environment, memory growth and the end of a process, as imports see them."""

from __future__ import annotations

import calendar
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_box import PAGE, BoxExited, FakeBox

from cloche.wasm_sandbox import errno
from cloche.wasm_sandbox.memory import MemoryFault
from cloche.wasm_sandbox.world import FIXED_START_NS, World


def tm_of(box: FakeBox, name: str, seconds: int) -> tuple[int, ...]:
    at = box.room(44)
    assert box.call(name, seconds, at) is None
    return struct.unpack("<9i", box.memory.read(at, 36))


def expected_tm(seconds: int) -> tuple[int, ...]:
    t = time.gmtime(seconds)
    weekday = (t.tm_wday + 1) % 7
    return t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon - 1, t.tm_year - 1900, weekday, t.tm_yday - 1, 0


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_calendar_agrees_with_the_hosts_for_all_years_of_datetime(seconds: int) -> None:
    box = FakeBox()
    assert tm_of(box, "_gmtime_js", seconds) == tm_of(box, "_localtime_js", seconds) == expected_tm(seconds)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_second_makes_a_calendar_date_or_zeros(seconds: int) -> None:
    box = FakeBox()
    fields = tm_of(box, "_gmtime_js", seconds)
    at = box.put(struct.pack("<9i", *fields))
    assert fields == (0,) * 9 or box.call("_timegm_js", at) == seconds


def test_dates_outside_their_ranges_are_brought_into_normal_form() -> None:
    box = FakeBox()
    for fields in [
        (61, 61, 25, 32, 12, 99),
        (-1, -1, -1, 0, -13, 70),
        (0, 0, 0, 29, 1, 101),
        (2**31 - 1, 0, 0, 1, 0, 70),
    ]:
        at = box.put(struct.pack("<6i", *fields) + bytes(20))
        second, minute, hour, day, month, year = fields
        first = calendar.timegm((year + 1900 + month // 12, month % 12 + 1, 1, 0, 0, 0))
        seconds = first + (day - 1) * 86400 + hour * 3600 + minute * 60 + second
        assert box.call("_mktime_js", at) == seconds
        assert struct.unpack("<9i", box.memory.read(at, 36)) == expected_tm(seconds)


def test_date_beyond_the_last_year_is_minus_one() -> None:
    box = FakeBox()
    at = box.put(struct.pack("<6i", 0, 0, 0, 1, 12, 2**31 - 1) + bytes(20))
    assert box.call("_timegm_js", at) == -1


def test_zone_is_utc() -> None:
    box = FakeBox()
    zone, daylight, standard, summer = (box.put(b"\xff" * 17) for _ in range(4))
    assert box.call("_tzset_js", zone, daylight, standard, summer) is None
    assert (box.memory.u32(zone), box.memory.u32(daylight)) == (0, 0)
    assert box.memory.cstr(standard) == box.memory.cstr(summer) == b"UTC"


def test_clocks_come_from_the_world() -> None:
    box = FakeBox()
    at = box.room(8)
    assert box.call("clock_time_get", 0, 0, at) == 0
    assert struct.unpack("<q", box.memory.read(at, 8)) == (FIXED_START_NS + 1_000,)
    assert box.call("clock_time_get", 1, 0, at) == 0
    assert struct.unpack("<q", box.memory.read(at, 8)) == (2_000,)
    assert box.call("emscripten_date_now") == FIXED_START_NS / 1e6
    assert box.call("emscripten_get_now") == 0.004
    assert box.call("clock_res_get", 3, at) == 0
    assert struct.unpack("<q", box.memory.read(at, 8)) == (1_000,)
    assert box.call("clock_time_get", 4, 0, at) == box.call("clock_res_get", 2**32 - 1, at) == errno.EINVAL


def test_live_clocks_follow_the_host_and_begin_at_zero() -> None:
    before = time.time_ns() // 1000 * 1000
    world = World(bytes(16))
    assert before <= world.time_ns() <= time.time_ns()
    first = world.monotonic_ns()
    assert 0 <= first <= world.monotonic_ns() < 10 * 10**9
    assert first % 1000 == world.time_ns() % 1000 == 0


def test_randomness_follows_from_the_seed_alone() -> None:
    one, two, other = World(b"a" * 32), World(b"a" * 32), World(b"b" * 32)
    draws = [one.random(16), one.random(16), one.random(300)]
    assert len(set(draws)) == 3
    assert [two.random(16), two.random(16), two.random(300)] == draws
    assert other.random(16) != draws[0]
    one.reseed(b"b" * 32)
    other.reseed(b"b" * 32)
    assert one.random(16) == other.random(16)
    with pytest.raises(ValueError, match="at least 16"):
        one.reseed(b"short")


def test_fixed_worlds_are_equal_in_every_respect() -> None:
    one, two = World.fixed(), World.fixed()
    for world in (one, two):
        world.random(5)
        world.time_ns()
    assert (one.random(8), one.time_ns(), one.monotonic_ns(), one.environ) == (
        two.random(8),
        two.time_ns(),
        two.monotonic_ns(),
        two.environ,
    )


def test_random_bytes_of_one_call_are_capped() -> None:
    box = FakeBox()
    at = box.room(64)
    assert box.call("random_get", at, 64) == 0
    assert box.memory.read(at, 64) != bytes(64)
    assert box.call("random_get", at, 64 * 1024 + 1) == box.call("random_get", at, 2**32 - 1) == errno.EINVAL
    with pytest.raises(MemoryFault):
        box.call("random_get", box.memory.size - 1, 2)


def test_environment_is_the_worlds_and_fits_the_sizes_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "x")
    box = FakeBox()
    count, size = box.room(4), box.room(4)
    assert box.call("environ_sizes_get", count, size) == 0
    number, length = box.memory.u32(count), box.memory.u32(size)
    pointers, buffer = box.room(4 * number), box.put(b"\xff" * (length + 1))
    assert box.call("environ_get", pointers, buffer) == 0
    lines = [box.memory.cstr(box.memory.u32(pointers + 4 * index)) for index in range(number)]
    assert dict(line.split(b"=", 1) for line in lines) == box.world.environ
    assert b"HOST_SECRET" not in box.world.environ
    assert box.memory.read(buffer + length - 1, 2) == b"\x00\xff"


def test_memory_grows_to_the_limit_and_no_further() -> None:
    box = FakeBox(pages=10, limit_pages=20)
    assert box.call("emscripten_get_heap_max") == 20 * PAGE
    assert box.call("emscripten_resize_heap", 20 * PAGE + 1) == 0
    assert box.call("emscripten_resize_heap", 2**32 - 1) == 0
    assert box.memory.size == 10 * PAGE
    assert box.call("emscripten_resize_heap", 10 * PAGE + 1) == 1
    assert box.memory.size == 12 * PAGE  # a fifth more than asked for
    assert box.call("emscripten_resize_heap", 19 * PAGE) == 1
    assert box.call("emscripten_resize_heap", 20 * PAGE) == 1
    assert box.memory.size == 20 * PAGE


def test_limit_that_is_no_whole_page_is_rounded_down() -> None:
    box = FakeBox(pages=10, limit_pages=20)
    box.memory_limit = 15 * PAGE + 100
    assert box.call("emscripten_get_heap_max") == 15 * PAGE
    assert box.call("emscripten_resize_heap", 15 * PAGE + 1) == 0
    assert box.call("emscripten_resize_heap", 15 * PAGE) == 1


def test_process_can_end_in_four_ways() -> None:
    box = FakeBox()
    ends: list[tuple[int, str]] = []
    for name, arguments in [
        ("proc_exit", (3,)),
        ("exit", (-1,)),
        ("_abort_js", ()),
        ("__assert_fail", (box.text("x > 0"), box.text("a.c"), 7, 0)),
        ("__assert_fail", (0, 0, 7, 0)),
    ]:
        with pytest.raises(BoxExited) as caught:
            box.call(name, *arguments)
        ends.append((caught.value.code, caught.value.message))
    assert ends == [
        (3, ""),
        (-1, ""),
        (134, "abort()"),
        (134, "assertion failed: x > 0 at a.c:7"),
        (134, "assertion failed: unknown"),
    ]


def test_messages_of_the_c_library_go_to_the_raw_stderr() -> None:
    box = FakeBox()
    assert box.call("_emscripten_log_formatted", 0, box.text("careful")) is None
    assert box.call("emscripten_log_impl_js", box.text("again")) is None
    assert box.raw_output == [(2, b"careful\n"), (2, b"again\n")]


def test_program_name_is_cut_to_its_buffer() -> None:
    box = FakeBox()
    for size, name in [(100, b"python"), (7, b"python"), (4, b"pyt"), (1, b"")]:
        at = box.put(b"\xff" * 10)
        assert box.call("_emscripten_get_progname", at, size) is None
        assert box.memory.cstr(at) == name
        assert box.memory.read(at + len(name) + 1, 1) == b"\xff"
    assert box.call("_emscripten_get_progname", 0, 0) is None


def test_timers_shells_and_native_code_are_refused() -> None:
    box = FakeBox()
    assert box.call("_setitimer_js", 0, 5.0) == -1
    assert box.call("_setitimer_js", 0, 0.0) == 0
    assert box.call("_emscripten_system", 0) == 0
    assert box.call("_emscripten_system", box.text("id")) == -errno.ENOSYS
    assert box.call("_dlopen_js", 0) == box.call("_dlsym_js", 0, 0, 0) == box.call("ffi_closure_alloc_js", 8, 0) == 0
