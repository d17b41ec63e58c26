"""Both engines answer the host imports alike: the same calls, valid and wild, on both, compared to the byte."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.import_calls import (
    NAMES,
    PATHS,
    PATHS_AT,
    PIECES,
    PIECES_AT,
    TYPES,
    Call,
    perform,
    prepare,
    random_call,
)
from tests.support.fake_box import FakeBox

from cloche.deno_host.npm import deno_executable
from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.world import _FIXED_SEED, FIXED_START_NS  # pyright: ignore[reportPrivateUsage]

pytestmark = pytest.mark.deno

ROOT = Path(__file__).resolve().parents[2]
REPLAY = ROOT / "tests" / "support" / "replay_imports.ts"
SHAPE = {"pages": 4, "limit_pages": 8, "max_files": 12, "max_bytes": 20_000}
Answer = tuple[Any, int]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_thousand_calls_of_all_imports_have_the_same_answers_and_effects_on_both_engines(seed: int) -> None:
    calls, expected = play(seed, 1_000)
    answers = replay(calls)
    assert len(answers) == len(expected)
    for index, (call, answer, wanted) in enumerate(zip(calls, answers, expected, strict=True)):
        assert answer == wanted, f"call {index} of seed {seed}: {call}"


def play(seed: int, count: int) -> tuple[list[list[Any]], list[Answer]]:
    """Random calls, and what the Python handlers make of them."""
    source = random.Random(seed)  # noqa: S311  # repeatable, not secret
    box = FakeBox(**SHAPE)
    calls: list[list[Any]] = []
    answers: list[Answer] = []

    def note(call: list[Any], result: Any) -> None:
        calls.append(call)
        answers.append((result, zlib.crc32(box.memory.read(0, box.memory.size))))

    addresses = prepare(box)
    note([None, prepared()], 0)
    for _ in range(count):
        call = random_call(source, addresses)
        note([call.name, *map(wire, TYPES[call.name][0], call.arguments)], outcome(call, perform(box, call)))
        if source.random() < 0.05:
            prepare(box)
            note([None, prepared()], 0)
    return calls, answers


def prepared() -> list[list[Any]]:
    """What `prepare` writes: addresses and bytes."""
    paths = [[at, (path + b"\0").hex()] for at, path in zip(PATHS_AT, PATHS, strict=True)]
    arrays = [b"".join(struct.pack("<II", *piece) for piece in pieces) for pieces in PIECES]
    return paths + [[at, array.hex()] for at, array in zip(PIECES_AT, arrays, strict=True)]


def wire(kind: str, value: float) -> int | float | str:
    """An argument as wasm gives it: i32 signed, i64 with an `n`, doubles that JSON lacks as text."""
    if kind == "i64":
        return f"{value}n"
    if kind == "f64":
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    number = int(value) & 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def outcome(call: Call, result: float | None) -> int | float | str | None:
    """A result as wasm would see it."""
    kinds = TYPES[call.name][1]
    if not kinds or result is None:
        return None
    return f"{result}" if kinds == ["i64"] else result if kinds == ["f64"] else int(result) & 0xFFFFFFFF


def replay(calls: list[list[Any]]) -> list[Answer]:
    try:
        deno = str(deno_executable())
    except ImageError as exc:
        pytest.skip(str(exc))
    script = {**SHAPE, "seed": _FIXED_SEED.decode(), "fixed_start_ns": str(FIXED_START_NS), "calls": calls}
    done = subprocess.run(
        [deno, "run", "--quiet", "--no-config", "--no-lock", "--no-remote", "--no-npm", "--no-prompt", str(REPLAY)],
        input=json.dumps(script).encode(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [(seen(call, result), crc) for call, (result, crc) in zip(calls, json.loads(done.stdout), strict=True)]


def seen(call: list[Any], result: Any) -> Any:
    """The replay's result as wasm would see it."""
    if call[0] is None:
        return result
    kinds = TYPES[call[0]][1]
    if not kinds:
        return None
    return int(result) & 0xFFFFFFFF if kinds == ["i32"] and result is not None else result


def test_the_calls_reach_every_import() -> None:
    source, box = random.Random(1), FakeBox(**SHAPE)  # noqa: S311  # as above
    addresses = prepare(box)
    assert {random_call(source, addresses).name for _ in range(5_000)} == set(NAMES)
