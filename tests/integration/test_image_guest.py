"""The image in use, through the engine: the shim's bridge, the archive, the allocator, and what was baked in."""

from __future__ import annotations

import functools
import json
import re
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import pytest

from cloche.runtime import values
from cloche.wasm_sandbox.engine import Engine
from cloche.wasm_sandbox.filesystem import FileSystem
from cloche.wasm_sandbox.host_calls import Refused
from cloche.wasm_sandbox.image.archive import NATIVE_LIST
from cloche.wasm_sandbox.image.compile import compiled_module
from cloche.wasm_sandbox.image.load import Image, load_image
from cloche.wasm_sandbox.image.store import find_image
from cloche.wasm_sandbox.instance import Instance, Trapped
from cloche.wasm_sandbox.native import THREAD_STACK_BYTES
from cloche.wasm_sandbox.world import World

pytestmark = pytest.mark.wasmtime

T = TypeVar("T")
MIB = 1 << 20
DEADLINE_S = 60
LIMITS = values.ValueLimits()


@pytest.fixture(scope="module")
def image() -> Image:
    return load_image(find_image())


@pytest.fixture(scope="module")
def engine(image: Image) -> Engine:
    return Engine.load(compiled_module(image, epochs=False), epochs=False)


class Box:
    """One instance, and what its guest said to the host. Bytes that start with `test:` are answered by `answer`."""

    def __init__(self, engine: Engine, image: Image, memory_bytes: int) -> None:
        world = World(b"test" * 8)
        files = FileSystem({"/lib/python314.zip": image.stdlib}, 100, MIB, world.time_ns, random=world.random)
        self.instance = engine.instance(world, files, memory_bytes=memory_bytes)
        self.instance.host_call = self._hear
        self.answer: Callable[[bytes], bytes] = bytes
        self.heard: list[bytes] = []
        start = {
            "type": "start", "protocol_version": 1, "seed": "00" * 32, "memory_bytes": memory_bytes, "files": 100,
            "file_bytes": MIB, "tasks": 100, "value_bytes": LIMITS.size, "int_digits": LIMITS.digits,
            "value_depth": LIMITS.depth,
        }  # fmt: skip
        on_guest_thread(lambda: self.instance.enter(frame(start, values.encode([], LIMITS))))

    def run(self, code: str) -> object:
        """The value of the cell; AssertionError with its traceback if it raised."""
        header = {"type": "cell", "id": 1, "output_bytes": MIB, "artifacts": 0, "artifact_bytes": 0}
        self.heard.clear()
        cell = frame(header, code.encode(), values.encode({}, LIMITS))
        on_guest_thread(lambda: self.instance.enter(cell))
        header, parts = split(next(m for m in self.heard if b'"type":"result"' in m))
        assert header["error"] is None, header["error"]
        return values.decode(parts[0], LIMITS) if parts else None

    def _hear(self, message: bytes) -> bytes:
        if message.startswith(b"test:"):
            return self.answer(message)
        self.heard.append(message)
        return b""


@pytest.fixture
def box(engine: Engine, image: Image) -> Iterator[Box]:
    made = Box(engine, image, 256 * MIB)
    yield made
    made.instance.close()


def frame(header: Mapping[str, object], *parts: bytes) -> bytes:
    raw = json.dumps({**header, "attachments": [len(part) for part in parts]}, separators=(",", ":")).encode()
    body = b"".join(parts)
    return struct.pack("<II", 4 + len(raw) + len(body), len(raw)) + raw + body


