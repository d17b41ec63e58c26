"""What a cell shows of itself: guest text on one line, cut, without control characters."""

from __future__ import annotations

import pytest

from cloche.runtime.cell import Cell
from cloche.runtime.protocol import GuestError

HOSTILE = "\x1b[2J\nINFO forged\u202e\ud800\x9b"


@pytest.mark.parametrize(
    "cell",
    [
        Cell(value_repr=HOSTILE),
        Cell(error=GuestError(type=HOSTILE, message="m", traceback="", line=None)),
        Cell(error=GuestError(type="E", message=HOSTILE * 1000, traceback=HOSTILE, line=None)),
        Cell(stdout=HOSTILE, stderr=HOSTILE * 1000),
        Cell(value=HOSTILE),
    ],
)
@pytest.mark.guarantee("G26")
def test_the_repr_of_a_cell_is_one_printable_line_whatever_the_guest_wrote(cell: Cell) -> None:
    shown = repr(cell)

    assert shown.isprintable()
    assert len(shown) < 4000


def test_the_repr_keeps_printable_text_of_any_script() -> None:
    assert repr(Cell(value_repr="'größe 价格'")).startswith("<Cell ok value='größe 价格'")
