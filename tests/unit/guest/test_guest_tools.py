"""Tools as functions: blocking, awaited, refused, failing, ending the cell."""

from __future__ import annotations

import pytest

from .conftest import EndCell, FakeHost


def test_a_tool_is_a_function_that_blocks(host: FakeHost) -> None:
    assert host.run("sum(get_price(i) for i in ('tea', 'milk')) + get_price(item='tea')").value == 8.25
    assert host.calls == [("get_price", ["tea"], {}), ("get_price", ["milk"], {}), ("get_price", [], {"item": "tea"})]


def test_a_failing_tool_raises_a_tool_error_with_the_type_of_the_host(host: FakeHost) -> None:
    code = "try:\n    get_price('gold')\nexcept ToolError as e:\n    r = [e.type, e.message, str(e)]\nr"
    assert host.run(code).value == ["KeyError", "'gold'", "KeyError: 'gold'"]
    error = host.run("x = 1\nget_price('gold')").error
    assert (error.type, error.message, error.line) == ("ToolError", "KeyError: 'gold'", 2)
    assert error.traceback.endswith("\nToolError: KeyError: 'gold'\n")
    assert error.traceback.count("File") == 1


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("get_price()", "missing the argument 'item'"),
        ("get_price('a', 'b')", "takes 1 positional argument but 2 were given"),
        ("get_price('a', item='b')", "got two values for the argument 'item'"),
        ("get_price(name='a')", "missing the argument 'item'"),
        ("get_price('a', name='b')", "got an unexpected keyword argument 'name'"),
        ("await get_price.aio()", "missing the argument 'item'"),
    ],
)
def test_a_wrong_call_is_a_type_error_with_the_signature(host: FakeHost, call: str, problem: str) -> None:
    error = host.run(call).error
    assert error.type == "TypeError"
    assert error.message == f"get_price() {problem}; its signature is get_price(item)"
    assert host.calls == []


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            "get_price(object())",
            "TypeError",
            "get_price(): argument item: object cannot cross (only plain data crosses",
        ),
        ("get_price([1, {'a': print}])", "TypeError", "get_price(): argument item[1]['a']: builtin_function_or_method"),
        (
            "get_price(item='x' * 5_000_000)",
            "ValueError",
            "get_price(): argument item: value_bytes of 1048576 exceeded",
        ),
        ("get_price(item=10 ** 5000)", "ValueError", "get_price(): argument item: int_digits of 4300 exceeded"),
        ("x = []; x.append(x); get_price(x)", "TypeError", "get_price(): argument item[0]: contains itself"),
        ("await get_price.aio({1: {2: 3j}})", "TypeError", "get_price(): argument item[1][2]: complex cannot cross"),
    ],
)
def test_an_argument_that_cannot_cross_is_named(host: FakeHost, call: str, kind: str, message: str) -> None:
    error = host.run(call).error
    assert error.type == kind
    assert error.message.startswith(message)
    assert host.calls == []


def test_awaited_calls_run_at_the_same_time(host: FakeHost) -> None:
    ran = host.run("import asyncio\nawait asyncio.gather(*[get_price.aio(i) for i in ('tea', 'milk') * 5])")
    assert ran.value == [3.5, 1.25] * 5
    assert host.now == pytest.approx(1000.1)
    assert (ran.idle, ran.waits) == (1, 0)


def test_a_failing_awaited_call_raises_where_it_is_awaited(host: FakeHost) -> None:
    assert (
        host.run("try:\n    await get_price.aio('gold')\nexcept ToolError as e:\n    r = e.type\nr").value == "KeyError"
    )


def test_cancelling_an_awaited_call_tells_the_host(host: FakeHost) -> None:
    ran = host.run("import asyncio\nawait asyncio.wait_for(get_price.aio('tea'), 0.03)")
    assert ran.error.type == "TimeoutError"
    assert host.cancelled == [1]