def split(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    length = struct.unpack_from("<I", message, 4)[0]
    header = json.loads(message[8 : 8 + length])
    at = 8 + length
    parts: list[bytes] = []
    for size in header["attachments"]:
        parts.append(message[at : at + size])
        at += size
    return header, parts


def on_guest_thread(action: Callable[[], T]) -> T:
    """Run the action where the stack is deep enough for wasm, with a deadline."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(action())
        except BaseException as exc:  # noqa: BLE001  # raised again on the test's thread
            failure.append(exc)

    before = threading.stack_size(THREAD_STACK_BYTES)
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    threading.stack_size(before)
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "the guest did not come back"
    if failure:
        raise failure[0]
    return outcome[0]


# --- the bridge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3_000_000])
def test_messages_and_replies_of_any_size_arrive_whole(box: Box, size: int) -> None:
    box.answer = lambda message: message[5:] * 2
    code = (
        f"import _host\nm = bytes(range(256)) * {size // 256 + 1}\n_host.call(b'test:' + m[:{size}]) == m[:{size}] * 2"
    )
    assert box.run(code) is True


@pytest.mark.parametrize("argument", ["'text'", "bytearray(b'?')", "memoryview(b'?')", "None", "1"])
def test_a_message_that_is_not_bytes_is_a_type_error(box: Box, argument: str) -> None:
    code = f"import _host\ntry: _host.call({argument})\nexcept TypeError as exc: text = str(exc)\ntext"
    assert "expected bytes" in str(box.run(code))


def test_a_refused_call_is_an_oserror_with_a_reason(box: Box) -> None:
    def refuse(_message: bytes) -> bytes:
        raise Refused

    box.answer = refuse
    code = "import _host\ntry: _host.call(b'test:')\nexcept OSError as exc: text = str(exc)\ntext"
    assert box.run(code) == "the host refused this call"


def test_a_reply_that_does_not_fit_is_a_memory_error_and_the_sandbox_lives(engine: Engine, image: Image) -> None:
    box = Box(engine, image, 48 * MIB)
    box.answer = lambda _message: bytes(64 * MIB)
    code = "import _host\ntry: _host.call(b'test:')\nexcept MemoryError: text = 'no memory'\ntext"
    assert box.run(code) == "no memory"
    assert box.run("1 + 1") == 2
    box.instance.close()


def test_an_entry_function_that_raises_or_returns_no_bytes_loses_the_instance(engine: Engine, image: Image) -> None:
    for entry in ("lambda m: 1 / 0", "lambda m: 'text'", "lambda m: None"):
        box = Box(engine, image, 256 * MIB)
        box.run(f"import _host\n_host.set_entry({entry})")
        with pytest.raises(Trapped, match="entry function failed"):
            on_guest_thread(functools.partial(box.instance.enter, b"hello"))
        box.instance.close()


@pytest.mark.parametrize("size", [0, 10, 65536, 65537, 5_000_000])
def test_an_entry_function_gets_and_gives_messages_of_any_size(box: Box, size: int) -> None:
    box.run("import _host\n_host.set_entry(lambda m: m[::-1])")
    message = bytes(i % 251 for i in range(size))
    for _ in range(3):
        assert on_guest_thread(lambda: box.instance.enter(message)) == message[::-1]


def test_long_messages_are_freed_after_each_entry(box: Box) -> None:
    box.run("import _host\n_host.set_entry(lambda m: m)")
    message = bytes(4 * MIB)
    on_guest_thread(lambda: box.instance.enter(message))
    before = box.instance.memory_bytes
    for _ in range(50):
        on_guest_thread(lambda: box.instance.enter(message))
    assert box.instance.memory_bytes == before


def test_the_interrupt_flag_raises_keyboard_interrupt_and_is_taken_once(box: Box) -> None:
    def interrupt(message: bytes) -> bytes:
        box.instance.interrupt()
        return message

    box.answer = interrupt
    code = """
import _host
caught = 0
for _ in range(3):
    try:
        _host.call(b'test:')
        for _ in range(100_000): pass
    except KeyboardInterrupt:
        caught += 1
for _ in range(100_000): pass
caught
"""
    assert box.run(code) == 3


def test_addresses_in_the_manifest_are_those_of_the_image(box: Box, image: Image) -> None:
    facts = image.manifest
    assert box.instance.buffer == facts.buffer
    assert (facts.interrupt, facts.buffer) == (facts.scratch + 8, facts.scratch + 16)
    assert box.instance.memory_bytes >= facts.memory_pages * 65536


# --- what was baked ---------------------------------------------------------------------------------------------------


def test_modules_come_compiled_from_the_archive_and_their_sources_are_beside_them(box: Box) -> None:
    code = """
import json, inspect, colorsys, traceback
try: colorsys.rgb_to_hls(None, 0, 0)
except TypeError: text = traceback.format_exc()
(json.__file__, colorsys.__file__, 'def loads' in inspect.getsource(json), 'maxc = max(r, g, b)' in text)
"""
    assert box.run(code) == ("/lib/python314.zip/json/__init__.pyc", "/lib/python314.zip/colorsys.pyc", True, True)


def test_preloaded_modules_are_those_of_the_manifest_and_main_is_empty(box: Box, image: Image) -> None:
    code = "import sys\n(sorted(sys.modules), [n for n in dir() if not n.startswith('__') and n != 'sys'])"
    found: Any = box.run(code)
    assert set(image.manifest.preloaded) <= set(found[0])
    assert found[1] == []
    assert {"json", "asyncio", "re", "_cloche.entry"} <= set(image.manifest.preloaded)


@pytest.mark.guarantee("G04")
def test_nothing_of_the_javascript_side_can_be_imported(box: Box) -> None:
    code = """
failed = []
for name in ('js', 'pyodide', 'pyodide_js', '_pyodide', '_pyodide_core', 'micropip', 'ctypes'):
    try: __import__(name)
    except ModuleNotFoundError: failed.append(name)
failed
"""
    assert box.run(code) == ["js", "pyodide", "pyodide_js", "_pyodide", "_pyodide_core", "micropip", "ctypes"]


def test_hashes_are_the_same_in_every_sandbox_and_randomness_is_not_the_builders(engine: Engine, image: Image) -> None:
    def facts(seed: bytes) -> tuple[object, object]:
        box = Box(engine, image, 256 * MIB)
        box.instance.world.reseed(seed)
        found: Any = box.run("import os\n(hash('tea'), os.urandom(8).hex())")
        box.instance.close()
        return found[0], found[1]

    one, two = facts(b"1" * 32), facts(b"2" * 32)
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_code_that_every_cell_runs_lies_together(box: Box) -> None:
    code = """
from _cloche import frames, interrupts, runner
run = runner.Runner
busy = (run.run, run._execute, run._finish, interrupts.Interrupts.install, frames.common_cell, frames.result)
places = [id(function.__code__) for function in busy]
(max(places) - min(places), len([line for _, _, line in frames.common_cell.__code__.co_lines() if line]) > 3)
"""
    span, has_lines = cast("tuple[int, bool]", box.run(code))
    assert span < 200_000  # of 30 MB
    assert has_lines


def test_the_archive_lists_packages_that_exist_as_native_wheels_only(box: Box) -> None:
    found = box.run(f"import zipimport\nzipimport.zipimporter('/lib/python314.zip').get_data('{NATIVE_LIST}')")
    assert isinstance(found, bytes)
    lines = found.decode().splitlines()
    assert any(line.startswith("numpy\tnumpy\t") for line in lines)
    assert all(re.fullmatch(r"[^\t]+\t[^\t]+\t[^\t]+", line) for line in lines)


def test_every_module_of_the_archive_imports_or_fails_with_a_plain_import_error(box: Box) -> None:
    code = """
import importlib, sys, zipfile
names = sorted({n.removesuffix('.pyc').replace('/', '.').removesuffix('.__init__')
                for n in zipfile.ZipFile('/lib/python314.zip').namelist() if n.endswith('.pyc')})
left_out = {'antigravity', 'this', '__hello__', 'idlelib'}
odd = []
for name in names:
    if name in left_out or name.endswith('.__main__'): continue
    try: importlib.import_module(name)
    except ImportError: pass
    except Exception as exc: odd.append((name, repr(exc)))
(len(names) > 500, odd)
"""
    assert box.run(code) == (True, [])


# --- the allocator ----------------------------------------------------------------------------------------------------

STRESS = """
import gc, random
r = random.Random(7)
keep = []
for i in range(100_000):
    n, k = r.randrange(1, 700), r.randrange(6)
    if k == 0: keep.append(bytearray(b"%c" % (i % 256)) * n)
    elif k == 1: keep.append((i,) * (n % 60))
    elif k == 2: keep.append({j: str(j) for j in range(n % 20)})
    elif k == 3: keep.append("x" * n)
    elif k == 4 and keep:
        b = keep[r.randrange(len(keep))]
        if isinstance(b, bytearray):
            v = b[0]
            b.extend(bytes([v]) * r.randrange(400))
            del b[r.randrange(1, len(b) + 1):]
    elif keep:
        j = r.randrange(len(keep))
        keep[j] = keep[-1]
        keep.pop()
bad = 0
for b in keep:
    if isinstance(b, bytearray): bad += b != bytes([b[0]]) * len(b)
    elif isinstance(b, dict): bad += any(v != str(k) for k, v in b.items())
    elif isinstance(b, tuple): bad += len(set(b)) > 1
keep.clear()
gc.collect()
bad
"""


def test_blocks_keep_their_contents_under_random_allocation(box: Box) -> None:
    assert box.run(STRESS) == 0


@pytest.mark.parametrize("item", ["bytearray(2**20)", "[0] * 30", "'x' * 100", "object()"])
def test_exhausted_memory_is_a_memory_error_and_the_sandbox_goes_on(engine: Engine, image: Image, item: str) -> None:
    box = Box(engine, image, 64 * MIB)
    code = f"kept = []\ntry:\n    while True: kept.append({item})\nexcept MemoryError:\n    kept = None\nkept is None"
    assert box.run(code) is True
    assert box.run("sum(len('x' * n) for n in range(1000))") == 499500
    box.instance.close()


def test_memory_is_used_again_after_it_was_freed(box: Box) -> None:
    fill = "kept = [str(i) * 3 for i in range(200_000)]\nkept = None"
    box.run(fill)
    before = box.instance.memory_bytes
    for _ in range(5):
        box.run(fill)
    assert box.instance.memory_bytes == before


@pytest.mark.guarantee("G37")
def test_an_instance_is_unharmed_by_another_one(engine: Engine, image: Image) -> None:
    boxes = [Box(engine, image, 128 * MIB) for _ in range(3)]
    for number, box in enumerate(boxes):
        box.run(f"x = {number}\nimport sys\nsys.modules['json'] = None")
    assert [box.run("x") for box in boxes] == [0, 1, 2]
    fresh = Box(engine, image, 128 * MIB)
    assert fresh.run("import json\njson.dumps([1])") == "[1]"
    for box in (*boxes, fresh):
        box.instance.close()


def test_instances_hold_only_what_they_export(image: Image, engine: Engine) -> None:
    instance: Instance = Box(engine, image, 128 * MIB).instance
    for name in ("PyRun_SimpleString", "malloc", "_PyRuntime", "__stack_pointer"):
        with pytest.raises(KeyError):
            instance.read_global(name)
    assert image.manifest.exports == ["memory", "__mut_scratch", "shim_enter", "shim_reply", "shim_buffer"]
    instance.close()
