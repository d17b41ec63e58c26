"""The blocking face over a scripted worker: results, tools, files, wrong arguments."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Iterator

import pytest

from cloche import (
    CannotCross,
    ConfigError,
    Limits,
    Runtime,
    SandboxFileError,
    tool,
)
from cloche.runtime.fake_link import (
    FakeCell,
    FakeSource,
    Script,
    answer,
)
from cloche.runtime.protocol import ToolCall, ToolResult
from cloche.runtime.values import ValueLimits, decode, encode

BOUND_S = 30.0


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def runtime(source: FakeSource) -> Iterator[Runtime]:
    with Runtime(sources={"process": source}, max_sandboxes=3, close_deadline_s=1) as made:
        yield made


def call_tool(name: str, *args: object) -> Script:
    """A cell whose value is the outcome of one blocking tool call."""

    def script(cell: FakeCell) -> None:
        answer_, parts = cell.ask(ToolCall(id=1, name=name), encode((list(args), dict[str, object]()), ValueLimits()))
        assert isinstance(answer_, ToolResult)
        cell.finish([answer_.ok, decode(parts[0], ValueLimits())])

    return script


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_cell_gives_its_value_and_its_output(runtime: Runtime, source: FakeSource) -> None:
    source.scripts = (answer(42, stdout="hello\n"),)
    with runtime.sandbox() as box:
        cell = box.run("6 * 7")
    assert (cell.value, cell.stdout, cell.error, cell.ok) == (42, "hello\n", None, True)
    assert source.leased[0].requests == ["start", "cell"]


def test_output_is_passed_on_while_the_cell_runs(runtime: Runtime, source: FakeSource) -> None:
    heard: list[tuple[str, str]] = []
    arrived = threading.Event()

    def script(cell: FakeCell) -> None:
        cell.print("early")
        assert arrived.wait(BOUND_S)
        cell.finish()

    def on_output(stream: str, text: str) -> None:
        heard.append((stream, text))
        arrived.set()

    source.scripts = (script,)
    with runtime.sandbox() as box:
        box.run("...", on_output=on_output)
    assert heard == [("stdout", "early")]


def test_what_on_output_raises_reaches_the_caller_and_the_sandbox_lives(runtime: Runtime, source: FakeSource) -> None:
    def broken(stream: str, text: str) -> None:
        raise ValueError("of the caller")

    source.scripts = (answer(1, stdout="x"),)
    with runtime.sandbox() as box:
        with pytest.raises(ValueError, match="of the caller"):
            box.run("...", on_output=broken)
        assert box.run("...").value == 1


def test_a_tool_runs_with_the_context_variables_of_the_caller_but_not_on_its_thread(
    runtime: Runtime, source: FakeSource
) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    threads: list[int] = []

    @tool
    def whoami() -> str:
        threads.append(threading.get_ident())
        return who.get()

    source.scripts = (call_tool("whoami"),)
    with runtime.sandbox(tools=[whoami]) as box:
        who.set("caller")
        assert box.run("...").value == [True, "caller"]
    assert threads != [threading.get_ident()]


def test_an_async_tool_works_in_the_blocking_face(runtime: Runtime, source: FakeSource) -> None:
    who = contextvars.ContextVar("who", default="nobody")

    async def whoami() -> str:
        await asyncio.sleep(0)
        return who.get()

    source.scripts = (call_tool("whoami"),)
    with runtime.sandbox(tools=[whoami]) as box:
        who.set("caller")
        assert box.run("...").value == [True, "caller"]


def test_it_blocks_on_a_thread_whose_loop_runs_and_never_refuses(runtime: Runtime, source: FakeSource) -> None:
    async def now() -> int:
        return 7

    async def main() -> object:
        with runtime.sandbox(tools=[now]) as box:
            return box.run("...").value

    source.scripts = (call_tool("now"),)
    assert asyncio.run(main()) == [True, 7]


def test_files_go_in_and_out(runtime: Runtime) -> None:
    with runtime.sandbox() as box:
        box.write_file("data/a.txt", "grün")
        box.write_file("data/b.bin", b"\0\xff")
        assert box.list_files() == ["data/a.txt", "data/b.bin"]
        assert box.read_file("data/a.txt") == "grün".encode()
        with pytest.raises(SandboxFileError, match=r"nothing: no such file") as caught:
            box.read_file("nothing")
        assert caught.value.path == "nothing"
        assert box.read_file("data/b.bin") == b"\0\xff"


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 4097, "\ud800", 7])
def test_what_no_path_can_be_is_refused(runtime: Runtime, source: FakeSource, path: object) -> None:
    with runtime.sandbox() as box, pytest.raises(ConfigError):
        box.read_file(path)  # type: ignore[arg-type]
    assert source.leased[0].requests == ["start"]


def test_a_file_over_the_quota_is_not_even_sent(runtime: Runtime, source: FakeSource) -> None:
    with runtime.sandbox(limits=Limits(file_bytes=10)) as box, pytest.raises(SandboxFileError, match="file_bytes"):
        box.write_file("big", b"x" * 11)
    assert source.leased[0].requests == ["start"]


# --- bad arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deadline_s", [0, -1, math.nan, math.inf, "5"])
def test_a_deadline_that_is_no_time_is_refused(runtime: Runtime, deadline_s: object) -> None:
    with runtime.sandbox() as box, pytest.raises(ConfigError, match="deadline_s"):
        box.run("1", deadline_s=deadline_s)  # type: ignore[arg-type]


def test_a_deadline_may_only_shorten_the_limit(runtime: Runtime) -> None:
    with runtime.sandbox(limits=Limits(wall_s=5)) as box:
        with pytest.raises(ConfigError, match="may only shorten"):
            box.run("1", deadline_s=6)
        assert box.run("1", deadline_s=5).ok


def test_an_input_that_cannot_cross_leaves_the_sandbox_usable(runtime: Runtime) -> None:
    with runtime.sandbox() as box:
        with pytest.raises(CannotCross) as caught:
            box.run("1", inputs={"rows": [object()]})
        assert caught.value.path == "inputs['rows'][0]"
        assert box.run("1").ok


@pytest.mark.parametrize(
    ("option", "word"), [({"engine": "deno", "isolation": "thread"}, "of its own"), ({"engine": "v9"}, "v9")]
)
def test_an_engine_that_is_not_there_is_refused(runtime: Runtime, option: dict[str, str], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        runtime.sandbox(**option)  # type: ignore[arg-type]
    assert runtime.sandboxes == 0


def test_an_unknown_isolation_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="isolation"):
        runtime.sandbox(isolation="hope")


def test_two_tools_of_one_name_are_refused_before_a_worker_is_leased(runtime: Runtime, source: FakeSource) -> None:
    def same() -> int:
        return 1

    with pytest.raises(ConfigError, match="same"):
        runtime.sandbox(tools=[same, same])
    assert source.leased == []
    assert runtime.sandboxes == 0
