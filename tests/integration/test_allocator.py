"""The small-object allocator and the two stacks of a guest, under stress at the sandbox's face.

Blocks must keep what was written to them through every way of growing, shrinking and freeing, and a guest that met the
end of its memory or of its stack goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.places import params, where

from cloche import Limits, Sandbox

pytestmark = pytest.mark.wasmtime

RESIZE = """
import array, gc, random
r = random.Random(11)
def fill(n): return bytes((n * 31 + i) & 255 for i in range(n))
live = []
bad = 0
for step in range(30_000):
    kind = r.randrange(7)
    if kind < 3 or not live:
        n = r.choice((1, 7, 8, 9, 63, 64, 65, 255, 256, 257, 500, 511, 512, 513, 520, 1024, 5000))
        live.append((bytearray(fill(n)), n))
    elif kind == 3:                                    # grow, over the classes and out of them
        block, n = live[r.randrange(len(live))]
        tail = fill(r.randrange(1, 600))
        block += tail
        bad += bytes(block[:n]) != fill(n)
        del block[n:]
    elif kind == 4:                                    # shrink to less than half and back
        block, n = live[r.randrange(len(live))]
        keep = bytes(block)
        del block[n // 3:]
        bad += bytes(block) != keep[:n // 3]
        block += keep[n // 3:]
    elif kind == 5:
        a = array.array("I", range(r.randrange(300)))
        a.extend(range(r.randrange(300)))
        bad += sum(a[:5]) > 10
    else:
        live[r.randrange(len(live))] = live[-1]
        live.pop()
bad += sum(bytes(block) != fill(n) for block, n in live)
zeroed = all(not any(bytearray(n)) for n in (1, 8, 100, 512, 513, 4096))
live.clear()
gc.collect()
(bad, zeroed)
"""

TWICE = """
import gc
def exhaust(make):
    kept = []
    try:
        while True:
            kept.append(make())
    except MemoryError:
        return len(kept) > 0
def small(): return [0] * 30
def large(): return bytearray(2**20)
(exhaust(large), exhaust(small), exhaust(large), exhaust(small), len(bytearray(2**22)), gc.collect() >= 0)
"""

LINKED = """
class Node: __slots__ = ("to",)
head = None
for _ in range(200_000):
    node = Node()
    node.to = head
    head = node
del head, node
"""
# Freeing takes native stack and none that CPython's guard could see: it ends the instance from about 300 000 levels on.
NESTED = "t = ()\nfor _ in range(150_000): t = (t,)\ndel t\n1"
LIMIT_LIFTED = """
import json, sys
sys.setrecursionlimit(10**6)
def deep(n): return n and max([n], key=lambda _: deep(n - 1))
(deep(2500), len(json.loads("[" * 20_000 + "]" * 20_000)))
"""

TOO_DEEP = {
    "a Python function": "def f(n): return f(n + 1)\nf(0)",
    "a class that calls itself": "class A: pass\nA.__call__ = A()\nA()()",
    "lists that hold themselves": "a = []; a.append(a)\nb = []; b.append(b)\na == b",
    "a deep copy that is compared": "import copy\na = {}; a['x'] = a\ncopy.deepcopy(a) == a",
    "nested tuples compared": "a = b = ()\nfor _ in range(150_000): a = (a,); b = (b,)\na == b",
    "nested lists shown": "a = []\nfor _ in range(150_000): a = [a]\nrepr(a)",
    "nested JSON read": "import json\njson.loads('[' * 500_000)",
    "nested lists pickled": "import pickle\na = []\nfor _ in range(150_000): a = [a]\npickle.dumps(a)",
    "a Python function with the limit lifted": (
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return f(n + 1)\nf(0)"
    ),
    "frames that are held, with the limit lifted": (
        "import sys\nsys.setrecursionlimit(10**9)\n"
        "def f():\n    try: return f()\n    except RecursionError: return sys._getframe()\n"
        "f()\nraise RecursionError"
    ),
    "a comparison in C with the limit lifted": (
        "import sys\nsys.setrecursionlimit(10**8)\ndef f(): return max([1], key=lambda _: f())\nf()"
    ),
}


@pytest.fixture(scope="module", params=params(sampled=False))
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(**where(request.param), limits=Limits(memory_mb=192, wall_s=100, cpu_s=100)) as made:
        yield made


def test_blocks_keep_their_contents_when_they_grow_shrink_and_move(box: Sandbox) -> None:
    cell = box.run(RESIZE)
    assert (cell.error, cell.value) == (None, (0, True))


def test_memory_runs_out_several_times_and_is_there_again(box: Sandbox) -> None:
    cell = box.run(TWICE)
    assert (cell.error, cell.value) == (None, (True, True, True, True, 2**22, True))


@pytest.mark.parametrize("kind", TOO_DEEP)
def test_recursion_is_an_error_and_the_state_stays(box: Sandbox, kind: str) -> None:
    box.run("kept = 'yes'")
    cell = box.run(
        f"try:\n    exec({TOO_DEEP[kind]!r}, {{}})\nexcept RecursionError:\n    ended = 'RecursionError'\nended"
    )
    assert (cell.error, cell.value) == (None, "RecursionError")
    assert box.run("kept").value == "yes"


def test_long_chains_of_objects_are_freed(box: Sandbox) -> None:
    assert box.run(LINKED).error is None
    assert box.run(NESTED).value == 1


def test_c_code_may_recurse_deeper_than_the_default_limit(box: Sandbox) -> None:
    assert box.run(LIMIT_LIFTED).value == (2500, 1)


def test_pools_of_small_objects_follow_one_another_without_gaps() -> None:
    with Sandbox(isolation="thread") as fresh:
        before = fresh.run("1").usage.memory_bytes
        after = fresh.run("blocks = [bytes(470) for _ in range(40_000)]").usage.memory_bytes
    assert after - before < 25_000_000  # 20 MB of blocks; with a gap behind each pool it was twice that
