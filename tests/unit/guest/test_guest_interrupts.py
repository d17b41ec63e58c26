"""The interrupt: it stops the user's code at once, is never lost, and never tears the guest itself apart."""

from __future__ import annotations

import _thread
import sys

import pytest

from cloche.runtime import protocol

from .conftest import FakeHost

STOP = "import _thread\nstop = _thread.interrupt_main\n"


@pytest.fixture
def box(host: FakeHost) -> FakeHost:
    host.run(STOP + "import asyncio, time\nasync def nap(s, r=None):\n    await asyncio.sleep(s)\n    return r")
    # As in wasm, where no Python of the host is on the guest's stack for a signal to land in.
    guest = host.entry.__self__  # type: ignore[attr-defined]
    for function in (
        FakeHost.call,
        FakeHost.wake,
        FakeHost.run,
        FakeHost.outcome,
        _interrupt_at_wait,
        _interrupt_at_start,
        _interrupt_at_output,
    ):
        guest.interrupts.protect(function)
    return host


def _interrupt_at_wait(frame: protocol.FromWorker) -> None:
    if isinstance(frame, protocol.Wait):
        _thread.interrupt_main()


def _interrupt_at_start(frame: protocol.FromWorker) -> None:
    if isinstance(frame, protocol.ToolStart):
        _thread.interrupt_main()


def _interrupt_at_output(frame: protocol.FromWorker) -> None:
    if isinstance(frame, protocol.Output):
        _thread.interrupt_main()


