"""Where the tests run sandboxes: the isolations of the engine "wasmtime", and the engine "deno".

The rule: a test that runs guests is parametrised over `PLACES` and gives `where(place)` to the sandbox. What differs on
purpose stands in docs/engines.md, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

PLACES = ("process", "thread", "deno")


def where(place: str) -> dict[str, Any]:
    """Options of a sandbox in this place."""
    return {"engine": "deno"} if place == "deno" else {"isolation": place}


def params(*, sampled: bool = True) -> list[Any]:
    """The places as parameters of a test. `sampled=False`: the engine "deno" belongs to `make test-all` only."""
    marks = [pytest.mark.deno] if sampled else [pytest.mark.deno, pytest.mark.exhaustive]
    return [*PLACES[:2], pytest.param("deno", marks=marks)]


def matrix(names: Iterable[str], sample: Collection[str]) -> list[Any]:
    """Each name in each place; on the engine "deno" those outside `sample` belong to `make test-all` only."""
    found: list[Any] = []
    for name in names:
        found += [pytest.param(name, place) for place in PLACES[:2]]
        marks = [pytest.mark.deno] if name in sample else [pytest.mark.deno, pytest.mark.exhaustive]
        found.append(pytest.param(name, "deno", marks=marks))
    return found