def test_a_tool_may_end_the_cell_quietly(host: FakeHost) -> None:
    ran = host.run("try:\n    final_answer(42)\nexcept Exception:\n    print('swallowed')\nprint('not reached')")
    assert (ran.result.ended_by_tool, ran.result.error, ran.stdout) == (True, None, "")
    assert not host.run("1").result.ended_by_tool


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    final_answer(42)\nexcept BaseException: pass\nget_price('tea')",
        "try:\n    final_answer(42)\nexcept: pass\n5",
        "try:\n    final_answer(42)\nfinally: 1 / 0",
        "import asyncio\nasync def f(): final_answer(1)\nasyncio.run(f())",
        "import asyncio\nasync def f(): await final_answer.aio(1)\nawait asyncio.gather(f(), asyncio.sleep(9))",
        "import asyncio\nt = asyncio.create_task(final_answer.aio(1))\nawait asyncio.sleep(9)",
        "import asyncio\nasync with asyncio.TaskGroup() as g:\n    g.create_task(final_answer.aio(1))\n"
        "    g.create_task(asyncio.sleep(9))",
        "import asyncio\nr = asyncio.run(final_answer.aio(1))",
        "from concurrent.futures import ThreadPoolExecutor\nlist(ThreadPoolExecutor().map(final_answer, [1]))",
    ],
)
def test_ending_the_cell_cannot_be_swallowed(host: FakeHost, code: str) -> None:
    ran = host.run(code)
    assert (ran.result.ended_by_tool, ran.result.error, ran.value) == (True, None, None)
    assert [name for name, *_ in host.calls] == ["final_answer"]
    assert host.run("await get_price.aio('tea')").value == 3.5


def test_a_name_that_the_user_gave_away_is_his(host: FakeHost) -> None:
    assert host.run("get_price = 5\nget_price").value == 5
    assert host.run("get_price").value == 5
    assert host.run("import tools\ntools.get_price('tea')").value == 3.5
    host.run("del get_price")
    assert host.run("get_price('tea')").value == 3.5


def test_a_tool_looks_like_a_function(bare_host: FakeHost) -> None:
    def search(query: str, limit: int = 5) -> list[str]:
        """Find things."""
        return [query] * limit

    bare_host.tool(search, params="query limit=")
    bare_host.tools["search"].stub["signature"] = "(query: str, limit: int = 5) -> list[str]"
    bare_host.start()
    code = "import inspect\n[search.__name__, search.__doc__, search.__qualname__, str(inspect.signature(search)),"
    code += "inspect.isfunction(search), inspect.iscoroutinefunction(search.aio), search.aio.__doc__]"
    signature = "(query: str, limit: int = 5) -> list[str]"
    assert bare_host.run(code).value == ["search", "Find things.", "search", signature, True, True, "Find things."]


def test_help_shows_a_tool_with_its_signature(host: FakeHost) -> None:
    assert "get_price(item)\n    Price of an item in euros." in host.run("help(get_price)").stdout


@pytest.mark.parametrize("signature", ["(query): import os", "(", "(query=__import__('os').abort())", ""])
def test_the_text_of_a_stub_is_never_run(bare_host: FakeHost, signature: str) -> None:
    def search(query: str) -> str:
        return query

    bare_host.tool(search, params="query")
    bare_host.tools["search"].stub["signature"] = signature
    bare_host.start()
    ran = bare_host.run("import inspect\nstr(inspect.signature(search))\nsearch('x')")
    assert ran.value == "x"


def test_a_sandbox_without_tools_works(bare_host: FakeHost) -> None:
    bare_host.start()
    assert bare_host.run("import tools\ntools.__all__").value == ["ToolError"]


def test_a_cell_that_leaves_a_call_open_cancels_it(host: FakeHost) -> None:
    ran = host.run("import asyncio\nt = asyncio.ensure_future(get_price.aio('milk'))\nawait asyncio.sleep(0)")
    assert "1 asyncio task cancelled at the end of the cell: Task-" in ran.stderr
    assert "get_price.aio()" in ran.stderr
    assert len(host.cancelled) == 1


def test_only_the_ending_of_the_right_type_is_quiet(host: FakeHost) -> None:
    assert issubclass(EndCell, Exception)
    assert host.run("raise SystemExit").error.type == "SystemExit"
