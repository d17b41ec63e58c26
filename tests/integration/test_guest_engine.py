"""The guest's Python where it lives: CPython 3.14 in wasm on the real engine, with real signals and little memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from tests.support.places import params, where

from cloche import Limits, Runtime, Sandbox, TimedOut, tool

pytestmark = pytest.mark.wasmtime
BOUND_S = 20.0


@tool
def get_price(item: str) -> float:
    """Price of an item in euros.

    Args:
        item: name of the item, lower case.
    """
    return {"tea": 3.5, "milk": 1.25}[item]


@tool
async def get_stock(item: str) -> int:
    """Pieces of an item in stock.

    Args:
        item: name of the item, lower case.
    """
    await asyncio.sleep(0.05)
    return len(item)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as made:
        yield made


@pytest.fixture(params=params(sampled=False))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def box(runtime: Runtime, place: str) -> Iterator[Sandbox]:
    limits = Limits(wall_s=20, memory_mb=128, tool_calls=10_000_000)  # a fast machine makes 10,000 in 0.3 s
    with runtime.sandbox(**where(place), tools=[get_price, get_stock], limits=limits) as made:
        made.run("import asyncio, time\nkept = 5")
        yield made


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True: print('x' * 100)",
        "while True: get_price('tea')",
        "while True: await get_stock.aio('tea')",
        "time.sleep(100)",
        "await asyncio.sleep(100)",
        "x = 1 + asyncio.run(asyncio.sleep(100))",
        "asyncio.run(asyncio.sleep(100))",
        "class A:\n    def __repr__(self):\n        while True: pass\nA()",
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "async def f():\n    try: await asyncio.sleep(9)\n    finally:\n        while True: pass\n"
        "t = asyncio.create_task(f())\nawait asyncio.sleep(0)",
    ],
)
def test_a_missed_deadline_stops_the_code_and_keeps_the_state(box: Sandbox, code: str) -> None:
    with pytest.raises(TimedOut) as caught:
        box.run(code, deadline_s=0.3)
    assert caught.value.state_kept
    assert box.run("kept, await asyncio.sleep(0.001, 7)").value == (5, 7)


@pytest.mark.parametrize("code", ["while True: pass", "time.sleep(100)", "await asyncio.sleep(100)"])
def test_an_interrupt_from_another_thread_is_an_error_of_the_cell(box: Sandbox, code: str) -> None:
    over = threading.Event()

    def interrupt() -> None:
        while not over.wait(0.2):  # again where it came before the cell and hit nothing
            box.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        cell = box.run(code)
    finally:
        over.set()
        thread.join(BOUND_S)
    assert cell.error is not None
    assert cell.error.type == "KeyboardInterrupt"
    assert box.run("kept").value == 5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("b'x' * 10**9", "MemoryError"),
        ("s = 'x'\nwhile True: s += s", "MemoryError"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("class A:\n    def __repr__(self): return repr(self)\nprint(A())", "RecursionError"),
    ],
)
def test_memory_and_stack_run_out_as_python_errors(box: Sandbox, code: str, kind: str) -> None:
    cell = box.run(code)
    assert cell.error is not None
    assert cell.error.type == kind
    assert box.run("kept").value == 5


def test_awaited_tools_run_at_the_same_time(runtime: Runtime, place: str) -> None:
    there = 0
    all_there = asyncio.Event()

    @tool
    async def meet(number: int) -> int:
        nonlocal there
        there += 1
        if there == 10:
            all_there.set()
        async with asyncio.timeout(BOUND_S):
            await all_there.wait()  # passes only when all ten calls are open at once
        return number

    with runtime.sandbox(**where(place), tools=[meet]) as box:
        code = "import asyncio\nawait asyncio.gather(*[meet.aio(n) for n in range(10)])"
        assert box.run(code).value == list(range(10))


def test_a_tool_shows_its_signature(box: Sandbox) -> None:
    assert box.run("import inspect\nstr(inspect.signature(get_price))").value == "(item: str) -> float"
    assert "get_price(item: str) -> float" in box.run("help(get_price)").stdout


def test_the_rehearsal_of_the_image_leaves_nothing_behind(box: Sandbox) -> None:
    assert box.run("import sys, linecache\n[k for k in linecache.cache if '<' in k]").value == ["<cell 1>", "<cell 2>"]
    names = box.run("sorted(n for n in globals() if not n.startswith('__'))").value
    assert names == ["asyncio", "get_price", "get_stock", "kept", "linecache", "sys", "time"]


@pytest.mark.guarantee("G39")
def test_two_sandboxes_of_one_image_draw_different_random_numbers(runtime: Runtime, place: str, box: Sandbox) -> None:
    code = "import random, uuid, secrets\n[random.random(), str(uuid.uuid4()), secrets.token_hex(8)]"
    with runtime.sandbox(**where(place)) as other:
        assert not set(box.run(code).value) & set(other.run(code).value)  # type: ignore[call-overload]  # lists


def test_sqlite_works(box: Sandbox) -> None:
    box.run("import sqlite3\nc = sqlite3.connect(':memory:')\nc.execute('create table t (a)')")
    assert box.run("c.execute('insert into t values (7)')\nc.execute('select a from t').fetchall()").value == [(7,)]


def test_the_whole_standard_library_imports_or_fails_with_an_import_error(box: Sandbox) -> None:
    code = (
        "import sys, warnings\nwarnings.simplefilter('ignore')\nbad = {}\n"
        "for name in sorted(sys.stdlib_module_names - {'antigravity', 'this', '_ctypes'}):\n"
        "    try: __import__(name)\n    except ImportError: pass\n"
        "    except BaseException as exc: bad[name] = repr(exc)\nbad"
    )
    assert box.run(code).value == {}
