"""A Deno worker without its driver: the process, its first frame, and requests as bytes."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cloche.deno_host.find import FLAGS
from cloche.deno_host.npm import deno_executable
from cloche.runtime import protocol, values
from cloche.wasm_sandbox.image.deno_assets import DenoAssets
from cloche.wasm_sandbox.image.deno_script import host_script

INTERRUPT = b"\xff\xff\xff\xff"
LIMITS = values.ValueLimits(1 << 24, 100, 4300)
STACK_BYTES = 80 << 20
_LONGEST_S = 60
Frame = tuple[dict[str, Any], list[bytes]]
Answer = Callable[[dict[str, Any]], bytes]


class Ended(Exception):
    """The process is over. Its arguments: exit status and last words."""


class DenoProcess:
    """One process. A timer kills it, so that nothing here waits for ever; each cell has all of its time."""

    def __init__(self, boot: Iterable[bytes | memoryview]) -> None:
        self._process = subprocess.Popen(
            [str(deno_executable()), *FLAGS, str(host_script().main)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"DENO_DIR": "/proc/nonexistent", "NO_COLOR": "1"},
            cwd="/",
            bufsize=0,
            preexec_fn=_raise_stack_limit,
        )
        self._timer = self._new_timer()
        self._cells = 0
        self.output = ""
        with suppress(BrokenPipeError):
            for part in boot:
                self.write(part)

    def __enter__(self) -> DenoProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    # --- bytes --------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        assert self._process.stdin is not None
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._process.stdin.write(rest) or 0 :]

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read(self) -> Frame:
        """The next frame of the worker.

        Raises:
            Ended: there is none.
        """
        (length,) = struct.unpack("<I", self._exactly(4))
        body = self._exactly(length)
        (size,) = struct.unpack_from("<I", body)
        header: dict[str, Any] = json.loads(body[4 : 4 + size])
        parts: list[bytes] = []
        at = 4 + size
        for part in header["attachments"]:
            parts.append(body[at : at + part])
            at += part
        return header, parts

    def end(self) -> tuple[int, str]:
        """Exit status and last words of a process that ends by itself."""
        assert self._process.stderr is not None
        words = self._process.stderr.read().decode()
        return self._process.wait(), words

    def memory_map(self) -> str:
        return Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")

    def _exactly(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = b""
        while len(data) < size:
            more = os.read(self._process.stdout.fileno(), size - len(data))
            if not more:
                raise Ended(*self.end())
            data += more
        return data

    def _new_timer(self) -> threading.Timer:
        timer = threading.Timer(_LONGEST_S, self._process.kill)
        timer.start()
        return timer

    # --- requests -----------------------------------------------------------------------------------------------------

    def start(self, tools: list[dict[str, Any]] | None = None, **changes: Any) -> None:
        """Become a sandbox."""
        limits: dict[str, Any] = {
            "protocol_version": protocol.PROTOCOL_VERSION,
            "seed": "11" * 32,
            "memory_bytes": 128 << 20,
            "files": 100,
            "file_bytes": 1 << 20,
            "tasks": 100,
            "value_bytes": LIMITS.size,
            "int_digits": LIMITS.digits,
            "value_depth": LIMITS.depth,
        }
        self.write(protocol.render(protocol.Start(**{**limits, **changes}), (values.encode(tools or [], LIMITS),)))
        assert self.read() == ({"type": "ready", "attachments": []}, [])

    def send_cell(self, source: str) -> None:
        self._timer.cancel()
        self._timer = self._new_timer()
        self._cells += 1
        self.output = ""
        request = protocol.RunCell(id=self._cells, output_bytes=1 << 20, artifacts=3, artifact_bytes=1000)
        self.write(protocol.render(request, (source.encode(), values.encode({}, LIMITS))))

    def until_done(self, answer: Answer | None = None) -> list[Frame]:
        """All frames of a cell; questions get what `answer` makes of them."""
        frames: list[Frame] = []
        while not frames or frames[-1][0]["type"] != "done":
            frames.append(self.read())
            header, parts = frames[-1]
            if header["type"] == "output":
                self.output += parts[0].decode()
            if header["type"] in ("tool_call", "wait"):
                assert answer is not None, header
                self.write(answer(header))
        return frames

    def cell(self, source: str, answer: Answer | None = None) -> Frame:
        """The `result` frame of a cell."""
        self.send_cell(source)
        frames = self.until_done(answer)
        return next(frame for frame in frames if frame[0]["type"] == "result")

    def value(self, source: str) -> object:
        """What the cell's last expression gave."""
        header, parts = self.cell(source)
        assert header["error"] is None, header["error"]
        return values.decode(parts[0], LIMITS) if parts else None

    def error(self, source: str) -> str:
        """Type of the exception that ended the cell."""
        return str(self.cell(source)[0]["error"]["type"])


def started(assets: DenoAssets, most_memory_bytes: int | None = None, **limits: Any) -> DenoProcess:
    """A sandbox that takes cells."""
    process = DenoProcess(assets.boot_frame(host_script().reader, most_memory_bytes))
    hello, _ = process.read()
    assert hello["type"] == "hello"
    process.start(**limits)
    return process


def _raise_stack_limit() -> None:
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, STACK_BYTES))
