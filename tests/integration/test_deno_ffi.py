"""Sandboxes with `engine_options={"js_ffi": True}`: the full Pyodide, with JavaScript, behind the same door."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadlines import not_kept, timed_out

from cloche import AsyncSandbox, Cell, ConfigError, Limits, Runtime, Sandbox, SandboxFileError, TimedOut, tool
from cloche.runtime.engine_options import EngineOptions

pytestmark = [
    pytest.mark.deno,
    pytest.mark.skipif(sys.platform != "linux", reason="the engine starts its workers on Linux only"),
]
FFI = {"js_ffi": True}  # a start takes seconds: tests share `box`, and most with a worker of their own are exhaustive
BOUND_S = 30.0


@tool
def price(item: str) -> float:
    """Price of an item.

    Args:
        item: its name.
    """
    return {"tea": 3.5, "milk": 1.25}[item]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(engine="deno", warm_workers=0) as made:
        yield made


@pytest.fixture(scope="module")
def box(runtime: Runtime) -> Iterator[Sandbox]:
    with Sandbox(tools=[price], runtime=runtime, engine_options=FFI) as made:
        yield made


def value(cell: Cell) -> object:
    assert cell.error is None, cell.error
    return cell.value


# --- the options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("wasmtime", FFI, "has no options"),
        ("deno", {"ffi": True}, "unknown engine option 'ffi'"),
        ("deno", {"js_ffi": 1}, "True or False"),
        ("deno", [("js_ffi", True)], "is a mapping"),
    ],
)
def test_an_option_that_cannot_be_is_a_config_error(engine: str, options: object, message: str) -> None:
    with Runtime() as runtime:
        with pytest.raises(ConfigError, match=message):
            Sandbox(engine=engine, engine_options=options, runtime=runtime)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            runtime.sandbox(engine=engine, engine_options=options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            runtime.walls(engine=engine, engine_options=options)  # type: ignore[arg-type]


def test_each_kind_of_worker_has_a_source_of_its_own(runtime: Runtime) -> None:
    plain, ffi = runtime.core.source("process"), runtime.core.source("process", None, EngineOptions(js_ffi=True))
    assert plain is not ffi
    assert plain is runtime.core.source("process", None, EngineOptions())
    assert ffi is runtime.core.source("process", None, EngineOptions(js_ffi=True))


@pytest.mark.exhaustive
def test_a_warm_worker_of_one_kind_is_never_given_to_a_sandbox_of_the_other() -> None:
    with Runtime(engine="deno", warm_workers=1) as runtime:
        with runtime.sandbox() as first, runtime.sandbox(engine_options=FFI) as second:
            no_js = first.run("import js").error
            assert no_js is not None
            assert no_js.type == "ModuleNotFoundError"
            assert value(second.run("import js; js.eval('1 + 1')")) == 2
        until_warm(runtime, 2)
        with runtime.sandbox() as first, runtime.sandbox(engine_options=FFI) as second:
            assert first.run("import js").error is not None
            assert value(second.run("import js; js.eval('1 + 1')")) == 2


def until_warm(runtime: Runtime, count: int) -> None:
    give_up_at = time.monotonic() + BOUND_S
    while runtime.warm_workers < count:
        assert time.monotonic() < give_up_at
        threading.Event().wait(0.02)


# --- JavaScript -------------------------------------------------------------------------------------------------------


def test_javascript_and_python_call_each_other(box: Sandbox) -> None:
    assert value(box.run("import js\njs.eval('1 + 1')")) == 2
    assert value(box.run("from pyodide.code import run_js\nrun_js('[1, 2].map((x) => 2 * x)').to_py()")) == [2, 4]
    as_object = "to_js({'a': [1]}, dict_converter=js.Object.fromEntries)"
    json = value(box.run(f"from pyodide.ffi import to_js\njs.JSON.stringify({as_object})"))
    assert json == '{"a":[1]}'
    assert (
        value(
            box.run("from pyodide.ffi import create_proxy\njs.eval('(f) => f(20) + 1')(create_proxy(lambda x: 2 * x))")
        )
        == 41
    )


def test_what_javascript_throws_is_an_exception_of_the_cell(box: Sandbox) -> None:
    error = box.run("import js\njs.eval('throw new TypeError(\"no\")')").error
    assert error is not None
    assert (error.type, error.message) == ("JsException", "TypeError: no")


def test_promises_are_awaited_among_python_tasks_and_tools(box: Sandbox) -> None:
    code = """
