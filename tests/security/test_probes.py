"""Every attack of the corpus, in both isolations and on both engines: it gets nothing, and nobody else notices.

The rule: no exception list. Thread isolation has to hold the same probes as worker processes do. One probe by hand:
`python -m tests.security brg-07 thread`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.places import matrix, params

from cloche.wasm_sandbox.image.store import find_image

from .corpus import probes, repaired
from .harness import Range, open_range
from .verdict import judge

pytestmark = [pytest.mark.security, pytest.mark.wasmtime]

SAMPLE = ("js-01", "js-10", "fs-01", "net-01", "proc-01", "res-01", "res-07", "brg-07", "hp-01", "env-01")
"""Probes that the ordinary suite runs on the engine "deno"; `make test-all` runs them all."""
PLANTS = {name: probe.pair for name, probe in probes().items() if probe.pair} | {"per-10": "per-01a"}
"""What runs before, in another sandbox of the same runtime."""
IN_OUT = "import os; os.chdir('/out')"


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    """One for all probes, so that each meets what those before it left behind."""
    image = find_image()
    before = _digest(image)
    with open_range(tmp_path_factory.mktemp("range")) as made:
        yield made
    assert _digest(image) == before, "a guest changed the image that all tenants share"


@pytest.fixture
def host_output(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What this process and its children printed since the last call."""
    return lambda: "".join(capfd.readouterr())


@pytest.mark.parametrize(("name", "isolation"), matrix(probes(), SAMPLE))
@pytest.mark.guarantee("G16")
@pytest.mark.guarantee("G40")
def test_the_sandbox_holds(shooting_range: Range, host_output: Callable[[], str], name: str, isolation: str) -> None:
    if name in PLANTS:
        plant = probes()[PLANTS[name]]
        assert judge(shooting_range.shoot(plant, isolation, host_output=host_output)) == []
    assert judge(shooting_range.shoot(probes()[name], isolation, host_output=host_output)) == []


@pytest.mark.parametrize(("name", "isolation"), matrix([n for n, probe in probes().items() if probe.answers], SAMPLE))
def test_the_sandbox_holds_when_the_hostile_value_goes_to_a_tool(
    shooting_range: Range, host_output: Callable[[], str], name: str, isolation: str
) -> None:
    seen = shooting_range.shoot(probes()[name], isolation, final_answer=True, host_output=host_output)
    assert judge(seen) == []


@pytest.mark.parametrize(("name", "isolation"), matrix(repaired(), SAMPLE))
def test_the_sandbox_holds_against_the_repaired_probe(
    shooting_range: Range, host_output: Callable[[], str], name: str, isolation: str
) -> None:
    assert judge(shooting_range.shoot(repaired()[name], isolation, host_output=host_output)) == []


@pytest.mark.parametrize("isolation", params(sampled=False))
@pytest.mark.guarantee("G03")
@pytest.mark.guarantee("G27")
def test_hostile_files_come_back_as_bytes_under_names_of_the_host(
    shooting_range: Range, tmp_path: Path, isolation: str
) -> None:
    seen = shooting_range.shoot(probes()["hp-27"], isolation, before=IN_OUT)
    assert judge(seen) == []
    assert len(seen.artifacts) > 5
    for artifact in seen.artifacts:
        (tmp_path / "saved").mkdir(exist_ok=True)
        (tmp_path / "saved" / artifact.name).write_bytes(artifact.data)
    assert len(list((tmp_path / "saved").iterdir())) == len(seen.artifacts)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
