"""Rehearsals: what a first cell makes late is there already.

CPython specialises bytecode, fills caches and makes some tables at first use; each of that would dirty pages of every
new sandbox. So while the image is built, cells like those that will come run some times in a throw-away guest with a
host of its own. A warm worker, too, rehearses before it is leased: one small cell, so that its pages are in place, or
several where an engine compiles what it runs for the first time.

Rule: nothing of it may be seen afterwards. All that a cell leaves in the interpreter is put back here.
"""

from __future__ import annotations

import json
import linecache
import marshal  # noqa: TID251  # writes frames for a guest in the same interpreter
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import frames

if TYPE_CHECKING:
    from .entry import Guest

_TOOL = {
    "name": "rehearse",
    "signature": "(n: int = 1) -> int",
    "doc": "",
    "params": [{"name": "n", "kind": "pos_or_kw", "default": True}],
}
_CELLS = (
    "1+1",
    "x = 2\nx * 3.5",
    "import math\nround(math.sqrt(sum(i * i for i in range(20))), 3)",
    "import json, re, datetime\njson.loads(json.dumps({'a': [1, 2.5, None, 'é']}))",
    "re.sub(r'(\\w+)-(?P<n>\\d+)', r'\\g<n>', 'tea-12'), datetime.datetime(2026, 1, 1).isoformat()",
    "from dataclasses import dataclass\n@dataclass\nclass Tea:\n    name: str\n    price: float = 1.0\nTea('green')",
    "class Base:\n    def f(self, x): return x + 1\nb = Base()\nsorted((b.f(i) for i in range(9)), reverse=True)",
    "try:\n    {}['x']\nexcept KeyError as exc:\n    text = f'{exc!r:>10} {1.5:,.2f}'\ntext.strip().split()",
    "sum({name: rehearse(n) for n, name in enumerate(('tea', 'milk'))}.values())",
    "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 1\nasyncio.run(main())",
    "import json, math\nfor i in range(3):\n    print(i, json.dumps([i]))\n[{'a': (1, 2.5, 'b')}, None]",
    "rehearse(3) + rehearse(n=4)",
    "import asyncio\nawait asyncio.gather(rehearse.aio(1), asyncio.sleep(0))",
    "asyncio.run(asyncio.sleep(0, 5))",
    "def f(n):\n    return 1 / n\nf(0)",
    "f(",
    "undefined_name",
)
_FOR_LEASE = (
    "1+1",
    "print(f'{2.5:>8.2f}')\ndef f(n):\n    return 1 / n\nf(0)",
    "import signal\nsignal.raise_signal(signal.SIGINT)\nfor i in range(9):\n    pass",
    "rehearse(3) + rehearse(n=4)",
    "import asyncio\nawait asyncio.gather(rehearse.aio(1), asyncio.sleep(0))",
    "import json, re\nre.sub('a', 'b', json.dumps({'a': [1, 2.5, None]}))",
    "class Tea:\n    def __init__(self, price): self.price = price\nsorted([Tea(2).price, Tea(1).price])",
    "import random\n[random.random() < 2, {1, 2}, b'x', (1, 'é')]",
)
"""The most common way first; the second ends in an error, the third is interrupted."""
_ROUNDS = 8
"""CPython specialises a function's bytecode in its first few runs."""

MakeGuest = Callable[[Callable[[bytes], bytes]], "Guest"]


def rehearse_for_image(make_guest: MakeGuest) -> None:
    """All cells, while the image is built. Raises RuntimeError when the guest does not answer: the image is no good."""
    _rehearse(make_guest, _CELLS * _ROUNDS)


def rehearse_for_lease(make_guest: MakeGuest, number: int) -> None:
    """One small cell, in a worker that waits for its tenant. `number`: which; those beyond the last are the first."""
    _rehearse(make_guest, (_FOR_LEASE[number if 0 <= number < len(_FOR_LEASE) else 0],))


def _rehearse(make_guest: MakeGuest, cells: tuple[str, ...]) -> None:
    host = _Host()
    modules, streams, cache = sys.modules.copy(), _streams(), linecache.cache.copy()
    handler = signal.getsignal(signal.SIGINT)
    guest = make_guest(host.call)
    try:
        guest.entry(_start())
        for source in cells:
            host.serve(guest, source)
    finally:
        guest.drop_loop()
        for name, stream in streams.items():
            setattr(sys, name, stream)
        for name in set(sys.modules) - set(modules):
            del sys.modules[name]
        sys.modules.update(modules)
        linecache.cache.clear()
        linecache.cache.update(cache)
        signal.signal(signal.SIGINT, handler)


class _Host:
    """Answers the rehearsing guest."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._results: list[dict[str, Any]] = []

    def serve(self, guest: Guest, source: str) -> None:
        self._results.clear()
        reply = guest.entry(_cell_frame(source.encode(), _value({})))
        while reply:
            outcomes = [{"id": call, "ok": True, "end_cell": False} for call in self._open]
            self._open.clear()
            reply = guest.entry(_frame({"type": "wake", "results": outcomes}, *[_value(1) for _ in outcomes]))
        if len(self._results) != 1:
            raise RuntimeError(f"the rehearsal of {source!r} gave {len(self._results)} results")

    def call(self, message: bytes) -> bytes:
        size = int.from_bytes(message[4:8], "little")
        header: dict[str, Any] = json.loads(message[8 : 8 + size])
        if header["type"] == "tool_call":
            return _frame({"type": "tool_result", "ok": True, "end_cell": False}, _value(1))
        if header["type"] == "tool_start":
            self._open.append(header["id"])
        if header["type"] == "result":
            self._results.append(header)
        return b""


def _streams() -> dict[str, Any]:
    return {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")}


def _start() -> bytes:
    header = {"type": "start", "tasks": 100, "value_bytes": 1 << 20, "value_depth": 100, "int_digits": 4300}
    return _frame(header, _value([_TOOL]))


def _cell_frame(source: bytes, inputs: bytes) -> bytes:
    """In the very form that `frames.common_cell` looks for."""
    header = b'{"type":"cell","attachments":[%d,%d],"id":0,"output_bytes":1048576,"cpu_s":1.0}'
    return frames.frame(header % (len(source), len(inputs)), source + inputs)


def _value(value: Any) -> bytes:
    return b"\0" + marshal.dumps(value, 2)


def _frame(header: dict[str, Any], *parts: bytes) -> bytes:
    header["attachments"] = [len(part) for part in parts]
    return frames.frame(json.dumps(header).encode(), b"".join(parts))
