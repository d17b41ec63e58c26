"""CPython's own tests in a guest: a few seconds of them everywhere, the core of them in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.host import find_tests, run_module
from tests.conformance.modules import MODULES
from tests.conformance.report import unknown

from cloche import Runtime

pytestmark = [pytest.mark.wasmtime, pytest.mark.slow]

BRIEF = ("test_dict", "test_list", "test_tuple", "test_gc", "test_weakref", "test_struct", "test_memoryview")
CORE = """
test_int test_float test_complex test_set test_bytes test_str test_array test_deque test_itertools test_descr test_class
test_exceptions test_json test_re test_sqlite3 test_asyncio test_signal test_copy test_io
"""


@pytest.fixture(scope="module")
def tests() -> Path:
    found = find_tests()
    if found is None:
        pytest.skip("no CPython 3.13 with its `test` package is here")
    return found[1]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as made:
        yield made


def check(runtime: Runtime, tests: Path, name: str, isolation: str) -> None:
    for module in MODULES:
        if module.name == name:
            outcome = run_module(runtime, tests, module, isolation)
            assert unknown(outcome) == []
            assert outcome.passed > 0


@pytest.mark.parametrize("name", BRIEF)
def test_a_module_of_cpython_does_what_is_known_of_it(runtime: Runtime, tests: Path, name: str) -> None:
    check(runtime, tests, name, "process")


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CORE.split())
def test_the_core_of_cpython_does_what_is_known_of_it(runtime: Runtime, tests: Path, name: str) -> None:
    check(runtime, tests, name, "process")


@pytest.mark.deno
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CORE.split())
def test_the_core_does_the_same_on_the_engine_deno(runtime: Runtime, tests: Path, name: str) -> None:
    check(runtime, tests, name, "deno")


@pytest.mark.deno
def test_a_module_does_the_same_on_the_engine_deno(runtime: Runtime, tests: Path) -> None:
    check(runtime, tests, BRIEF[0], "deno")


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["test_dict", "test_descr", "test_json", "test_sqlite3", "test_asyncio"])
def test_the_core_does_the_same_inside_the_host_process(runtime: Runtime, tests: Path, name: str) -> None:
    check(runtime, tests, name, "thread")
