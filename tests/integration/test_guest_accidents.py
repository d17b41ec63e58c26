"""What a cell breaks in the interpreter, it breaks for cells: the sandbox's own Python goes on."""

from __future__ import annotations

import pytest
from tests.support.places import params, where

from cloche import Sandbox

pytestmark = pytest.mark.wasmtime


@pytest.mark.parametrize("place", params())
def test_a_replaced_builtin_is_replaced_for_cells_alone(place: str) -> None:
    names = ("len", "str", "int", "next", "isinstance", "type", "StopIteration", "MemoryError", "memoryview", "zip")
    with Sandbox(**where(place)) as box:
        for name in names:
            box.run(f"import builtins\nkept = builtins.{name}\nbuiltins.{name} = None")
            assert box.run("[1 + 1, print('hi')]").value == [2, None]
            assert box.run(f"{name} is None").value is True
            assert box.run("nothing").error is not None
            assert box.run(f"builtins.{name} = kept\n{name} is kept").value is True
