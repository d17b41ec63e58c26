"""Limits of the interpreter that a cell may move itself."""

from __future__ import annotations

import pytest

from .conftest import FakeHost


@pytest.mark.parametrize("limit", [10**6, 2**31, 10**30])
def test_any_recursion_limit_is_taken_and_means_at_most_what_is_safe(host: FakeHost, limit: int) -> None:
    code = (
        f"import sys\nold = sys.getrecursionlimit()\nsys.setrecursionlimit({limit})\nmost = sys.getrecursionlimit()\n"
    )
    ran = host.run(code + "sys.setrecursionlimit(old)\n(most, sys.getrecursionlimit() == old)")
    assert ran.value == (250_000, True)


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "'x'", "None"])
def test_a_wrong_recursion_limit_is_the_error_that_python_has(host: FakeHost, limit: str) -> None:
    assert host.run(f"import sys\nsys.setrecursionlimit({limit})").error.type in ("ValueError", "TypeError")
