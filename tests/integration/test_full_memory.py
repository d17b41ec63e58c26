"""A sandbox whose memory is full says so, takes what the host sends as well as it can, and can be emptied again."""

from __future__ import annotations

import pytest
from tests.support.places import params, where

from cloche import Limits, Sandbox, tool

pytestmark = pytest.mark.wasmtime

FILLED = {
    "a set": "d = set()\nn = 0\nwhile True: d.add((n, n + 1)); n += 1",
    "a list": "d = []\nwhile True: d.append((len(d),))",
    "in a task": (
        "import asyncio\nd = []\nasync def fill():\n    while True: d.append((len(d),))\n"
        "await asyncio.gather(fill(), asyncio.sleep(1))"
    ),
}
FILLED_AND_CAUGHT = "d = []\ntry:\n    while True: d.append(bytearray(16))\nexcept MemoryError: r = 'caught'\nr"
HELD = "held = bytearray(214 << 20)\n"
"""Of the default 256 MiB: room for a message of 10 MB or for what is in it, not for both."""
AWAITED = {
    "at the top": "try:\n    await long_text.aio()\nexcept MemoryError:\n    r = 'MemoryError'\nr",
    "with a stack inside": (
        "import asyncio\n"
        "async def main():\n    try: await long_text.aio()\n    except MemoryError: return 'MemoryError'\n"
        "def go(): return asyncio.run(main())\nr = go()\nr"
    ),
}


@tool
async def long_text() -> str:
    """Ten million characters."""
    return "x" * 10_000_000


@pytest.fixture(params=params())
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("what", FILLED)
def test_a_sandbox_full_of_small_objects_can_be_emptied(place: str, what: str) -> None:
    with Sandbox(**where(place), limits=Limits(memory_mb=64, wall_s=60, cpu_s=60)) as box:
        for keep in ("first = d", "second = d"):  # the first does not eat what the second needs
            cell = box.run(FILLED[what])
            assert cell.error is not None
            assert cell.error.type == "MemoryError"
            assert "MemoryError" in cell.error.traceback  # so it was shown, and not only counted
            assert box.run(f"{keep}\n1 + 1").value == 2
        assert box.run("del d, first, second\n'gone'").value == "gone"
        assert box.run("len(bytearray(4 << 20))").value == 4 << 20


def test_a_cell_that_caught_its_memory_error_and_keeps_all_is_no_failure(place: str) -> None:
    with Sandbox(**where(place), limits=Limits(memory_mb=64, wall_s=60, cpu_s=60)) as box:
        for _ in range(3):
            cell = box.run(FILLED_AND_CAUGHT)
            assert (cell.error, cell.value) == (None, "caught")
        assert box.run("print('hi')\nlen(d) > 9").value is True


@pytest.mark.parametrize("how", AWAITED)
def test_the_result_of_a_tool_that_finds_no_memory_is_a_memory_error(place: str, how: str) -> None:
    with Sandbox(tools=[long_text], **where(place), limits=Limits(wall_s=60)) as box:
        cell = box.run(HELD + AWAITED[how])
        assert (cell.error, cell.value) == (None, "MemoryError")
        assert "memory_mb" in [hit.limit for hit in cell.limits]
        assert box.run("del held\nlen(await long_text.aio())").value == 10_000_000


def test_inputs_that_find_no_memory_are_a_memory_error(place: str) -> None:
    with Sandbox(**where(place), limits=Limits(wall_s=60)) as box:
        box.run(HELD.replace("214", "220"))
        cell = box.run("'it ran'", inputs={"x": "q" * 8_000_000})
        assert cell.error is not None
        assert (cell.error.type, cell.value) == ("MemoryError", None)
        assert box.run("del held\n'x' in globals()").value is False
        assert box.run("len(x)", inputs={"x": "q" * 8_000_000}).value == 8_000_000
