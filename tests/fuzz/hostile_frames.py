"""Makes the frames of a worker that means harm: nearly right, wrong in one place, in any order.

The rule: everything comes from one seeded generator, so that a seed is a finding. Most frames are right, or the state
machine behind the parser would never be reached; golden frames of `tests/frames` are among the seeds.
"""

from __future__ import annotations

import json
import marshal  # noqa: TID251  # bytes for the decoder under test; nothing is loaded here
import random
import struct
from collections.abc import Callable
from pathlib import Path

Header = dict[str, object]
Parts = list[bytes]

PREFIX = struct.Struct("<II")
GOLDEN = [
    bytes.fromhex(json.loads(path.read_text(encoding="utf-8"))["frame"])
    for path in sorted((Path(__file__).resolve().parent.parent / "frames").glob("*.json"))
]
EDGES: list[object] = [
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**63, 10**400, 0.5, -0.0, 1e308, 1e400, "", "x",
    "x" * 5000, "\x00", "\x1b]0;x\x07", "\u202e", "../../etc/passwd", "nul", [], {}, [[]], {"": None}, [0] * 2000,
]  # fmt: skip
TYPES = [
    "output", "tool_call", "tool_start", "tool_cancel", "wait", "result", "done", "hello", "ready", "file_done",
    "guest_limit", "engine_limit",
]  # fmt: skip
LIKELY = [400, 140, 140, 15, 80, 30, 30, 3, 3, 3, 20, 20]
NAMES = [*["echo", "later", "fail", "answer", "nobody"] * 4, "", "secret_tool", "\x1b[2J", "x" * 256, "x" * 257]
LENGTHS = [0, 1, 4, 7, 8, 100, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


class FrameMaker:
    """Frames for one session after the other. `next_id` and `cell_id` follow what an honest worker would send."""

    def __init__(self, rng: random.Random, hostility: float = 0.06) -> None:
        """`hostility`: share of frames that get one mutation or more."""
        self._rng = rng
        self._hostility = hostility
        self.next_id = 0
        self.cell_id = 0
        self._mutations: list[Callable[[Header, Parts], bytes]] = [
            self._other_field, self._other_type, self._fewer_fields, self._more_fields, self._twice,
            self._other_lengths, self._other_parts, self._other_bytes, self._other_prefix, self._cut, self._noise,
            self._deep,
        ]  # fmt: skip

    def new_cell(self, cell_id: int) -> None:
        self.next_id, self.cell_id = 0, cell_id

    def frame(self) -> bytes:
        """The next frame, right or not."""
        rng = self._rng
        if rng.random() < 0.01:
            return rng.choice(GOLDEN)
        kind = rng.choices(TYPES, LIKELY)[0]
        header, parts = getattr(self, f"_{kind}")()
        if rng.random() >= self._hostility:
            return pack(header, parts)
        raw = rng.choice(self._mutations)(header, parts)
        while rng.random() < 0.2:
            raw = self._flip(raw)
        return raw

    # --- right frames -------------------------------------------------------------------------------------------------

    def _output(self) -> tuple[Header, Parts]:
        stream = self._rng.choice(["stdout", "stderr"])
        return {"type": "output", "stream": stream}, [self._rng.randbytes(self._rng.choice([0, 1, 3, 20, 200]))]

    def _tool_call(self) -> tuple[Header, Parts]:
        return {"type": "tool_call", "id": self._id(), "name": self._rng.choice(NAMES)}, [self._arguments()]

    def _tool_start(self) -> tuple[Header, Parts]:
        return {"type": "tool_start", "id": self._id(), "name": self._rng.choice(NAMES)}, [self._arguments()]

    def _tool_cancel(self) -> tuple[Header, Parts]:
        return {"type": "tool_cancel", "id": max(self.next_id - self._rng.randint(0, 2), 0)}, []

    def _wait(self) -> tuple[Header, Parts]:
        rng = self._rng
        timeout = rng.choice([None, 0, 0.0, 1e-9, 5e11])
        return {"type": "wait", "timeout_s": timeout, "any_result": rng.random() < 0.8}, []

    def _guest_limit(self) -> tuple[Header, Parts]:
        limit = self._rng.choice(["value_bytes", "value_depth", "int_digits", "tasks"])
        return {"type": "guest_limit", "limit": limit, "used": self._rng.choice([0, 1.5, 2**40, 9e19])}, []

    def _engine_limit(self) -> tuple[Header, Parts]:
        limit = self._rng.choice(["memory_mb", "files", "file_bytes", "artifacts", "artifact_bytes"])
        return {"type": "engine_limit", "limit": limit, "used": self._rng.choice([0, 1.5, 2**40, 9e19])}, []

    def _result(self) -> tuple[Header, Parts]:
        rng = self._rng
        error = {"type": "ValueError", "message": "m", "traceback": "t\n", "line": rng.choice([None, 1, 2**30])}
        has_value = rng.random() < 0.5
        header: Header = {
            "type": "result",
            "has_value": has_value,
            "value_repr": rng.choice([None, "repr", "x" * 16_384]),
            "value_error": None if has_value else rng.choice([None, "why"]),
            "error": None if has_value else rng.choice([None, error]),
            "interrupted": rng.random() < 0.1,
            "ended_by_tool": rng.random() < 0.1,
        }
        return header, [self._value()] if has_value else []

    def _done(self) -> tuple[Header, Parts]:
        rng = self._rng
        paths = [rng.choice(["/out/a", "/out/a", "/out/../x", "/out/\x1b[2J", "", "/out/" + "y" * 4000]) for _ in "ab"]
        paths = paths[: rng.choice([0, 0, 1, 2])]
        header: Header = {
            "type": "done",
            "id": self.cell_id,
            "cpu_s": rng.choice([0, 0.1, 1e11]),
            "memory_bytes": rng.choice([0, 2**39]),
            "artifacts": [{"path": path} for path in paths],
            "artifacts_dropped": rng.choice([0, 3]),
        }
        return header, [rng.randbytes(rng.choice([0, 5, 20])) for _ in paths]

    def _hello(self) -> tuple[Header, Parts]:
        return {"type": "hello", "protocol_version": 1, "engine": "x", "image": "0" * 64}, []

    def _ready(self) -> tuple[Header, Parts]:
        return {"type": "ready"}, []

    def _file_done(self) -> tuple[Header, Parts]:
        return {"type": "file_done", "error": None, "paths": ["/out/x"] * self._rng.choice([0, 1, 1000])}, []

    def _id(self) -> int:
        """Mostly the next one."""
        if self._rng.random() < 0.97:
            self.next_id += 1
            return self.next_id
        return self._rng.choice([0, self.next_id, 2**53 - 1])

    # --- values -------------------------------------------------------------------------------------------------------

    def _arguments(self) -> bytes:
        if self._rng.random() < 0.8:
            return b"\0" + marshal.dumps([[self._plain(3)][: self._rng.randint(0, 1)], {}], 2)
        return self._value()

    def _value(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.7:
            return b"\0" + marshal.dumps(self._plain(4), 2)  # type: ignore[arg-type]  # plain data
        raw = rng.choice(
            [
                b"\0" + b"[\x01\x00\x00\x00" * rng.choice([50, 101, 5000]) + b"N",
                b"\0[\xff\xff\xff\x7f",
                b"\0(" + rng.randbytes(4),
                b"\0l" + struct.pack("<i", rng.choice([-(2**31), 2**31 - 1, 30_000])) + rng.randbytes(2000),
                b"\0r" + rng.randbytes(4),
                b"\0{" + b"i\x01\x00\x00\x00" * rng.randint(0, 9) + b"0",
                b"\0u\x03\x00\x00\x00\xed\xa0\x80",
                b"\0c" + rng.randbytes(60),
                b"\1" + rng.randbytes(rng.randint(0, 40)),
                rng.randbytes(rng.randint(0, 40)),
                b"\0" + marshal.dumps([["x" * 200_000], {}], 2),
            ]
        )
        return self._flip(raw) if raw and rng.random() < 0.3 else raw

    def _plain(self, depth: int) -> object:
        rng = self._rng
        if depth and rng.random() < 0.5:
            items = [self._plain(depth - 1) for _ in range(rng.randint(0, 4))]
            kind = rng.choice(["list", "tuple", "dict"])
            if kind == "dict":
                return {rng.choice(["a", "b", 1, None, 2.5]): item for item in items}
            return tuple(items) if kind == "tuple" else items
        return rng.choice(
            [None, True, 0, -(2**70), 10**60, 0.5, float("nan"), "", "é\u2028", "x" * 100, b"", b"\xff" * 9]
        )

    # --- wrong frames -------------------------------------------------------------------------------------------------

    def _other_field(self, header: Header, parts: Parts) -> bytes:
        header[self._rng.choice(list(header))] = self._rng.choice(EDGES)
        return pack(header, parts)

    def _other_type(self, header: Header, parts: Parts) -> bytes:
        header["type"] = self._rng.choice([*TYPES, "start", "cell", "tool_result", "wake", "", "\0"])
        return pack(header, parts)

    def _fewer_fields(self, header: Header, parts: Parts) -> bytes:
        del header[self._rng.choice(list(header))]
        return pack(header, parts)

    def _more_fields(self, header: Header, parts: Parts) -> bytes:
        return pack({**header, self._rng.choice(["id", "x", "", "__class__"]): self._rng.choice(EDGES)}, parts)

    def _twice(self, header: Header, parts: Parts) -> bytes:
        raw = dumped(header, parts)
        return framed(raw[:-1] + b',"type":"done"}', parts)

    def _other_lengths(self, header: Header, parts: Parts) -> bytes:
        lengths = [self._rng.choice([*LENGTHS, -1, 0.0, "1"]) for _ in range(self._rng.choice([0, 1, 2, 1024, 1025]))]
        return framed(json.dumps({**header, "attachments": lengths}).encode(), parts)

    def _other_parts(self, header: Header, parts: Parts) -> bytes:
        more = [b"", b"x", b"y" * 9] * self._rng.choice([0, 1, 400])
        return pack(header, (parts + more)[self._rng.randint(0, 1) :])

    def _other_bytes(self, header: Header, parts: Parts) -> bytes:
        return self._flip(pack(header, parts))

    def _other_prefix(self, header: Header, parts: Parts) -> bytes:
        raw = pack(header, parts)
        length, header_length = PREFIX.unpack_from(raw)
        if self._rng.random() < 0.5:
            length = self._rng.choice([*LENGTHS, length - 1, length + 1])
        else:
            header_length = self._rng.choice([*LENGTHS, header_length - 1, header_length + 1])
        return PREFIX.pack(length, header_length) + raw[PREFIX.size :]

    def _cut(self, header: Header, parts: Parts) -> bytes:
        raw = pack(header, parts)
        return raw[: self._rng.randint(0, len(raw))]

    def _noise(self, _header: Header, _parts: Parts) -> bytes:
        return self._rng.randbytes(self._rng.choice([0, 1, 7, 8, 9, 64, 1000]))

    def _deep(self, header: Header, parts: Parts) -> bytes:
        opening = self._rng.choice([b"[", b'{"a":'])
        return framed(b'{"type":"output","stream":' + opening * self._rng.choice([100, 1000, 50_000]), parts)

    def _flip(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._rng.choice([1, 1, 2, 8])):
            if changed:
                changed[self._rng.randrange(len(changed))] = self._rng.choice(
                    [0, 1, 0x22, 0x5B, 0x7B, 0x7F, 0x80, 0xFF]
                )
        return bytes(changed)


def dumped(header: Header, parts: Parts) -> bytes:
    return json.dumps({**header, "attachments": [len(part) for part in parts]}).encode()


def framed(raw: bytes, parts: Parts) -> bytes:
    return PREFIX.pack(4 + len(raw) + sum(map(len, parts)), len(raw)) + raw + b"".join(parts)


def pack(header: Header, parts: Parts) -> bytes:
    """The frame, with the attachments' lengths unless the header was given some."""
    if "attachments" in header:
        return framed(json.dumps(header).encode(), parts)
    return framed(dumped(header, parts), parts)