import asyncio, js
later = js.eval("(ms, v) => new Promise((resolve) => setTimeout(() => resolve(v), ms))")
async def python():
    await asyncio.sleep(0.02)
    return "python"
await asyncio.gather(later(30, "js"), python(), price.aio("tea"), js.Promise.resolve(7))
"""
    assert value(box.run(code)) == ["js", "python", 3.5, 7]


def test_a_callback_of_javascript_prints_into_the_cell_that_waits_for_it(box: Sandbox) -> None:
    cell = box.run("""
import asyncio, js
from pyodide.ffi import create_once_callable
called = asyncio.Event()
js.setTimeout(create_once_callable(lambda: (print("called"), called.set())), 5)
js.console.log("logged", js.Object.new())
js.console.error("complained")
await asyncio.wait_for(called.wait(), 20)
""")
    assert (cell.stdout, cell.stderr) == ("logged {}\ncalled\n", "complained\n")


def test_an_exception_that_nobody_in_javascript_caught_does_not_end_the_worker(box: Sandbox) -> None:
    cell = box.run("""
import js
js.eval("void Promise.reject(new Error('rejected'))")
await js.eval("new Promise((done) => setTimeout(() => { setTimeout(done, 1); throw new Error('thrown') }, 1))")
""")
    assert cell.error is None
    assert "rejected" in cell.stderr
    assert "thrown" in cell.stderr
    assert value(box.run("1 + 1")) == 2


def test_the_host_grants_no_fetch_and_pyodide_finds_no_packages(box: Sandbox) -> None:
    for code in (
        "from pyodide.http import pyfetch\nawait pyfetch('https://example.invalid/')",
        "import pyodide_js\nawait pyodide_js.loadPackage('numpy')",
        "import micropip",
    ):
        assert box.run(code).error is not None


# --- the same as everywhere -------------------------------------------------------------------------------------------


def test_values_inputs_tools_and_output_are_those_of_every_engine(box: Sandbox) -> None:
    cell = box.run(
        "print(sum(price(i) for i in items))\n{'n': [None, 2**70, b'x', 1.5]}", inputs={"items": ["tea", "milk"]}
    )
    assert value(cell) == {"n": [None, 2**70, b"x", 1.5]}
    assert cell.stdout == "4.75\n"
    error = box.run("price('coffee')").error
    assert error is not None
    assert error.type == "ToolError"
    assert value(box.run("import asyncio\nawait asyncio.gather(*(price.aio(i) for i in ('tea', 'milk')))")) == [
        3.5,
        1.25,
    ]
    assert value(box.run("def f():\n    return asyncio.run(price.aio('tea'))\nf()")) == 3.5
    assert value(box.run("import time\ntime.sleep(0.01)\nasyncio.run(asyncio.sleep(0.01, 5))")) == 5


def test_files_and_artifacts_cross_and_stay(box: Sandbox) -> None:
    box.write_file("data/in.txt", "hello")
    assert value(box.run("open('data/in.txt').read()")) == "hello"
    cell = box.run("import os\nos.makedirs('/out/a')\nopen('/out/a/b.txt', 'w').write('x' * 10)\nNone")
    assert {a.path: a.data for a in cell.artifacts} == {"/out/a/b.txt": b"x" * 10}
    assert box.run("1").artifacts == ()
    renamed = box.run("os.rename('/out/a/b.txt', '/out/c.txt')")
    assert [a.path for a in renamed.artifacts] == ["/out/c.txt"]
    assert box.read_file("/out/c.txt") == b"x" * 10
    assert box.list_files() == ["/home/web_user/data/in.txt", "/out/c.txt"]
    for path in ("missing", "/out", "/lib/python314.zip/x"):
        with pytest.raises(SandboxFileError):
            box.read_file(path)
    with pytest.raises(SandboxFileError, match="part of the image"):
        box.write_file("/lib/python314.zip", b"")


def test_limits_are_held_and_told(runtime: Runtime) -> None:
    limits = Limits(memory_mb=96, files=5, file_bytes=1000, output_bytes=100, wall_s=20)
    with Sandbox(runtime=runtime, engine_options=FFI, limits=limits) as box:
        cell = box.run("hog = bytearray(200 << 20)")
        assert cell.error is not None
        assert cell.error.type == "MemoryError"
        assert [hit.limit for hit in cell.limits] == ["memory_mb"]
        cell = box.run("with open('/tmp/big', 'wb') as f: f.write(bytes(2000))")
        assert cell.error is not None
        assert cell.error.type == "OSError"
        assert [hit.limit for hit in cell.limits] == ["file_bytes"]
        cell = box.run("import os\nos.remove('/tmp/big')\nfor n in range(9): open(f'/tmp/{n}', 'w').close()")
        assert cell.error is not None
        assert [hit.limit for hit in cell.limits] == ["files"]
        with pytest.raises(SandboxFileError, match="no space left"):
            box.write_file("/tmp/another", b"x")
        cell = box.run("print('x' * 1000)")
        assert [hit.limit for hit in cell.limits] == ["output_bytes"]
        assert (
            value(box.run("for n in range(5): os.remove(f'/tmp/{n}')\nopen('/tmp/a', 'wb').write(bytes(1000))")) == 1000
        )


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\nwhile True: time.sleep(60)",
        "import js\nawait js.eval('new Promise(() => 0)')",
        "import asyncio\nawait asyncio.sleep(60)",
    ],
)
def test_an_interrupt_ends_python_and_keeps_the_state(box: Sandbox, code: str) -> None:
    value(box.run("kept = 5"))
    with pytest.raises(TimedOut) as caught:
        box.run(code, deadline_s=0.3)
    assert caught.value.state_kept
    assert value(box.run("kept")) == 5


def test_javascript_that_never_returns_is_killed_at_the_deadline(runtime: Runtime) -> None:
    with Sandbox(runtime=runtime, engine_options=FFI) as box:
        error = timed_out(lambda wait_s: box.run("import js\njs.eval('for (;;) {}')", deadline_s=wait_s), not_kept)
        assert not error.state_kept
        assert error.used - error.allowed < BOUND_S
        box.reset()
        assert value(box.run("1 + 1")) == 2


def test_recursion_ends_in_a_python_error_or_with_the_worker_and_never_hangs(box: Sandbox) -> None:
    error = box.run("def f(): return f()\nf()").error
    assert error is not None
    assert error.type == "RecursionError"


def test_what_is_written_to_a_descriptor_is_output(box: Sandbox) -> None:
    cell = box.run("import os\nn = os.write(1, b'one\\n')\nn = os.write(2, b'two')\nprint('three')")
    assert (cell.stdout, cell.stderr) == ("one\nthree\n", "two")
    cell = box.run("n = os.write(1, b'x' * 2_000_000)")
    assert (cell.output_cut, len(cell.stdout) > 1_000_000) == (True, True)


@pytest.mark.exhaustive
def test_the_async_face_takes_the_options_too() -> None:
    async def main() -> object:
        async with AsyncSandbox(engine="deno", engine_options=FFI) as box:
            return value(await box.run("import js\nawait js.Promise.resolve(6)"))

    assert asyncio.run(asyncio.wait_for(main(), BOUND_S)) == 6


def test_the_snippet_of_the_page_runs_as_it_stands(root: Path, tmp_path: Path) -> None:
    page = (root / "docs/engines.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    script = tmp_path / "snippet.py"
    script.write_text(snippet, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * BOUND_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_metadata_says_that_javascript_was_reachable(box: Sandbox) -> None:
    metadata = box.run("1").metadata
    assert metadata is not None
    assert metadata.engine == "deno"
    assert "no-javascript" not in metadata.walls
