"""What is done to a snapshot's memory before it is baked."""

from __future__ import annotations

import struct

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import scrub

BASE, POOL, BLOCK = 1024, 2 * scrub.POOL_BYTES, 32
WORD = 4 * (BLOCK // scrub.CLASS_BYTES)
NONE, TYPE = 256, 512


def put(memory: bytearray, at: int, *words: int) -> None:
    struct.pack_into(f"<{len(words)}I", memory, at, *words)


def word(memory: bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", memory, at)[0])


def with_free_blocks(*blocks: int) -> bytearray:
    """Memory with one pool full of bytes that somebody left, and these free blocks, in this order."""
    memory = bytearray(4 * scrub.POOL_BYTES)
    memory[POOL : POOL + scrub.POOL_BYTES] = b"s" * scrub.POOL_BYTES
    put(memory, BASE + WORD, blocks[0])
    for at, following in zip(blocks, (*blocks[1:], 0), strict=True):
        put(memory, at, following)
    return memory


def chain(memory: bytearray) -> list[int]:
    found: list[int] = []
    at = word(memory, BASE + WORD)
    while at:
        found.append(at)
        at = word(memory, at)
    return found


@pytest.mark.guarantee("G39")
def test_the_dead_part_of_the_stack_is_zeroed_and_no_more() -> None:
    memory = bytearray(b"x" * 100)
    scrub.scrub_stack(memory, 10, 60)
    assert memory == b"x" * 10 + bytes(50) + b"x" * 40


@pytest.mark.parametrize(("low", "pointer"), [(-1, 5), (6, 5), (0, 101)])
def test_a_stack_outside_the_memory_is_an_error(low: int, pointer: int) -> None:
    with pytest.raises(ImageError, match="outside its memory"):
        scrub.scrub_stack(bytearray(100), low, pointer)


def test_free_blocks_are_zeroed_but_for_their_links_and_blocks_in_use_are_left() -> None:
    first, second, in_use = POOL, POOL + 2 * BLOCK, POOL + BLOCK
    memory = with_free_blocks(first, second)
    scrub.scrub_allocator(memory, BASE)
    assert chain(memory) == [first, second]
    assert memory[first : first + BLOCK] == second.to_bytes(4, "little") + bytes(BLOCK - 4)
    assert memory[second : second + BLOCK] == bytes(BLOCK)
    assert memory[in_use : in_use + BLOCK] == b"s" * BLOCK


def test_pages_with_most_free_blocks_are_handed_out_first() -> None:
    lonely, crowded = POOL, [POOL + 4096 + i * BLOCK for i in (4, 0, 2)]
    memory = with_free_blocks(crowded[0], lonely, crowded[1], crowded[2])
    scrub.scrub_allocator(memory, BASE)
    assert chain(memory) == [*sorted(crowded), lonely]


def test_the_fresh_part_of_a_pool_is_zeroed() -> None:
    memory = with_free_blocks(POOL)
    fresh, last = POOL + 4 * BLOCK, POOL + scrub.POOL_BYTES - BLOCK
    put(memory, BASE + 260 + WORD, fresh)
    put(memory, BASE + 520 + WORD, last)
    scrub.scrub_allocator(memory, BASE)
    end = POOL + scrub.USED_BYTES
    assert memory[fresh:end] == bytes(end - fresh)
    assert memory[POOL + BLOCK : fresh] == b"s" * (fresh - POOL - BLOCK)
    assert memory[end : POOL + scrub.POOL_BYTES] == b"s" * (scrub.POOL_BYTES - scrub.USED_BYTES)


def test_a_free_list_that_is_a_ring_is_an_error_and_no_endless_loop() -> None:
    memory = with_free_blocks(POOL)
    put(memory, POOL, POOL)
    with pytest.raises(ImageError, match="ring"):
        scrub.scrub_allocator(memory, BASE)


def report(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<II", *pair) for pair in ((NONE, TYPE), *pairs))


def test_objects_of_the_snapshot_become_immortal_and_nothing_else_is_touched() -> None:
    memory = bytearray(4096)
    put(memory, NONE, 7 << 28, TYPE)
    put(memory, 1000, 3, TYPE)  # an object
    put(memory, 1008, 0, TYPE)  # freed, the last of a free list
    put(memory, 1016, 0x00E0_0000, TYPE)  # freed: a link where its count was
    put(memory, 1024, 3, TYPE + 4)  # of another type than when the guest was asked: made later
    before = bytes(memory)
    pairs = [(at, TYPE) for at in (1000, 1008, 1016, 1024, 4094, 1 << 30, 1002)]
    assert scrub.make_immortal(memory, report(*pairs)) == 1
    assert word(memory, 1000) == 5 << 28
    assert word(memory, NONE) == 7 << 28
    assert memory[:1000] + memory[1004:] == before[:1000] + before[1004:]


COUNTING, NOT_COUNTING, LOAD = 200, 201, 2048


def constants(*rows: tuple[int, int, int]) -> bytes:
    return struct.pack("<II", COUNTING, NOT_COUNTING) + b"".join(struct.pack("<III", *row) for row in rows)


def test_code_loads_an_immortal_constant_without_counting() -> None:
    memory = bytearray(4096)
    put(memory, 1000, 3, TYPE)  # a code object
    put(memory, 1200, 5 << 28, TYPE)  # its immortal constant
    put(memory, 1300, 5, TYPE)  # one that is counted
    memory[LOAD : LOAD + 6] = bytes((COUNTING, 0, COUNTING, 1, 77, 2))
    rows = [(1000, LOAD, 1200), (1000, LOAD + 2, 1300), (1000, LOAD + 4, 1200)]
    assert scrub.load_immortals(memory, report((1000, TYPE)), constants(*rows)) == 1
    assert memory[LOAD : LOAD + 6] == bytes((NOT_COUNTING, 0, COUNTING, 1, 77, 2))


def test_code_that_was_made_after_the_snapshot_is_left_alone() -> None:
    memory = bytearray(4096)
    put(memory, 1200, 5 << 28, TYPE)
    memory[LOAD] = COUNTING  # of something else: there was no code at 1000
    before = bytes(memory)
    rows = constants((1000, LOAD, 1200), (1000, 1 << 30, 1200))
    assert scrub.load_immortals(memory, report((1000, TYPE)), rows) == 0
    assert memory == before


@pytest.mark.parametrize("raw", [b"", report()])
def test_another_layout_of_objects_is_an_error(raw: bytes) -> None:
    with pytest.raises(ImageError, match="lays objects out differently"):
        scrub.make_immortal(bytearray(4096), raw)
