"""asyncio without threads or sockets: the step loop, the blocking loop, and what a cell leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from .conftest import FakeHost

HELPERS = """
import asyncio
async def nap(s, r=None):
    await asyncio.sleep(s)
    return r
"""


@pytest.fixture
def box(host: FakeHost) -> Iterator[FakeHost]:
    host.run(HELPERS)
    yield host
    gc.collect()  # what it has to say about coroutines and tasks belongs to this test


@pytest.mark.parametrize(
    ("code", "value", "seconds"),
    [
        ("await nap(1, 5)", 5, 1),
        ("await asyncio.gather(nap(1, 1), nap(2, 2), nap(1, 3))", [1, 2, 3], 2),
        ("x = await nap(1, 5)\nx + 1", 6, 1),
        ("r = [await nap(1, i) for i in range(3)]\nr", [0, 1, 2], 3),
        ("[x async for x in agen()]", [0, 1], 2),
        ("async with asyncio.timeout(1): await nap(2)", TimeoutError, 1),
        ("await asyncio.wait_for(nap(9), 0.5)", TimeoutError, 0.5),
        ("await asyncio.to_thread(get_price, 'tea')", 3.5, 0),
        ("await asyncio.get_running_loop().run_in_executor(None, get_price, 'tea')", 3.5, 0),
        ("q = asyncio.Queue()\nt = asyncio.create_task(q.put(3))\nawait q.get()", 3, 0),
        ("async with asyncio.TaskGroup() as g:\n    a, b = g.create_task(nap(1, 1)), g.create_task(nap(2, 2))\n"
         "a.result() + b.result()", 3, 2),
        ("e = asyncio.Event()\nasyncio.get_running_loop().call_later(3, e.set)\nawait e.wait()", True, 3),
        ("asyncio.run(nap(1, 5))", 5, 1),
        ("x = asyncio.run(nap(1, 5))\nx", 5, 1),
        ("asyncio.run(nap(1)); asyncio.run(nap(1, 7))", 7, 2),
        ("asyncio.get_event_loop().run_until_complete(nap(2, 8))", 8, 2),
        ("loop=asyncio.new_event_loop()\ntry: r = loop.run_until_complete(nap(2, 8))\nfinally: loop.close()\nr", 8, 2),
        ("with asyncio.Runner() as r: v = r.run(nap(1, 4)) + r.run(nap(1, 4))\nv", 8, 2),
        ("sum(asyncio.run(nap(1, i)) for i in range(3))", 3, 3),
        ("asyncio.run(asyncio.wait_for(nap(9), 0.5))", TimeoutError, 0.5),
        ("async def main():\n    return asyncio.run(nap(1))\nawait main()", RuntimeError, 0),
        ("async def main():\n    return asyncio.run(nap(1))\nasyncio.run(main())", RuntimeError, 0),
        ("import decimal\nawait nap(0)\ndecimal.getcontext().prec = 5", None, 0),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:coroutine 'nap' was never awaited")
def test_asyncio_does_what_it_does_anywhere(box: FakeHost, code: str, value: object, seconds: float) -> None:
    box.run("async def agen():\n    for i in range(2):\n        await nap(1)\n        yield i")
    start = box.now
    ran = box.run(code)
    if isinstance(value, type):
        assert ran.error.type == value.__name__
    else:
        assert ran.result.error is None, ran.error.traceback
        assert ran.value == value
    assert box.now - start == pytest.approx(seconds)
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("code", "idle", "waits"),
    [
        ("await nap(1)", 1, 0),
        ("asyncio.run(nap(1))", 1, 0),
        ("x = asyncio.run(nap(1, 3))\n", 1, 0),
        ("y = 1 + asyncio.run(nap(1, 3))", 0, 1),
        ("asyncio.run(nap(1))\nz = 1", 0, 1),
        ("await nap(1)\nasyncio.run(nap(1))", 1, 0),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'nap' was never awaited")
def test_no_stack_is_left_inside_where_the_cell_awaits_at_its_top(
    box: FakeHost, code: str, idle: int, waits: int
) -> None:
    ran = box.run(code)
    assert (ran.idle, ran.waits) == (idle, waits)


def test_asyncio_run_at_the_end_of_a_cell_assigns_and_cleans_up_like_the_real_one(box: FakeHost) -> None:
    ran = box.run("async def main():\n    asyncio.create_task(nap(99))\n    return 4\nx = asyncio.run(main())")
    assert (ran.result.error, ran.stderr, ran.value) == (None, "", None)
    assert box.run("x").value == 4
    assert box.run("asyncio.run(5)").error.message == "a coroutine was expected, got 5"


def test_another_asyncio_is_the_users_own(box: FakeHost) -> None:
    box.run("class asyncio:\n    def run(x): return x * 2")
    assert box.run("asyncio.run(4)").value == 8
    assert box.run("x = asyncio.run(4)\nx").value == 8


def test_names_of_the_runner_are_not_left_in_the_namespace(box: FakeHost) -> None:
    box.run("asyncio.run(nap(1))")
    box.run("x = asyncio.run(1 / 0)")
    box.run("5\n6")
    assert box.run("[n for n in globals() if not n.isidentifier()]").value == []


def test_pending_tasks_are_cancelled_with_a_warning_that_names_them(box: FakeHost) -> None:
    ran = box.run("t = asyncio.create_task(nap(99), name='poller')\nawait asyncio.sleep(0)\n7")
    assert ran.value == 7
    assert ran.stderr == "1 asyncio task cancelled at the end of the cell: poller nap()\n"
    assert box.run("t.cancelled()").value is True


def test_a_task_started_without_await_is_cancelled_too(box: FakeHost) -> None:
    ran = box.run("t = asyncio.get_event_loop().create_task(nap(99))")
    assert "cancelled at the end of the cell: Task-" in ran.stderr


def test_a_task_may_clean_up_when_it_is_cancelled(box: FakeHost) -> None:
    ran = box.run(
        "log = []\nasync def f():\n    try: await nap(99)\n    finally:\n        await nap(0.1)\n"
        "        log.append(await get_price.aio('tea'))\nt = asyncio.create_task(f())\nawait asyncio.sleep(0)"
    )
    assert ran.result.error is None
    assert box.run("log").value == [3.5]


def test_a_task_that_refuses_to_end_is_left_behind(box: FakeHost) -> None:
    ran = box.run(
        "async def f():\n    while True:\n        try: await nap(99)\n        except asyncio.CancelledError: pass\n"
        "t = asyncio.create_task(f())\nawait asyncio.sleep(0)"
    )
    assert "did not end when cancelled" in ran.stderr
    assert box.run("await nap(1, 5)").value == 5
    assert box.run("import gc\ndel t\ngc.collect()\n5").value == 5


def test_waiting_for_nothing_is_an_error_and_not_a_hang(box: FakeHost) -> None:
    error = box.run("await asyncio.Event().wait()").error
    assert (error.type, error.line) == ("CancelledError", 1)
    assert error.message == "nothing can wake this: no tool call and no timer is pending"
    assert box.run("y = 1 + asyncio.run(asyncio.Event().wait())").error.message == error.message


@pytest.mark.filterwarnings("ignore:coroutine 'nap' was never awaited")
@pytest.mark.guarantee("G34")
def test_tasks_are_limited(bare_host: FakeHost) -> None:
    bare_host.start(tasks=20)
    bare_host.run(HELPERS)
    assert bare_host.run("len(await asyncio.gather(*[nap(1) for _ in range(15)]))").value == 15
    assert bare_host.run("for _ in range(100): await asyncio.gather(*[nap(1) for _ in range(15)])").result.error is None
    error = bare_host.run("await asyncio.gather(*[nap(1) for _ in range(25)])").error
    assert error.message == "20 asyncio tasks are alive, no more are allowed in this sandbox"
    assert bare_host.run("await nap(1, 5)").value == 5
    gc.collect()


def test_many_cancelled_timers_do_not_pile_up(box: FakeHost) -> None:
    ran = box.run(
        "for _ in range(1000): await asyncio.wait_for(nap(0), 1000)\nlen(asyncio.get_running_loop()._scheduled) < 250"
    )
    assert ran.value is True


def test_the_decimal_context_of_an_awaiting_cell_holds_in_the_next(box: FakeHost) -> None:
    box.run("import decimal\nawait nap(0)\ndecimal.getcontext().prec = 5")
    assert box.run("decimal.getcontext().prec").value == 5


def test_sys_exit_in_a_task_ends_the_cell(box: FakeHost) -> None:
    error = box.run("import sys\nasync def f(): sys.exit(2)\nt = asyncio.create_task(f())\nawait nap(9)").error
    assert error.type == "SystemExit"
    assert box.run("await nap(1, 5)").value == 5


def test_a_traceback_of_an_awaited_function_starts_in_the_cell(box: FakeHost) -> None:
    error = box.run("async def f():\n    await nap(1)\n    1 / 0\nawait f()").error
    assert error.traceback.startswith('Traceback (most recent call last):\n  File "<cell 2>", line 4, in <module>\n')
    assert (error.line, error.type) == (3, "ZeroDivisionError")


def test_an_async_generator_may_be_left_unfinished(box: FakeHost) -> None:
    ran = box.run(
        "async def g():\n    try:\n        while True: yield 1\n    finally: print('closed')\n"
        "async for x in g(): break\nawait nap(0)"
    )
    assert ran.result.error is None
    assert ran.stdout == "closed\n"


def test_code_for_a_thread_pool_runs_one_call_after_the_other(box: FakeHost) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor, as_completed\nwith ThreadPoolExecutor(4) as pool:\n"
        "    r = list(pool.map(get_price, ['tea', 'milk']))\n    f = pool.submit(get_price, 'gold')\n"
        "    done = [x.exception().type for x in as_completed([f])]\n[r, done]"
    )
    assert box.run(code).value == [[3.5, 1.25], ["KeyError"]]


def test_a_thread_says_that_there_are_none(box: FakeHost) -> None:
    error = box.run("import threading\nthreading.Thread(target=print).start()").error
    assert error.type == "RuntimeError"
    assert "no threads" in error.message


def test_a_loop_policy_that_is_reset_makes_loops_of_the_sandbox_again(box: FakeHost) -> None:
    name = "_set_event_loop_policy" if hasattr(asyncio.events, "_set_event_loop_policy") else "set_event_loop_policy"
    box.run(f"asyncio.events.{name}(None)\nloop = asyncio.new_event_loop()\nloop.close()")
    assert box.run("type(loop).__name__").value == "CellLoop"
    assert box.run("asyncio.run(nap(1, 5))").value == 5


def test_a_task_that_nobody_awaits_is_reported_as_soon_as_it_has_failed(box: FakeHost) -> None:
    code = """
import gc
async def fail(): 1 / 0
async def main():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["message"]))
    asyncio.Task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return list(seen)
seen = []
gc.disable()
found = asyncio.run(main())
gc.enable()
found
"""
    assert box.run(code).value == ["Task exception was never retrieved"]


@pytest.mark.parametrize(
    "code",
    [
        "asyncio.get_running_loop().call_later(float('nan'), print)",
        "asyncio.get_running_loop().call_at(float('nan'), print)",
        "async with asyncio.timeout(float('nan')): pass",
    ],
)
def test_a_timer_at_nan_is_refused_and_holds_up_no_other(host: FakeHost, code: str) -> None:
    ran = host.run(
        f"import asyncio\ntry:\n    {code}\nexcept ValueError as exc:\n    said = str(exc)\n"
        "else:\n    raise RuntimeError('it was taken')\nawait asyncio.sleep(0.02)\nsaid"
    )
    assert (ran.result.error, "NaN" in ran.value) == (None, True)
