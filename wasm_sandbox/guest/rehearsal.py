"""A rehearsal while the image is built: what a first cell makes late is then in the image already.

CPython specialises bytecode, fills caches and makes some tables at first use; each of that would dirty pages of every
new sandbox. So some small cells run once, in a throw-away guest with a host of its own, before memory is baked.

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
    "x = 2\nx * 3",
    "import json, math\nfor i in range(3):\n    print(i, json.dumps([i]))\n[{'a': (1, 2.5, 'b')}, None]",
    "rehearse(3) + rehearse(n=4)",
    "import asyncio\nawait asyncio.gather(rehearse.aio(1), asyncio.sleep(0))",
    "asyncio.run(asyncio.sleep(0, 5))",
    "def f(n):\n    return 1 / n\nf(0)",
    "f(",
    "undefined_name",
)


def rehearse(make_guest: Callable[[Callable[[bytes], bytes]], Guest]) -> None:
    """Run the cells. Raises RuntimeError when the guest does not answer as it should: then the image is no good."""
    host = _Host()
    modules, streams, cache = sys.modules.copy(), _streams(), linecache.cache.copy()
    handler = signal.getsignal(signal.SIGINT)
    guest = make_guest(host.call)
    try:
        guest.entry(_start())
        for source in _CELLS * 2:
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
        reply = guest.entry(_frame({"type": "cell", "output_bytes": 1 << 20}, source.encode(), _value({})))
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


def _value(value: Any) -> bytes:
    return b"\0" + marshal.dumps(value, 2)


def _frame(header: dict[str, Any], *parts: bytes) -> bytes:
    header["attachments"] = [len(part) for part in parts]
    return frames.frame(json.dumps(header).encode(), b"".join(parts))
