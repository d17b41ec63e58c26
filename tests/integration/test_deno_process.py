"""The Deno process by itself: what it answers, what it survives, how it ends. Its driver is not here."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.deno_process import INTERRUPT, LIMITS, DenoProcess, Ended, started

from cloche.deno_host.find import FLAGS
from cloche.deno_host.npm import deno_executable
from cloche.runtime import protocol, values
from cloche.runtime.watch import cpu_seconds
from cloche.wasm_sandbox.fork_protocol import EXIT_BROKEN, EXIT_NO_GUEST, EXIT_TRAPPED
from cloche.wasm_sandbox.image.deno_assets import DenoAssets, deno_assets
from cloche.wasm_sandbox.image.deno_script import host_script
from cloche.wasm_sandbox.image.load import load_image
from cloche.wasm_sandbox.image.store import find_image

pytestmark = [pytest.mark.deno, pytest.mark.wasmtime]

ROOT = Path(__file__).resolve().parents[2]
TOOL = {
    "name": "price",
    "signature": "(item: str) -> float",
    "doc": "",
    "params": [{"name": "item", "kind": "pos_or_kw", "default": False}],
}


@pytest.fixture(scope="module")
def assets() -> DenoAssets:
    return deno_assets(load_image(find_image()))


@pytest.fixture(scope="module")
def box(assets: DenoAssets) -> Iterator[DenoProcess]:
    """One sandbox for the tests that leave it as it was."""
    with started(assets, tools=[TOOL]) as process:
        yield process


def test_a_fresh_process_says_hello_with_the_image_and_the_engine(assets: DenoAssets) -> None:
    with DenoProcess(assets.boot_frame(host_script().reader)) as process:
        hello, _ = process.read()
    assert hello["engine"].startswith("deno 2.")
    assert (hello["protocol_version"], hello["image"]) == (protocol.PROTOCOL_VERSION, assets.image)


def test_a_cell_gives_its_value_and_output_and_state_stays(box: DenoProcess) -> None:
    assert box.value("x = 40\nprint('tea', x)\nx + 2") == 42
    assert box.output == "tea 40\n"
    assert box.value("x") == 40


def test_a_warm_process_that_rehearsed_takes_its_tenant(assets: DenoAssets) -> None:
    with DenoProcess(assets.boot_frame(host_script().reader)) as process:
        process.read()
        assert process._process.poll() is None  # pyright: ignore[reportPrivateUsage]
        threading.Event().wait(0.2)  # longer than the 20 ms after which it rehearses: there is no sign of the end
        process.start()
        assert process.value("1 + 1") == 2


TRACES = """
import gc, linecache, random, signal, sys
(sorted(sys.modules), sorted(globals()), sorted(linecache.cache), type(signal.getsignal(signal.SIGINT)).__name__,
 gc.isenabled(), sys.getrecursionlimit(), [type(s).__name__ for s in (sys.stdout, sys.stderr)], random.random())
