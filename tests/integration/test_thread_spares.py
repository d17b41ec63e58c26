"""Thread isolation with spares, on the real engine: a sandbox that was prepared early is as fresh as any."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.leftovers import leftovers
from tests.support.waiting import wait_until

from cloche import Limits, Runtime, Sandbox

pytestmark = pytest.mark.wasmtime


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """With one spare ready."""
    with Runtime(warm_workers=1) as runtime:
        runtime.sandbox(isolation="thread").close()
        wait_until(lambda: runtime.warm_workers == 1)
        yield runtime


def from_a_spare(runtime: Runtime, limits: Limits | None = None) -> Sandbox:
    wait_until(lambda: runtime.warm_workers == 1)
    return runtime.sandbox(isolation="thread", limits=limits)


def test_two_sandboxes_from_spares_draw_different_random_numbers(runtime: Runtime) -> None:
    draw = "import random, os\n(random.random(), os.urandom(8), hash('a') == hash('a'))"
    with from_a_spare(runtime) as one, from_a_spare(runtime) as other:
        assert one.run(draw).value != other.run(draw).value


def test_a_spare_has_the_names_of_a_fresh_instance_and_no_more(runtime: Runtime) -> None:
    look = "import sys\n(sorted(globals()), sorted(sys.modules), len(__import__('linecache').cache))"
    with Runtime(warm_workers=0) as cold, cold.sandbox(isolation="thread") as fresh:
        expected = fresh.run(look).value
    with from_a_spare(runtime) as box:
        assert box.run(look).value == expected


def test_a_spare_takes_the_limits_of_its_sandbox(runtime: Runtime) -> None:
    limits = Limits(memory_mb=64, files=1, file_bytes=10)
    with from_a_spare(runtime, limits) as box:
        cell = box.run("bytearray(80 << 20)")
        assert cell.error is not None
        assert cell.error.type == "MemoryError"
        cell = box.run("with open('/tmp/a', 'w') as file:\n    file.write('x' * 11)")
        assert cell.error is not None
        assert cell.error.type == "OSError"
    with from_a_spare(runtime, Limits(memory_mb=512)) as box:
        assert box.run("len(bytearray(300 << 20))").value == 300 << 20


def test_closing_the_runtime_frees_the_spare(runtime: Runtime) -> None:
    runtime.close()
    assert runtime.warm_workers == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("warm_workers", [0, 1])
def test_runtimes_that_are_over_leave_no_code_mapped_and_no_file_open(warm_workers: int) -> None:
    def one_life() -> None:
        with Runtime(warm_workers=warm_workers) as runtime, runtime.sandbox(isolation="thread") as box:
            assert box.run("1").value == 1

    one_life()
    gc.collect()
    before, mapped = leftovers(), mappings()
    for _ in range(3):
        one_life()
    before.wait_gone()
    assert mappings() <= mapped


def mappings() -> int:
    """Of the image's code, in this process."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(".cwasm")
