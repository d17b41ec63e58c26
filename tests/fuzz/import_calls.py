"""Random and half-valid calls of every host import. One strategy, used by the property tests and by long fuzz runs.

The claim: whatever a guest passes, a handler answers, faults, or ends the instance; it raises nothing else, changes no
more than the quotas allow, and leaves the file system's books in order.

    python -m tests.fuzz.import_calls [seconds seed]
"""

from __future__ import annotations

import inspect
import random
import struct
import sys
import time
from dataclasses import dataclass

from tests.support.fake_box import PAGE, BoxExited, FakeBox, import_types

from cloche.wasm_sandbox.filesystem.descriptors import MAX_DESCRIPTORS
from cloche.wasm_sandbox.filesystem.nodes import Directory, File, Node, Symlink
from cloche.wasm_sandbox.imports import ALL_IMPORTS
from cloche.wasm_sandbox.memory import MemoryFault

PATHS = [
    b"/tmp/a", b"/tmp/b", b"/tmp/d", b"/tmp/d/e", b"/tmp/d/e/f", b"/out/x", b"a", b"../..", b"/", b".", b"", b"/tmp/a/",
    b"/lib/python314.zip", b"/dev/null", b"/dev/stdout", b"/dev/urandom", b"/tmp/link", b"/tmp/link/e", b"x" * 300,
    b"/tmp/" + b"y" * 255, b"\xff\xfe", b"/a/" * 1500, b"/tmp/d/..", b"/tmp/d/.",
]  # fmt: skip
SMALL = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 64, 100, 255, 256, 280, 1024, 1025, 4096]
FLAGS = [
    0o0,
    0o1,
    0o2,
    0o101,
    0o102,
    0o302,
    0o1102,
    0o2102,
    0o200000,
    0o400002,
    0o2000102,
    0x100,
    0x200,
    0x1000,
    1030,
    12,
    13,
]
EDGES = [2**31 - 1, 2**31, 2**32 - 1, 2**32 - 100, 2**32 - 4, PAGE, 2 * PAGE]
WIDE_EDGES = [-1, 0, 1, 100, -(2**63), 2**63 - 1, 2**53, 10**12, 253_402_300_800]
PIECES = [[(4096, 10)], [(0, 0), (4096, 5000), (PAGE, PAGE)], [(2**32 - 1, 2**32 - 1)], [(100, 2**31)]]
_SCRATCH = 4096
PATHS_AT = [16 * 1024 + 5000 * index for index in range(len(PATHS))]
PIECES_AT = [12 * 1024 + 64 * index for index in range(len(PIECES))]
LIKELY: dict[str, list[int]] = {
    **dict.fromkeys(("fd", "new_fd"), [0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8]),
    **dict.fromkeys(("dirfd", "old_dirfd", "new_dirfd"), [2**32 - 100] * 4 + [3, 4, 5]),
    **dict.fromkeys(("path", "old_path", "new_path", "target"), PATHS_AT[:14] + PATHS_AT),
    **dict.fromkeys(("buffer", "result", "varargs", "times"), [_SCRATCH, _SCRATCH + 512]),
    "array": PIECES_AT,
    "count": [0, 1, 1, 3, 1025],
    "flags": [0, 0, *FLAGS],
    "command": [0, 1, 2, 3, 4, 12, 13, 14, 1030, 99],
    "mode": [0, 0o100644, 0o10666],
    "permissions": [0, 0o644, 0o777],
    "wanted": [0, 1, 2, 4, 7, 8],
    "whence": [0, 1, 2, 3],
    "size": [*SMALL, 2000, 20_000],
}
"""Parameter name of a handler to values that it could really get."""


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple[float, ...]


def prepare(box: FakeBox) -> list[int]:
    """Fill the memory with paths and plausible structs; the addresses worth passing."""
    for at, path in zip(PATHS_AT, PATHS, strict=True):
        box.memory.write(at, path + b"\0")
    for at, pieces in zip(PIECES_AT, PIECES, strict=True):
        box.memory.write(at, b"".join(struct.pack("<II", *piece) for piece in pieces))
    end = box.memory.size
    return [*PATHS_AT, *PIECES_AT, _SCRATCH, _SCRATCH + 1, 0, end - 1, end - 8, end]


def random_call(source: random.Random, addresses: list[int]) -> Call:
    """One call with arguments that are often nearly right."""
    name = source.choice(NAMES)
    parameters = zip(TYPES[name][0], PARAMETERS[name], strict=True)
    return Call(name, tuple(_argument(source, kind, parameter, addresses) for kind, parameter in parameters))