"""


def test_a_rehearsal_leaves_no_trace(assets: DenoAssets) -> None:
    def traces(*, rehearsed: bool) -> object:
        with DenoProcess(assets.boot_frame(host_script().reader)) as process:
            process.read()
            if rehearsed:
                wait_until_quiet(process._process.pid)  # pyright: ignore[reportPrivateUsage]
            process.start()
            return process.value(TRACES)

    assert traces(rehearsed=True) == traces(rehearsed=False)


def wait_until_quiet(pid: int, patience_s: float = 20.0) -> None:
    """Until the process has used no CPU time for a while: it has rehearsed all that it will."""
    used, give_up_at = -1.0, time.monotonic() + patience_s
    while (now := cpu_seconds(pid) or 0.0) > used + 0.005:
        used = now
        threading.Event().wait(0.15)
        assert time.monotonic() < give_up_at


def test_a_blocking_tool_call_is_answered(box: DenoProcess) -> None:
    def answer(question: dict[str, Any]) -> bytes:
        assert (question["type"], question["name"]) == ("tool_call", "price")
        return protocol.render_tool_result(question["id"], True, False, values.encode(2.5, LIMITS))

    header, parts = box.cell("price('tea') * 2", answer)
    assert (header["error"], values.decode(parts[0], LIMITS)) == (None, 5.0)


def test_a_reply_longer_than_the_buffer_arrives_whole(box: DenoProcess) -> None:
    text = "é" * 300_000

    def answer(question: dict[str, Any]) -> bytes:
        return protocol.render_tool_result(question["id"], True, False, values.encode(text, LIMITS))

    _, parts = box.cell("price('x')", answer)
    assert values.decode(parts[0], LIMITS) == text


def test_an_awaiting_cell_returns_to_the_host_and_is_woken(box: DenoProcess) -> None:
    kinds: list[str] = []

    def answer(question: dict[str, Any]) -> bytes:
        kinds.append(question["type"])
        outcome = protocol.ToolOutcome(id=opened.pop(), ok=True, end_cell=False)
        return protocol.render(protocol.Wake(results=(outcome,)), (values.encode(3.0, LIMITS),))

    box.send_cell("await price.aio('tea')")
    opened: list[int] = []
    while (frame := box.read())[0]["type"] != "wait":
        opened.append(frame[0]["id"])
    box.write(answer(frame[0]))
    results = [header for header, _ in box.until_done() if header["type"] == "result"]
    assert (kinds, results[0]["error"]) == (["wait"], None)


def test_an_interrupt_stops_a_loop_and_keeps_the_state(box: DenoProcess) -> None:
    box.send_cell("kept = 7\nprint('go', flush=True)\nwhile True: pass")
    assert box.read()[0]["type"] == "output"
    box.write(INTERRUPT)
    result = next(header for header, _ in box.until_done() if header["type"] == "result")
    assert (result["interrupted"], result["error"]["type"]) == (True, "KeyboardInterrupt")
    assert box.value("kept") == 7


def test_interrupts_between_cells_hit_none_and_one_right_behind_a_cell_hits_it(box: DenoProcess) -> None:
    for _ in range(50):
        box.write(INTERRUPT)
        header, _ = box.cell("1")
        assert (header["interrupted"], header["error"]) == (False, None)
    cell = protocol.render(
        protocol.RunCell(id=1, output_bytes=100, artifacts=0, artifact_bytes=0),
        (b"while True: pass", values.encode({}, LIMITS)),
    )
    box.write(cell + INTERRUPT)
    assert any(header.get("interrupted") for header, _ in box.until_done())


def test_a_memory_bomb_is_a_memory_error_at_the_limit_and_is_told(assets: DenoAssets) -> None:
    with started(assets, most_memory_bytes=64 << 20, memory_bytes=1 << 30) as process:
        process.send_cell("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")
        frames = process.until_done()
        assert next(h for h, _ in frames if h["type"] == "result")["error"]["type"] == "MemoryError"
        assert frames[-1][0]["memory_bytes"] <= 64 << 20
        assert process.value("del hoard\n1 + 1") == 2
    with started(assets, memory_bytes=64 << 20) as process:
        process.send_cell("hoard = []\nwhile True: hoard.append(bytearray(1 << 20))")
        told = [header["limit"] for header, _ in process.until_done() if header["type"] == "engine_limit"]
        assert told == ["memory_mb"]


def test_files_go_in_and_out_and_the_quota_holds(assets: DenoAssets) -> None:
    with started(assets, file_bytes=1000) as process:
        process.write(protocol.render(protocol.WriteFile(path="/tmp/in.txt"), (b"tea",)))
        assert process.read() == ({"type": "file_done", "error": None, "attachments": []}, [])
        source = "open('/out/a.txt', 'w').write(open('/tmp/in.txt').read() * 2)\n"
        process.send_cell(source + "try: open('/out/b', 'wb').write(bytes(2000))\nexcept OSError as e: print(e)")
        *_, (done, parts) = process.until_done()
        assert [item["path"] for item in done["artifacts"]] == ["/out/a.txt", "/out/b"]
        assert parts == [b"teatea", b""]
        assert "No space left" in process.output
        process.write(protocol.render(protocol.ReadFile(path="/none")))
        assert process.read()[0]["error"] == "no such file or directory"
        process.write(protocol.render(protocol.ListFiles()))
        assert process.read()[1] == [b"/out/a.txt\0/out/b\0/tmp/in.txt"]


def test_deep_recursion_is_a_recursion_error_and_never_the_end(box: DenoProcess) -> None:
    assert box.error("def f(): f()\nf()") == "RecursionError"
    assert box.error("import json\njson.loads('[' * 10**6)") == "RecursionError"
    assert box.error("a = []\nb = []\nfor _ in range(3 * 10**5): a, b = [a], [b]\na == b") == "RecursionError"
    assert box.value("1 + 1") == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.abort()", "abort()"),
    ],
)
def test_a_guest_that_ends_its_interpreter_ends_the_process_which_says_why(
    assets: DenoAssets, source: str, words: str
) -> None:
    with started(assets) as process:
        with pytest.raises(Ended) as ended:
            process.cell(source)
        status, said = ended.value.args
    assert status == EXIT_TRAPPED
    assert words in said
    assert len(said) <= 400


@pytest.mark.parametrize(
    "bytes_sent",
    [
        struct.pack("<II", 0xFFFFFFFE, 10),
        struct.pack("<II", 100, 200),
        struct.pack("<II", 6, 2) + b"{}",
        struct.pack("<II", 6, 2) + b"\xff\xff",
        protocol.render_tool_result(1, True, False, b""),
        protocol.render(protocol.Wake(results=())),
    ],
)
def test_the_first_wrong_frame_of_the_host_ends_the_process(assets: DenoAssets, bytes_sent: bytes) -> None:
    with started(assets) as process:
        process.write(bytes_sent)
        assert process.end()[0] == EXIT_BROKEN


def test_random_bytes_instead_of_frames_end_the_process(assets: DenoAssets) -> None:
    source = random.Random(5)  # noqa: S311  # repeatable, not secret
    for _ in range(3):
        with started(assets) as process:
            process.write(source.randbytes(64))
            process.close_stdin()
            assert process.end()[0] in (0, EXIT_BROKEN)


def test_the_end_of_stdin_ends_an_idle_process_quietly(assets: DenoAssets) -> None:
    with started(assets) as process:
        process.close_stdin()
        assert process.end() == (0, "")


def test_the_end_of_stdin_ends_a_guest_that_swallows_every_interrupt(assets: DenoAssets) -> None:
    with started(assets) as process:
        process.send_cell(
            "print('go', flush=True)\nwhile True:\n  try:\n    while True: pass\n  except BaseException: pass"
        )
        process.read()
        process.close_stdin()
        assert process.end()[0] in (0, EXIT_TRAPPED, EXIT_BROKEN)


def test_an_image_that_is_none_ends_the_process_before_hello(assets: DenoAssets) -> None:
    first, reader, code, *rest = assets.boot_frame(host_script().reader)
    with DenoProcess([first, reader, bytes(len(code)), *rest]) as process:
        status, words = process.end()
    assert status == EXIT_NO_GUEST
    assert "WebAssembly" in words


def test_a_guest_cannot_say_what_only_a_worker_may(box: DenoProcess) -> None:
    forged = (
        "import _host, struct\n"
        "def frame(header):\n  return struct.pack('<II', 4 + len(header), len(header)) + header\n"
        "refused = []\n"
        'for h in (b\'{"type":"done","id":1}\', b\'{"type":"ready"}\', b\'{"type":"hello"}\','
        " b'{\"type\":\"engine_limit\"}', b'x'):\n"
        "  try: _host.call(frame(h))\n  except OSError: refused.append(h)\n"
        'double = frame(b\'{"type":"result"}\') + frame(b\'{"type":"done"}\')\n'
        "try: _host.call(double)\nexcept OSError: refused.append(double)\n"
        "len(refused)"
    )
    assert box.value(forged) == 6


def test_two_processes_with_one_seed_draw_alike_and_with_two_they_do_not(assets: DenoAssets) -> None:
    drawn: list[object] = []
    for seed in ("22" * 32, "22" * 32, "33" * 32):
        with started(assets, seed=seed) as process:
            drawn.append(process.value("import os, random, uuid\n[os.urandom(8), random.random(), uuid.uuid4().hex]"))
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_realm_has_no_way_out_once_it_was_emptied() -> None:
    done = subprocess.run(
        [
            str(deno_executable()), *FLAGS[:-1], "--v8-flags=--disallow-code-generation-from-strings",
            str(ROOT / "tests" / "support" / "hardened_realm.ts"),
        ],
        env={"NO_COLOR": "1"},
        capture_output=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    outcomes: dict[str, str] = json.loads(done.stdout)
    assert len(outcomes) > 30
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "blocked"} == {}