@pytest.mark.parametrize(
    "code",
    [
        "stop()\nwhile True: pass",
        "for i in range(10**9):\n    if i == 1000: stop()",
        "def f():\n    stop()\n    while True: pass\nf()",
        "stop()\nwhile True: print('x')",
        "stop()\nwhile True: get_price('tea')",
        "async def f():\n    stop()\n    while True: pass\nawait f()",
        "async def f():\n    stop()\n    while True: pass\nasyncio.run(f())",
        "async def f():\n    stop()\n    while True: await asyncio.sleep(0)\nx = 1 + asyncio.run(f())",
        "async def f():\n    stop()\n    while True: await asyncio.sleep(0)\nawait f()",
        "t = asyncio.create_task(nap(0))\nt.add_done_callback(lambda _: stop())\nawait nap(10**9)",
        "class A:\n    def __str__(self):\n        stop()\n        while True: pass\nprint(A())",
    ],
)
def test_the_interrupt_stops_the_code_and_keeps_the_state(box: FakeHost, code: str) -> None:
    ran = box.run(f"x = 5\n{code}")
    assert ran.error.type == "KeyboardInterrupt"
    assert ran.result.interrupted
    assert "guest/" not in ran.error.traceback
    after = box.run("print('still here')\nx")
    assert (after.stdout, after.value, after.result.interrupted) == ("still here\n", 5, False)
    assert box.run("await nap(1, 6)").value == 6


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(10**6)",
        "await nap(10**6)",
        "x = 1 + asyncio.run(nap(10**6))",
        "asyncio.run(nap(10**6))",
        "asyncio.get_event_loop().run_until_complete(nap(10**6))",
        "await get_price.aio('tea')",
    ],
)
def test_the_interrupt_ends_a_wait(box: FakeHost, code: str) -> None:
    box.on_frame = _interrupt_at_wait
    ran = box.run(code)
    assert (ran.error.type, ran.result.interrupted) == ("KeyboardInterrupt", True)
    box.on_frame = lambda _: None
    assert box.run("await nap(1, 6)").value == 6


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nprint('a', end='')\nsys.stdout.flush()\nfor n in range(10**6): pass",
        "print('a', end='', flush=True)\nfor n in range(10**6): pass",
        "print('a')\nfor n in range(10**6): pass",
        "print('a', end='')\nget_price('tea')\nfor n in range(10**6): pass",
    ],
)
def test_the_interrupt_is_not_lost_while_output_is_sent(box: FakeHost, code: str) -> None:
    box.on_frame = _interrupt_at_output
    ran = box.run(f"{code}\n'ran on'")
    assert (ran.error.type, ran.stdout.rstrip(), ran.result.interrupted) == ("KeyboardInterrupt", "a", True)
    box.on_frame = lambda _: None
    assert box.run("await nap(1, 6)").value == 6


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_host_and_guest_know_the_same_calls_whenever_the_interrupt_comes(
    box: FakeHost, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    frames = sys.modules["_cloche.frames"]
    make_frame = frames.frame

    def torn(header: bytes, parts: bytes) -> bytes:
        if b'"tool_start"' in header:
            _thread.interrupt_main()
        return bytes(make_frame(header, parts))

    if when == "before":
        monkeypatch.setattr(frames, "frame", torn)
    box.on_frame = {"before": box.on_frame, "while": _interrupt_at_start, "after": _interrupt_at_wait}[when]
    ran = box.run(
        "async def ask(): return await get_price.aio('tea')\nawait asyncio.gather(*[ask() for _ in range(3)])"
    )
    assert (ran.error.type, ran.result.interrupted) == ("KeyboardInterrupt", True)
    assert box.open_calls == 0
    monkeypatch.undo()
    box.on_frame = lambda _: None
    assert box.run("await ask()").value == 3.5


def test_an_interrupt_that_is_there_before_the_first_instruction_counts(box: FakeHost) -> None:
    box.before_cell = _thread.interrupt_main
    ran = box.run("x = 9")
    assert (ran.error.type, ran.result.interrupted) == ("KeyboardInterrupt", True)
    box.before_cell = lambda: None
    assert box.run("'x' in globals()").value is False


def test_an_interrupt_during_repr_keeps_the_result(box: FakeHost) -> None:
    ran = box.run("class A(dict):\n    def __repr__(self):\n        stop()\n        while True: pass\n[A()]")
    assert ran.result.error is None
    assert ran.result.interrupted
    assert ran.result.value_repr == "<repr() raised KeyboardInterrupt>"


def test_an_interrupt_while_an_error_is_shown_keeps_the_error(box: FakeHost) -> None:
    ran = box.run("class E(Exception):\n    def __str__(self):\n        stop()\n        while True: pass\nraise E")
    assert (ran.error.type, ran.result.interrupted) == ("E", True)
    assert ran.error.message == "<exception str() was interrupted>"
    assert ran.error.line == 5


def test_an_interrupt_after_the_code_ended_keeps_the_value(box: FakeHost) -> None:
    def on_frame(frame: protocol.FromWorker) -> None:
        if isinstance(frame, protocol.Result):
            _thread.interrupt_main()

    box.on_frame = on_frame
    assert box.run("1 + 1").value == 2
    box.on_frame = lambda _: None
    ran = box.run("3")
    assert (ran.value, ran.result.interrupted) == (3, False)


def test_an_interrupt_that_the_code_swallows_is_still_reported(box: FakeHost) -> None:
    ran = box.run("try:\n    stop()\n    while True: pass\nexcept KeyboardInterrupt:\n    x = 'caught'\nx")
    assert (ran.value, ran.result.error, ran.result.interrupted) == ("caught", None, True)


def test_a_second_interrupt_stops_tasks_that_do_not_end(box: FakeHost) -> None:
    ran = box.run(
        "async def f():\n    try: await nap(99)\n    finally:\n        stop()\n        while True: pass\n"
        "t = asyncio.create_task(f())\nawait nap(0)\n8"
    )
    assert (ran.value, ran.result.interrupted) == (8, True)


def test_output_is_whole_wherever_the_interrupt_lands(box: FakeHost) -> None:
    """A profile function raises the interrupt at the n-th call or return, so that it lands inside the streams too."""
    for nth in range(1, 60):
        code = (
            "import sys\nn = 0\ndef p(*a):\n    global n\n    n += 1\n"
            f"    if n == {nth}: sys.setprofile(None); stop()\n"
            "sys.setprofile(p)\nfor i in range(12): print(i)\nsys.setprofile(None)\nprint('end')"
        )
        ran = box.run(code)
        expected = "".join(f"{i}\n" for i in range(12)) + "end\n"
        assert expected.startswith(ran.stdout.rstrip("\n")), (nth, ran.stdout)
        assert box.run("1 + 1").value == 2


def test_wherever_the_interrupt_lands_the_cell_ends_in_one_result(box: FakeHost) -> None:
    """A trace of the whole guest sends the interrupt at its n-th line, from the first to the last."""
    guest_files = sys.modules["_cloche.runner"].__file__.rpartition("/")[0]  # type: ignore[union-attr]
    fired = True
    nth = 0
    while fired:
        nth += 7
        fired = _run_interrupted_at_line(box, nth, guest_files)
        assert box.run("1 + 1").value == 2
    assert nth > 100


def _run_interrupted_at_line(box: FakeHost, nth: int, folder: str) -> bool:
    count = 0

    def trace(frame: object, event: str, _arg: object) -> object:
        nonlocal count
        if frame.f_code.co_filename.startswith(folder):  # type: ignore[attr-defined]
            count += event == "line"
            if count == nth:
                count += 1
                _thread.interrupt_main()
        return trace

    box.entry.__self__.interrupts.protect(trace)  # type: ignore[attr-defined]  # no such frame in the real guest
    settrace = sys.settrace
    box.on_frame = lambda frame: settrace(None) if isinstance(frame, protocol.Result) else None
    original = sys.settrace
    sys.settrace = lambda _: None  # the runner switches tracing off; this test is not done with it
    settrace(trace)  # type: ignore[arg-type]
    try:
        ran = box.run(
            "async def f(i):\n    print(i)\n    return await get_price.aio('tea')\nr = [await f(i) for i in (1, 2)]\nr"
        )
    finally:
        settrace(None)
        sys.settrace = original
        box.on_frame = lambda _: None
    if ran.result.error is None:
        assert ran.value == [3.5, 3.5]
    else:
        assert ran.error.type == "KeyboardInterrupt"
    return count > nth
