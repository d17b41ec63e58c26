"""Both engines and a native CPython say the same about programs that Hypothesis writes: value, output, exception type.

The engines must agree in everything. Where a native CPython 3.13 may say something else, `DIFFERENT_IN_3_14` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from cloche import Limits, Runtime, Sandbox

from .native import VARIABLE, Native, Outcome, find_native
from .programs import IMPORTS, programs

COUNT = 300
BOUND_S = 20.0
DIFFERENT_IN_3_14 = {
    r"\bNotImplemented\b": "its truth value is a TypeError since 3.14",
    r"\bunicodedata\b": "3.14 knows Unicode 16, 3.13 knows 15.1",
    r"Fraction\(": "3.14 also takes objects with as_integer_ratio",
}
"""Pattern in the source -> why a native 3.13 may differ; such programs are compared between the engines only."""
pytestmark = [pytest.mark.wasmtime, pytest.mark.slow]
checked = settings(
    max_examples=COUNT,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(warm_workers=0) as made:
        yield made


@pytest.fixture(scope="module")
def wasmtime(runtime: Runtime) -> Iterator[Sandbox]:
    with runtime.sandbox(limits=Limits(wall_s=BOUND_S)) as box:
        assert box.run(IMPORTS).ok
        yield box


@pytest.fixture(scope="module")
def deno(runtime: Runtime) -> Iterator[Sandbox]:
    with runtime.sandbox(engine="deno", limits=Limits(wall_s=BOUND_S)) as box:
        assert box.run(IMPORTS).ok
        yield box


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    place = find_native()
    if place is None:
        pytest.skip(f"there is no CPython 3.13 here; {VARIABLE} may name one")
    made = Native(place)
    assert made.run(IMPORTS + "None") == Outcome(None, "", None)
    yield made
    made.close()


def outcome(box: Sandbox, source: str) -> Outcome:
    cell = box.run(source)
    assert cell.value_error is None
    return Outcome(cell.value, cell.stdout, None if cell.error is None else cell.error.type)


@pytest.mark.deno
@checked
@given(source=programs)
def test_the_engines_agree(wasmtime: Sandbox, deno: Sandbox, source: str) -> None:
    assert outcome(deno, source) == outcome(wasmtime, source)


@checked
@given(source=programs)
def test_the_default_engine_agrees_with_a_native_python(wasmtime: Sandbox, native: Native, source: str) -> None:
    if not any(re.search(pattern, source) for pattern in DIFFERENT_IN_3_14):
        assert outcome(wasmtime, source) == native.run(source)


@pytest.mark.deno
@checked
@given(source=programs)
def test_the_engine_deno_agrees_with_a_native_python(deno: Sandbox, native: Native, source: str) -> None:
    if not any(re.search(pattern, source) for pattern in DIFFERENT_IN_3_14):
        assert outcome(deno, source) == native.run(source)
