"""Every attack of the corpus, in both isolations: it gets nothing, and nobody else notices.

One probe by hand: `python -m tests.security brg-07 thread` shows what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .corpus import probes
from .harness import Range, open_range
from .verdict import judge

pytestmark = [pytest.mark.security, pytest.mark.wasmtime]

ISOLATIONS = ("process", "thread")


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_range(tmp_path_factory.mktemp("range")) as made:
        yield made


@pytest.fixture
def host_output(capfd: pytest.CaptureFixture[str]):  # noqa: ANN201
    return lambda: "".join(capfd.readouterr())


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("name", probes())
def test_the_sandbox_holds(shooting_range: Range, host_output, name: str, isolation: str) -> None:  # noqa: ANN001
    probe = probes()[name]
    if probe.pair:
        assert judge(shooting_range.shoot(probes()[probe.pair], isolation, host_output=host_output)) == []
    assert judge(shooting_range.shoot(probe, isolation, host_output=host_output)) == []