def perform(box: FakeBox, call: Call) -> float | None:
    """Call as the engine does: a fault is answered with the import's own value. The end of the instance is None."""
    try:
        result = box.call(call.name, *call.arguments)
    except MemoryFault:
        return ALL_IMPORTS[call.name].fault
    except BoxExited:
        return None
    check_result(call, result)
    return result


def check_result(call: Call, result: float | None) -> None:
    results = TYPES[call.name][1]
    if not results:
        return  # the engine ignores it
    kind = float if results == ["f64"] else int
    assert isinstance(result, kind), (call, result)
    if results == ["i32"]:
        assert -(2**31) <= result < 2**32, (call, result)
    if results == ["i64"]:
        assert -(2**63) <= result < 2**63, (call, result)


def check_books(box: FakeBox) -> None:
    """The quota counts exactly what exists, and nothing exceeds it; nothing of the image has changed."""
    files = box.files
    alive = {id(node): node for node in _nodes(files.tree.root)}
    for open_file in files.open_files.table.values():
        node = open_file.node
        if isinstance(node, File):
            assert node.opens == len({id(o) for o in files.open_files.table.values() if o.node is node})
            alive[id(node)] = node
    counted = [node for node in alive.values() if not node.fixed]
    sizes = [node.size for node in counted if isinstance(node, File | Symlink)]
    assert files.quota.files == len(counted) <= files.quota.max_files
    assert files.quota.bytes == sum(sizes) <= files.quota.max_bytes
    allocated = sum(n.data.__alloc__() for n in counted if isinstance(n, File) and isinstance(n.data, bytearray))
    assert allocated <= 1.2 * files.quota.max_bytes + 5000 * files.quota.max_files
    assert len(files.open_files.table) <= MAX_DESCRIPTORS
    assert files.open_files.close_on_exec <= files.open_files.table.keys()
    assert files.read_file("/lib/python314.zip") == b"the standard library"
    assert box.memory.size <= box.memory_limit
    assert len(b"".join(data for _, data in box.raw_output)) <= 64 * 1024


def run(seed: int, *, calls: int) -> None:
    """One box, many calls, all of which follow from the seed."""
    source = random.Random(seed)  # noqa: S311  # repeatable, not secret
    box = FakeBox(pages=4, limit_pages=8, max_files=12, max_bytes=20_000)
    addresses = prepare(box)
    for _ in range(calls):
        call = random_call(source, addresses)
        perform(box, call)
        if call.name.startswith(("_gmtime", "_localtime")) or source.random() < 0.02:
            prepare(box)  # the guest's memory was overwritten by answers
    check_books(box)


def _argument(source: random.Random, kind: str, name: str, addresses: list[int]) -> float:
    """A value of the type, three times out of four one that the parameter of that name could really have."""
    if kind == "f64":
        return source.choice([0.0, 1.5, -1.0, float("nan"), float("inf"), 1e300])
    if kind == "i64":
        return source.choice(WIDE_EDGES) if source.random() < 0.7 else source.randint(-(2**63), 2**63 - 1)
    if name in LIKELY and source.random() < 0.75:
        return source.choice(LIKELY[name])
    pool = source.choice((addresses, addresses, SMALL, SMALL, FLAGS, EDGES, None))
    return source.randrange(2**32) if pool is None else source.choice(pool)


def _nodes(root: Directory) -> list[Node]:
    found: list[Node] = []
    stack: list[Node] = [root]
    while stack:
        node = stack.pop()
        found.append(node)
        assert node.linked
        if isinstance(node, Directory):
            assert all(child.parent is node for child in node.entries.values() if isinstance(child, Directory))
            stack.extend(node.entries.values())
    return found


def _parameter_names(name: str) -> list[str]:
    """Names of a handler's parameters after the box; a handler that takes anything has nameless ones."""
    parameters = list(inspect.signature(ALL_IMPORTS[name].handler).parameters.values())[1:]
    named = [p.name.lstrip("_") for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    return named or [""] * len(TYPES[name][0])


TYPES = import_types()
NAMES = sorted(ALL_IMPORTS)
PARAMETERS = {name: _parameter_names(name) for name in NAMES}


def main(seconds: float, seed: int) -> None:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        run(seed + rounds, calls=2_000)
        rounds += 1
    sys.stdout.write(f"{rounds} rounds of 2000 calls from seed {seed}: nothing found\n")


if __name__ == "__main__":
    main(*((float(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (60.0, 0)))
