"""Each result says what it ran on: one shared object, true, and free of anything that a worker said."""

from __future__ import annotations

import pickle  # noqa: TID251  # of our own object

import pytest
from tests.support.places import params, where

import cloche
from cloche import Cell, Metadata, Runtime, TimedOut
from cloche.wasm_sandbox.image.load import load_image
from cloche.wasm_sandbox.image.store import find_image
from cloche.wasm_sandbox.pinned import WASMTIME

pytestmark = pytest.mark.wasmtime


@pytest.mark.parametrize("place", params())
@pytest.mark.guarantee("G43")
def test_a_cell_names_versions_image_and_the_walls_that_stand(place: str) -> None:
    with Runtime() as runtime, runtime.sandbox(**where(place)) as box:
        found = box.run("1 + 1").metadata
        walls = runtime.walls(**where(place))
    assert found is not None
    image = load_image(find_image())
    isolation = "process" if place == "deno" else place
    expected = ("deno", isolation, "") if place == "deno" else ("wasmtime", isolation, WASMTIME)
    assert (found.engine, found.isolation, found.wasmtime) == expected
    assert (found.pyodide, found.python) == (image.manifest.pyodide, image.manifest.python)
    assert found.image == image.sha256
    assert found.cloche == cloche.__version__
    assert found.walls == tuple(wall.name for wall in walls if wall.active)
    assert found.to_json()["walls"] == list(found.walls)


def test_all_cells_of_a_runtime_share_one_object_and_it_survives_a_pickle() -> None:
    with Runtime() as runtime, runtime.sandbox() as first, runtime.sandbox() as second:
        cells = [first.run("1"), first.run("2"), second.run("3")]
    assert len({id(cell.metadata) for cell in cells}) == 1
    copy = pickle.loads(pickle.dumps(cells[0]))  # noqa: S301  # our own object
    assert isinstance(copy, Cell)
    assert copy.metadata == cells[0].metadata


def test_a_cell_that_was_cut_off_has_it_too() -> None:
    with Runtime() as runtime, runtime.sandbox(isolation="thread") as box, pytest.raises(TimedOut) as caught:
        box.run("while True: pass", deadline_s=0.2)
    assert caught.value.cell is not None
    assert isinstance(caught.value.cell.metadata, Metadata)


def test_equality_of_cells_is_about_what_they_gave() -> None:
    plain = Metadata(
        cloche="1", engine="wasmtime", isolation="thread", wasmtime="1", pyodide="1", python="3", image="0", walls=()
    )
    assert Cell(value=1, metadata=plain) == Cell(value=1)
