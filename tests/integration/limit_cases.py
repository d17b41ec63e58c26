"""Each limit with its boundary, and the tools and sandboxes in which test_every_limit.py tries them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from tests.support.places import where

from cloche import Limits, Runtime, Sandbox, tool
from cloche.runtime.limits import MIB

Kind = Literal["hard", "guest", "cut"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One limit with an exact boundary, set to `allowed`."""

    kind: Kind
    allowed: int
    under: str
    """Uses exactly what is allowed."""
    over: str
    """Uses one more, and catches nothing."""
    raises: str | None = None
    """The exception that the guest sees, by name; None where the cell goes on."""
    used: int | None = None
    """What the host must have counted, if that is more than one over."""


CASES = {
    "output_bytes": Case(kind="cut", allowed=100, under="print('x' * 99)", over="print('x' * 100)"),
    "value_bytes": Case(kind="guest", allowed=2000, under="'x' * 1936", over="'x' * 1937"),
    "value_depth": Case(
        kind="guest", allowed=3, under="echo([[]][0]); [[[]]]", over="echo([[[[]]]])", raises="ValueError"
    ),
    "int_digits": Case(kind="guest", allowed=20, under="echo(10**20 - 1)", over="echo(10**20)", raises="ValueError"),
    "files": Case(
        kind="guest",
        allowed=5,
        under="for i in range(5): open(f'/tmp/{i}', 'w').close()",
        over="import os\nfor i in range(5): open(f'/tmp/{i}', 'w').close()\nos.mkdir('/tmp/more')",
        raises="OSError",
    ),
    "file_bytes": Case(
        kind="guest",
        allowed=1000,
        under="with open('/tmp/a', 'wb', 0) as f: f.write(bytes(1000))",
        over="with open('/tmp/a', 'wb', 0) as f: f.write(bytes(1001))",
        raises="OSError",
    ),
    "artifacts": Case(
        kind="cut",
        allowed=3,
        under="for i in range(3): open(f'/out/{i}', 'w').close()",
        over="for i in range(4): open(f'/out/{i}', 'w').close()",
    ),
    "artifact_bytes": Case(
        kind="cut",
        allowed=100,
        under="with open('/out/a', 'wb') as f: f.write(bytes(100))",
        over="with open('/out/a', 'wb') as f: f.write(bytes(101))",
    ),
    "tool_calls": Case(
        kind="guest",
        allowed=3,
        under="for i in range(3): echo(i)",
        over="for i in range(4): echo(i)",
        raises="ToolError",
    ),
    "concurrent_tool_calls": Case(
        kind="guest",
        allowed=3,
        under="import asyncio\nawait asyncio.gather(*[meet.aio(3) for _ in range(3)])",
        over="import asyncio\nawait asyncio.gather(*[meet.aio(4) for _ in range(4)])",
        raises="ToolError",
    ),
    "tasks": Case(
        kind="guest",
        allowed=10,
        under="import asyncio\nawait asyncio.gather(*[asyncio.sleep(0) for _ in range(9)])",
        over="import asyncio\nawait asyncio.gather(*[asyncio.sleep(0) for _ in range(10)])",
        raises="RuntimeError",
    ),
}

OWN_TESTS: dict[str, Kind] = {
    "wall_s": "hard",
    "cpu_s": "hard",
    "memory_mb": "guest",
    "frame_bytes": "hard",
    "tool_bytes_in": "guest",
    "tool_bytes_out": "guest",
    "tool_s": "guest",
    "code_bytes": "hard",
}
"""What has no exact boundary, or none that a table could tell."""


@tool
def echo(x: object) -> object:
    """The same again.

    Args:
        x: anything.
    """
    return x


@tool
def make(count: int) -> bytes:
    """Bytes.

    Args:
        count: how many.
    """
    return bytes(count)


@tool
def work(seconds: float) -> None:
    """Burn CPU time on the host.

    Args:
        seconds: how much.
    """
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@tool
async def meet(count: int) -> None:
    """Come back once that many calls are open at once.

    Args:
        count: how many.
    """
    mine = asyncio.Event()
    MEETING.append(mine)
    if len(MEETING) >= count:
        for other in MEETING:
            other.set()
    await mine.wait()


@tool
async def hang() -> None:
    """Never come back."""
    await asyncio.Event().wait()


MEETING: list[asyncio.Event] = []


def sandbox(runtime: Runtime, place: str, **limits: float) -> Sandbox:
    fields: dict[str, float] = {"wall_s": 20, "file_bytes": MIB, **limits}
    return runtime.sandbox(tools=[echo, make, work, meet, hang], **where(place), limits=Limits(**fields))  # type: ignore[arg-type]
