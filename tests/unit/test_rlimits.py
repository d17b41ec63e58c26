"""Limits that are set for another process: as low as asked, never above what the host itself may have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("the jail is made for Linux", allow_module_level=True)

import resource

from cloche.wasm_sandbox.jail.rlimits import MIB, limit_cpu_of, limit_memory_of


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-I", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as made:
        yield made.pid
        made.kill()


@pytest.mark.parametrize(("hard", "asked", "soft"), [(60, 100, 60), (60, 10, 10), (resource.RLIM_INFINITY, 100, 100)])
def test_cpu_time_is_moved_as_far_as_the_host_may_go_itself(child: int, hard: int, asked: int, soft: int) -> None:
    resource.prlimit(child, resource.RLIMIT_CPU, (hard, hard))
    limit_cpu_of(child, asked)
    assert resource.prlimit(child, resource.RLIMIT_CPU) == (soft, hard)


@pytest.mark.parametrize(("hard", "asked", "cap"), [(900, 1000, 900), (900, 500, 500)])
def test_memory_is_only_ever_capped_lower(child: int, hard: int, asked: int, cap: int) -> None:
    resource.prlimit(child, resource.RLIMIT_DATA, (hard * MIB, hard * MIB))
    limit_memory_of(child, asked)
    assert resource.prlimit(child, resource.RLIMIT_DATA) == (cap * MIB, cap * MIB)


def test_one_that_is_gone_needs_no_cpu_limit_and_has_no_memory_to_cap() -> None:
    gone = subprocess.Popen([sys.executable, "-I", "-c", ""])
    gone.wait(30)
    limit_cpu_of(gone.pid, 10)
    with pytest.raises(ProcessLookupError):
        limit_memory_of(gone.pid, 10)
