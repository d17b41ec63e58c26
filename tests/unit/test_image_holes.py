"""The holes of a heap are taken out of use; the heap here is the simplest that has some."""

from __future__ import annotations

from typing import cast

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image.boot import Interpreter
from cloche.wasm_sandbox.image.holes import fill_holes

END = 1 << 20


class Heap:
    """Free pieces by address, the smallest that fits is taken first: as malloc does it, without its own words."""

    def __init__(self, *holes: tuple[int, int]) -> None:
        self.free = dict([*holes, (END, 1 << 30)])
        self.used: dict[int, int] = {}
        self.zeroed: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        size = (size + 4 + 15) & -16
        room, at = min((room, at) for at, room in self.free.items() if room >= size)
        del self.free[at]
        if room > size:
            self.free[at + size] = room - size
        self.used[at] = size
        return at

    def release(self, at: int) -> None:
        size = self.used.pop(at)
        behind = self.free.pop(at + size, 0)
        before = next((start for start, room in self.free.items() if start + room == at), at)
        self.free[before] = at + size + behind - before

    def zero(self, at: int, size: int) -> None:
        self.zeroed[at] = size


def fill(heap: Heap) -> None:
    fill_holes(cast("Interpreter", heap))


def test_no_hole_is_left_before_the_end_of_the_heap_and_what_fills_them_is_zeroed() -> None:
    heap = Heap((1008, 16), (5008, 208), (20_000, 150_000), (300_000, 4000))
    fill(heap)
    assert heap.free == {END: 1 << 30}
    assert sum(heap.used.values()) == 16 + 208 + 150_000 + 4000
    assert heap.used.keys() <= heap.zeroed.keys()


def test_a_heap_without_holes_stays_as_it_is() -> None:
    heap = Heap()
    fill(heap)
    assert heap.used == {}


def test_a_malloc_that_never_gives_neighbours_is_an_error_and_no_endless_loop() -> None:
    class Scattered(Heap):
        def allocate(self, size: int) -> int:
            self.used[END * len(self.used)] = size
            return END * (len(self.used) - 1)

    with pytest.raises(ImageError, match="no end"):
        fill(Scattered())
