"""Runs inside the guest while an image is built: a throw-away guest runs cells like those that will come.

CPython rewrites a function's bytecode in its first runs and fills caches. Done here, the pages behind it are written
once for all sandboxes, and a first cell runs like a later one. Nothing of the throw-away guest stays.
"""

import gc
import json
import linecache
import signal
import struct
import sys
from collections.abc import Mapping
from importlib import import_module

_ROUNDS = 8
_CELLS = (
    "1+1",
    "tea = 3\ntea * 2.5",
    "print('tea', 1.5, [1, 2])",
    "import math\nround(math.sqrt(sum(i * i for i in range(20))), 3)",
    "prices = {name: look_up(name) for name in ('tea', 'milk')}\nsum(len(p) for p in prices.values())",
    "look_up(item='tea')",
    "import asyncio\nawait asyncio.gather(*(look_up.aio(i) for i in 'ab'))",
    "async def main():\n    await asyncio.sleep(0)\n    return 1\nasyncio.run(main())",
    "import json, re, datetime\njson.loads(json.dumps({'a': [1, 2.5, None, 'é']}))",
    "re.sub(r'(\\w+)-(?P<n>\\d+)', r'\\g<n>', 'tea-12'), datetime.datetime(2026, 1, 1).isoformat()",
    "from dataclasses import dataclass\n@dataclass\nclass Tea:\n    name: str\n    price: float = 1.0\nTea('green')",
    "class Base:\n    def f(self, x): return x + 1\nb = Base()\nsorted((b.f(i) for i in range(9)), reverse=True)",
    "try:\n    {}['x']\nexcept KeyError as exc:\n    text = f'{exc!r:>10} {1.5:,.2f}'\ntext.strip().split()",
    "1 / 0",
    "undefined_name",
    "1 +",
)


class _Host:
    """Answers the guest as a host would: every tool returns its name."""

    def __init__(self) -> None:
        self.open: list[int] = []

    def call(self, message: bytes) -> bytes:
        size = struct.unpack_from("<I", message, 4)[0]
        header = json.loads(message[8 : 8 + size])
        if header["type"] == "tool_call":
            return _frame({"type": "tool_result", "id": header["id"], "ok": True, "end_cell": False}, _value("price"))
        if header["type"] == "tool_start":
            self.open.append(header["id"])
        return self.wake() if header["type"] == "wait" else b""

    def wake(self) -> bytes:
        results = [{"id": number, "ok": True, "end_cell": False} for number in self.open]
        parts = [_value("price") for _ in self.open]
        self.open.clear()
        return _frame({"type": "wake", "results": results}, *parts)


def _frame(header: Mapping[str, object], *parts: bytes) -> bytes:
    raw = json.dumps({**header, "attachments": [len(part) for part in parts]}, separators=(",", ":")).encode()
    body = b"".join(parts)
    return struct.pack("<II", 4 + len(raw) + len(body), len(raw)) + raw + body


def _value(value: object) -> bytes:
    values = import_module("_cloche.values")
    encoded: bytes = values.encode(value, values.ValueLimits())
    return encoded


def _start() -> bytes:
    params = [{"name": "item", "kind": "pos_or_kw", "default": False}]
    stub = {"name": "look_up", "signature": "(item: str) -> str", "doc": "A price.", "params": params}
    numbers = {"memory_bytes": 1 << 28, "files": 100, "file_bytes": 1 << 20, "tasks": 100}
    limits = {"value_bytes": 1 << 24, "int_digits": 4300, "value_depth": 100}
    head = {"type": "start", "protocol_version": 1, "seed": "00" * 32}
    return _frame({**head, **numbers, **limits}, _value([stub]))


def _warm_up() -> None:
    host = _Host()
    guest = import_module("_cloche.entry").Guest(host.call)
    guest.entry(_start())
    for number in range(_ROUNDS * len(_CELLS)):
        header = {"type": "cell", "id": number, "output_bytes": 1 << 16, "artifacts": 0, "artifact_bytes": 0}
        source = _CELLS[number % len(_CELLS)].encode()
        idle: bytes = guest.entry(_frame(header, source, _value({})))
        while idle:
            idle = guest.entry(host.wake())


def _in_a_copy() -> None:
    """Run it and put back what it changes outside itself."""
    modules, streams = dict(sys.modules), (sys.stdout, sys.stderr)
    _warm_up()
    sys.stdout, sys.stderr = streams
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [*sys.modules]:
        if name not in modules:
            del sys.modules[name]
    sys.modules.update(modules)
    linecache.clearcache()


_in_a_copy()
gc.collect()
