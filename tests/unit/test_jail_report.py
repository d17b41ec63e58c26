"""What the jail says about itself, and what a policy makes of it."""

from __future__ import annotations

import errno
import json
import os
import struct

import pytest

from cloche.runtime.config import RuntimeConfig, config_from_environment
from cloche.runtime.errors import ConfigError, WallMissing
from cloche.runtime.policy import Policy
from cloche.runtime.runtime import Runtime
from cloche.runtime.walls import NAMES, Wall, deno_walls, require, walls_around
from cloche.wasm_sandbox.jail import landlock, report, rlimits
from cloche.wasm_sandbox.jail.report import PURPOSES, REPORT_BYTES, Record, Report, all_missing, decode, encode


def fails_with(number: int) -> str:
    raise OSError(number, os.strerror(number))


def test_a_wall_that_went_up_is_active_with_its_purpose_and_detail() -> None:
    notes = Report()
    assert notes.raise_wall(report.LANDLOCK, lambda: "ABI 7")
    assert Record(report.LANDLOCK, True, f"{PURPOSES[report.LANDLOCK]} (ABI 7)") in notes.records


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSYS, "Function not implemented (errno 38: this kernel is too old or built without it)"),
        (errno.EPERM, "Operation not permitted (errno 1: a container profile, AppArmor or a sysctl forbids it)"),
        (errno.EINVAL, "Invalid argument (errno 22)"),
    ],
)
def test_a_wall_that_failed_says_why(number: int, why: str) -> None:
    notes = Report()
    assert not notes.raise_wall(report.SECCOMP, lambda: fails_with(number))
    assert Record(report.SECCOMP, False, why) in notes.records


def test_a_wall_that_was_left_out_is_not_built() -> None:
    notes = Report([report.PID])
    assert not notes.raise_wall(report.PID, lambda: pytest.fail("built"))
    assert Record(report.PID, False, "left out by its caller") in notes.records


def test_every_wall_is_reported_even_if_nobody_tried_it() -> None:
    assert [record.name for record in Report().records] == list(PURPOSES)
    assert not any(record.active for record in Report().records)


def test_a_report_crosses_as_it_is_and_fits_its_bound() -> None:
    records = [Record(name, index % 2 == 0, "x" * report.TEXT_BYTES) for index, name in enumerate(PURPOSES)]
    assert decode(encode(records)) == records
    assert len(encode(records)) <= REPORT_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[[1,true,'x']]",
        b'[["pid-namespace",1,"x"]]',
        b'[["moat",true,"x"]]',
        b'[["user",true]]',
        b"9" * 9000,
    ],
)
def test_what_is_no_report_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of json or of ours
        decode(data)


def test_a_long_reason_is_cut() -> None:
    (record,) = decode(json.dumps([["user", False, "x" * 5000]]).encode())
    assert len(record.why) == report.TEXT_BYTES


# --- policy -----------------------------------------------------------------------------------------------------------


def test_required_walls_that_stand_are_fine() -> None:
    require({"a"}, [Wall("a", True, ""), Wall("b", False, "")])


def test_a_missing_wall_raises_with_its_reason_and_what_to_do() -> None:
    with pytest.raises(WallMissing, match=r"landlock: too old\)\. Allow what is refused") as caught:
        require({"landlock", "wasm"}, walls_around("process", [Record("landlock", False, "too old")]))
    assert caught.value.walls == ("landlock",)


def test_a_wall_that_no_list_names_is_missing_too() -> None:
    with pytest.raises(WallMissing):
        require({"seccomp"}, walls_around("thread", []))


def test_a_policy_names_walls_that_exist() -> None:
    assert Policy(require_walls=["seccomp", "landlock"]).require_walls == {"seccomp", "landlock"}
    with pytest.raises(ConfigError, match="there is no wall 'moat'"):
        Policy(require_walls={"moat"})
    with pytest.raises(ConfigError, match="a set of names"):
        Policy(require_walls="seccomp")


def test_the_environment_can_require_walls() -> None:
    config = config_from_environment({"CLOCHE_REQUIRE_WALLS": "seccomp, landlock"})
    assert config == RuntimeConfig(policy=Policy(require_walls={"seccomp", "landlock"}))


def test_thread_isolation_is_refused_where_walls_are_required() -> None:
    policy = Policy(require_walls={"wasm"})
    with Runtime(policy=policy) as runtime, pytest.raises(ConfigError, match='isolation="thread" has none'):
        runtime.core.source("thread")


def test_all_walls_can_be_required() -> None:
    walls = [*walls_around("process", all_missing("x")), *deno_walls(all_missing("x"))]
    assert {wall.name for wall in walls} == NAMES


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (1, [(1 << 13) - 1]),
        (2, [(1 << 14) - 1]),
        (3, [(1 << 15) - 1]),
        (4, [(1 << 15) - 1, 3]),
        (5, [(1 << 16) - 1, 3]),
        (6, [(1 << 16) - 1, 3, 3]),
        (9, [(1 << 16) - 1, 3, 3]),
    ],
)
def test_landlock_handles_every_right_of_the_kernels_version(version: int, words: list[int]) -> None:
    assert landlock.ruleset(version) == struct.pack(f"<{len(words)}Q", *words)


def test_a_workers_memory_cap_has_room_for_what_its_limits_allow() -> None:
    mib = rlimits.MIB
    assert rlimits.data_bytes(256 * mib, 64 * mib, 16 * mib) == (96 + 256 + 3 * 64 + 4 * 16 + 64) * mib
