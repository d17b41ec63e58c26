"""The guest's Python on this interpreter: a host in the same process, and a clock that only waiting moves.

Rule: the guest patches the interpreter it runs in, so all that it patches is put back after each test.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import importlib
import importlib.util
import json
import linecache
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from cloche.runtime import protocol, values

LIMITS = values.ValueLimits()
MAX_FRAME = 64 * 1024 * 1024
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Ran:
    """What the host saw of one cell."""

    result: protocol.Result
    value: Any = None
    frames: list[protocol.FromWorker] = field(default_factory=list[protocol.FromWorker])
    stdout: str = ""
    stderr: str = ""
    idle: int = 0
    """How often the guest returned to wait, with no stack left inside."""
    waits: int = 0
    """How often it waited inside the host call."""

    @property
    def error(self) -> protocol.GuestError:
        assert self.result.error is not None, self.result
        return self.result.error


class EndCell(Exception):
    """Raised by a fake tool that ends the cell."""


@dataclass
class FakeTool:
    """A tool of the fake host: what it returns, and how long an `.aio` call of it takes on the fake clock."""

    function: Callable[..., Any]
    stub: dict[str, Any]
    seconds: float = 0.1


class FakeHost:
    """Answers `_host.call` as the real host does, parsing each frame with the real models."""

    def __init__(self) -> None:
        self.entry: Callable[[bytes], bytes] = lambda _: b""
        self.now = 1000.0
        self.tools: dict[str, FakeTool] = {}
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []
        self.cancelled: list[int] = []
        self.on_frame: Callable[[protocol.FromWorker], None] = lambda _: None
        self.before_cell: Callable[[], None] = lambda: None
        self.refuse_results_over = MAX_FRAME
        self._ready: list[tuple[float, int, bytes, bool, bool]] = []
        self._ran = Ran(protocol.Result(**_EMPTY_RESULT))
        self._results = 0

    @property
    def open_calls(self) -> int:
        """`.aio` calls whose results the guest has neither got nor given up. It gives up none that is not open."""
        return len(self._ready)

    def tool(self, function: Callable[..., Any], *, seconds: float = 0.1, params: str = "") -> None:
        """Grant a tool. `params` is such as `item count=`; a trailing `=` means that there is a default."""
        name = function.__name__
        stub: dict[str, Any] = {
            "name": name,
            "signature": f"({', '.join(params.split())})".replace("=", "=1"),
            "doc": function.__doc__ or "",
            "params": [
                {"name": one.rstrip("="), "kind": "pos_or_kw", "default": one.endswith("=")} for one in params.split()
            ],
        }
        self.tools[name] = FakeTool(function, stub, seconds)

    def start(self, *, tasks: int = 50) -> None:
        frame = protocol.Start(
            protocol_version=1,
            seed="0" * 64,
            memory_bytes=1 << 28,
            files=10,
            file_bytes=1 << 20,
            tasks=tasks,
            value_bytes=1 << 20,
            int_digits=4300,
            value_depth=100,
        )
        stubs = [tool.stub for tool in self.tools.values()]
        assert self.entry(protocol.render(frame, (values.encode(stubs, LIMITS),))) == b""

    def run(self, code: str, *, inputs: dict[str, Any] | None = None, output_bytes: int = 1 << 20) -> Ran:
        """One cell, with as many wakes as it needs."""
        self._ran = ran = Ran(protocol.Result(**_EMPTY_RESULT))
        self._results = 0
        frame = protocol.RunCell(id=1, output_bytes=output_bytes, artifacts=0, artifact_bytes=0)
        message = protocol.render(frame, (code.encode(), values.encode(inputs or {}, LIMITS)))
        self.before_cell()
        reply = self.entry(message)
        while reply:
            wait, _ = protocol.parse_from_worker(reply, max_bytes=MAX_FRAME)
            assert isinstance(wait, protocol.Wait)
            ran.idle += 1
            self.on_frame(wait)
            reply = self.entry(self.wake(wait))
        assert self._results == 1, "a cell ends in exactly one result frame"
        return ran

    def call(self, message: bytes) -> bytes:
        frame, parts = protocol.parse_from_worker(message, max_bytes=MAX_FRAME)
        self._ran.frames.append(frame)
        self.on_frame(frame)
        match frame:
            case protocol.Output(stream=stream):
                text = bytes(parts[0]).decode("utf-8")
                setattr(self._ran, stream, getattr(self._ran, stream) + text)
            case protocol.Wait():
                self._ran.waits += 1
                return self.wake(frame)
            case protocol.ToolCall(id=call_id):
                value, ok, end = self.outcome(frame.name, parts[0])
                return protocol.render(protocol.ToolResult(id=call_id, ok=ok, end_cell=end), (value,))
            case protocol.ToolStart(id=call_id):
                value, ok, end = self.outcome(frame.name, parts[0])
                self._ready.append((self.now + self.tools[frame.name].seconds, call_id, value, ok, end))
            case protocol.ToolCancel(id=call_id):
                assert call_id in {one[1] for one in self._ready}, "cancel of a call that is not open"
                self.cancelled.append(call_id)
                self._ready = [one for one in self._ready if one[1] != call_id]
            case protocol.GuestLimit():
                pass  # kept in `ran.frames`
            case protocol.Result():
                if len(message) > self.refuse_results_over:
                    raise OSError("the frame is too large")
                self._results += 1
                self._ran.result = frame
                self._ran.value = values.decode(parts[0], LIMITS) if parts else None
            case _:
                raise AssertionError(frame)
        return b""

    def outcome(self, name: str, arguments: memoryview) -> tuple[bytes, bool, bool]:
        decoded: Any = values.decode(arguments, LIMITS)
        args: list[Any] = decoded[0]
        kwargs: dict[str, Any] = decoded[1]
        self.calls.append((name, args, kwargs))
        try:
            return values.encode(self.tools[name].function(*args, **kwargs), LIMITS), True, False
        except EndCell:
            return values.encode(None, LIMITS), True, True
        except Exception as exc:  # noqa: BLE001  # as the real dispatcher
            return values.encode([type(exc).__name__, str(exc)], LIMITS), False, False

    def wake(self, wait: protocol.Wait) -> bytes:
        self._ready.sort()
        until = None if wait.timeout_s is None else self.now + wait.timeout_s
        due = [one for one in self._ready if wait.any_result and (until is None or one[0] <= until)]
        assert due or until is not None, "the guest waits for ever"
        self.now = max(self.now, due[0][0] if due else until or 0.0)
        done = [one for one in due if one[0] <= self.now]
        self._ready = [one for one in self._ready if one not in done]
        outcomes = tuple(protocol.ToolOutcome(id=one[1], ok=one[3], end_cell=one[4]) for one in done)
        return protocol.render(protocol.Wake(results=outcomes), tuple(one[2] for one in done))


_EMPTY_RESULT: dict[Literal["has_value", "value_repr", "value_error", "error", "interrupted", "ended_by_tool"], Any] = {
    "has_value": False,
    "value_repr": None,
    "value_error": None,
    "error": None,
    "interrupted": False,
    "ended_by_tool": False,
}


def _load_guest() -> types.ModuleType:
    """The package under the name that it has inside the sandbox."""
    folder = ROOT / "wasm_sandbox" / "guest"
    spec = importlib.util.spec_from_file_location(
        "_cloche", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["_cloche"] = package
    # Baked in from the host's folder.
    for name in ("value_types", "value_forms", "value_decoder", "value_encoder", "values"):
        _load_codec(package, name)
    spec.loader.exec_module(package)
    importlib.import_module("_cloche.entry")
    return package


def _load_codec(package: types.ModuleType, name: str) -> None:
    baked = importlib.util.spec_from_file_location(f"_cloche.{name}", ROOT / "runtime" / f"{name}.py")
    assert baked is not None
    assert baked.loader is not None
    module = sys.modules[f"_cloche.{name}"] = importlib.util.module_from_spec(baked)
    baked.loader.exec_module(module)
    setattr(package, name, module)


@pytest.fixture(scope="session")
def guest_package() -> types.ModuleType:
    return sys.modules.get("_cloche") or _load_guest()


@pytest.fixture
def bare_host(guest_package: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    """A host whose guest has not been started."""
    host = FakeHost()
    module = types.ModuleType("_host")
    module.call = host.call  # type: ignore[attr-defined]
    monkeypatch.setattr(linecache, "cache", linecache.cache.copy())
    for owner, names in _PATCHED.items():
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(builtins, "ToolError", None, raising=False)
    modules = sys.modules.copy()
    sys.modules["_host"] = module
    handler = signal.getsignal(signal.SIGINT)
    policy = _policy_function("get")()
    trace, limit = sys.gettrace(), sys.getrecursionlimit()
    guest_package.install()
    host.entry = module.entry
    _use_fake_clock(host, monkeypatch)
    yield host
    module.entry.__self__.loop().close()
    signal.signal(signal.SIGINT, handler)
    _policy_function("set")(policy)
    sys.settrace(trace)
    sys.setrecursionlimit(limit)
    sys.modules.clear()
    sys.modules.update(modules)


@pytest.fixture
def host(bare_host: FakeHost) -> FakeHost:
    """A started sandbox with two tools."""

    def get_price(item: str) -> float:
        """Price of an item in euros."""
        return {"tea": 3.5, "milk": 1.25}[item]

    def final_answer(answer: object) -> None:
        raise EndCell

    bare_host.tool(get_price, params="item")
    bare_host.tool(final_answer, params="answer")
    bare_host.start()
    return bare_host


def _policy_function(verb: str) -> Any:
    """asyncio's `get` or `set` of the loop policy; the public ones are deprecated in 3.14."""
    name = f"{verb}_event_loop_policy"
    return getattr(asyncio.events, f"_{name}", None) or getattr(asyncio, name)


_PATCHED: dict[Any, tuple[str, ...]] = {
    time: ("sleep",),
    builtins: ("input", "print", "open", "repr", "help", "exit", "quit"),
    sys: ("stdin", "__stdin__", "stdout", "__stdout__", "stderr", "__stderr__", "setrecursionlimit"),
    threading.Thread: ("start",),
    concurrent.futures.ThreadPoolExecutor: ("submit",),
    json: ("loads", "dumps", "JSONDecoder", "encoder"),
    asyncio: tuple(
        name for name in ("SelectorEventLoop", "EventLoop", "run", "DefaultEventLoopPolicy") if name in vars(asyncio)
    ),
    asyncio.unix_events: tuple(name for name in ("_DefaultEventLoopPolicy",) if name in vars(asyncio.unix_events)),
}


def _use_fake_clock(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def now(*_: object) -> float:
        return host.now

    for name in ("patches", "streams"):
        monkeypatch.setattr(sys.modules[f"_cloche.{name}"], "_monotonic", now)
    monkeypatch.setattr(sys.modules["_cloche.loop"].CellLoop, "time", now, raising=False)
