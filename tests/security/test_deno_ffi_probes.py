"""What JavaScript reaches in a sandbox with `js_ffi`: nothing of the host. One wall is not there: the others are tried.

The rule: an attack may find an API and call it; what counts is that no file, socket, process, variable or name of the
machine comes back. Nothing here depends on the realm that the host has emptied: that is an obstacle, no wall.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche import Limits, Policy, ProtocolError, Runtime, Sandbox, WallMissing, WorkerCrashed
from cloche.deno_host import find
from cloche.wasm_sandbox.image.store import cache_dir

pytestmark = [
    pytest.mark.deno,
    pytest.mark.skipif(sys.platform != "linux", reason="the engine starts its workers on Linux only"),
]
FFI = {"js_ffi": True}
SECRET = "a-canary-of-the-host"  # no password

ATTACKS = {
    "Deno reads a file": "return Deno.readTextFileSync(FILE)",
    "Deno lists a folder": "return [...Deno.readDirSync('/')].map((e) => e.name)",
    "Deno starts a program": "return new Deno.Command('/bin/sh', { args: ['-c', 'id'] }).outputSync()",
    "Deno opens a library": "return Deno.dlopen('libc.so.6', { getpid: { parameters: [], result: 'i32' } })",
    "Deno asks for permission": "return (await Deno.permissions.request({ name: 'read' })).state === 'granted'",
    "Deno has the environment": "return Deno.env.toObject()",
    "node:fs reads a file": "return (await import('node:fs')).readFileSync(FILE, 'utf8')",
    "node:fs/promises reads a file": "return await (await import('node:fs/promises')).readFile(FILE, 'utf8')",
    "node:fs writes a file": "(await import('node:fs')).writeFileSync(FILE, 'x'); return 'written'",
    "node:child_process starts a program": "return (await import('node:child_process')).execSync('id')",
    "node:process has the environment": "return (await import('node:process')).env.HOME",
    "node:process reads a file": "return (await import('node:process')).getBuiltinModule('fs').readFileSync(FILE)",
    "node:os names the machine": "return (await import('node:os')).hostname()",
    "node:os names the user": "return (await import('node:os')).userInfo()",
    "node:module requires node:fs": (
        "return (await import('node:module')).createRequire('file:///x.js')('fs').readFileSync(FILE, 'utf8')"
    ),
    "node:vm makes a context": (
        "return (await import('node:vm')).runInNewContext('typeof Deno === \"object\" && Deno.readTextFileSync(f)', "
        "{ f: FILE })"
    ),
    "node:vm runs in this context": (
        "return (await import('node:vm')).runInThisContext('Deno.readTextFileSync(' + JSON.stringify(FILE) + ')')"
    ),
    "node:v8 writes a snapshot of the heap": "return (await import('node:v8')).writeHeapSnapshot('/tmp/heap')",
    "node:sqlite opens a file": "return new (await import('node:sqlite')).DatabaseSync(FILE)",
    "node:inspector listens": "(await import('node:inspector')).open(0); return 'open'",
    "node:worker_threads has a realm of its own": """
        const { Worker } = await import('node:worker_threads');
        const worker = new Worker(`const { parentPort } = require('node:worker_threads');
            parentPort.postMessage(require('node:fs').readFileSync(${JSON.stringify(FILE)}, 'utf8'))`, { eval: true });
        return await new Promise((resolve, reject) => { worker.on('message', resolve); worker.on('error', reject); })
    """,
    "a worker has a realm of its own": """
        const source = `postMessage(Deno.readTextFileSync(${JSON.stringify(FILE)}))`;
        const worker = new Worker('data:text/javascript,' + encodeURIComponent(source), { type: 'module' });
        return await new Promise((resolve, reject) => { worker.onmessage = resolve; worker.onerror = reject; })
    """,
    "a module from text": (
        "return (await import('data:text/javascript,export default ' + "
        "encodeURIComponent(`Deno.readTextFileSync(${JSON.stringify(FILE)})`))).default"
    ),
    "a module from a file": "return await import('file://' + FILE, { with: { type: 'json' } })",
    "a module from the network": "return await import(`https://127.0.0.1:${PORT}/x.js`)",
    "a module without TLS": "return await import(`http://127.0.0.1:${PORT}/x.js`)",
    "a package of npm": "return await import('npm:left-pad@1.3.0')",
    "a package of jsr": "return await import('jsr:@std/fs@1')",
    "fetch": "return await fetch(`http://127.0.0.1:${PORT}/`)",
    "fetch of a file": "return await (await fetch('file://' + FILE)).text()",
    "a web socket": """
        const socket = new WebSocket(`ws://127.0.0.1:${PORT}/`);
        return await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; })
    """,
    "an event source": """
        const source = new EventSource(`http://127.0.0.1:${PORT}/`);
        return await new Promise((resolve, reject) => { source.onopen = resolve; source.onerror = reject; })
    """,
    "node:net connects": """
        const socket = (await import('node:net')).connect(PORT, '127.0.0.1');
        return await new Promise((resolve, reject) => { socket.on('connect', resolve); socket.on('error', reject); })
    """,
    "node:http connects": """
        const request = (await import('node:http')).get(`http://127.0.0.1:${PORT}/`);
        return await new Promise((resolve, reject) => { request.on('response', resolve); request.on('error', reject); })
    """,
    "node:dgram sends": """
        const socket = (await import('node:dgram')).createSocket('udp4');
        return await new Promise((resolve, reject) =>
            socket.send('x', PORT, '127.0.0.1', (error) => error ? reject(error) : resolve('sent')))
    """,
    "node:dns resolves": "return await (await import('node:dns/promises')).resolve4('localhost')",
}
"""Bodies of async functions, of FILE and PORT. What they return is a gain, `undefined` and `false` are none."""
SLOW = {"node:v8 writes a snapshot of the heap", "node:dgram sends", "node:dns resolves"}
"""They cost a new worker, or the seconds after which they are given up."""
ALONE_SAMPLE = {
    "Deno reads a file", "Deno starts a program", "Deno asks for permission", "Deno has the environment",
    "node:fs reads a file", "node:child_process starts a program", "node:os names the machine",
    "node:worker_threads has a realm of its own", "a module from a file", "fetch", "node:net connects",
}  # fmt: skip
"""One of each kind: the others repeat in a Deno without a jail what the jailed one was asked, half a second each."""

TRY = """
import asyncio, js
async def attempt():
    try:
        gain = await asyncio.wait_for(js.eval(source), 3)
    except BaseException as exc:
        return f"refused: {type(exc).__name__}: {exc}"
    return f"gained: {gain}" if gain else "nothing"
await attempt()
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(engine="deno", warm_workers=0) as made:
        yield made


@pytest.fixture(scope="module")
def box(runtime: Runtime) -> Iterator[Sandbox]:
    with Sandbox(runtime=runtime, engine_options=FFI, limits=Limits(wall_s=20)) as made:
        yield made


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file that any user of the machine may read."""
    path = Path("/tmp") / f"cloche-canary-{os.getpid()}"
    path.write_text(SECRET, encoding="utf-8")
    path.chmod(0o644)
    yield path
    path.unlink()


def params(names: Iterable[str], sample: Collection[str]) -> list[Any]:
    """Those outside the sample belong to `make test-all` only."""
    return [pytest.param(name, marks=[] if name in sample else pytest.mark.exhaustive) for name in names]


@pytest.mark.parametrize("name", params(ATTACKS, ATTACKS.keys() - SLOW))
def test_javascript_reaches_nothing_of_the_host(
    name: str, runtime: Runtime, box: Sandbox, listener: socket.socket, secret: Path
) -> None:
    port = listener.getsockname()[1]
    source = f"(async (FILE, PORT) => {{ {ATTACKS[name]} }})({json.dumps(str(secret))}, {port})"
    if box.closed:
        box.reset()  # an attack before this one ended the worker: a call that the jail forbids
    try:
        cell = box.run(TRY, inputs={"source": source})
    except WorkerCrashed:
        outcome = "refused: the jail ended the worker"
    else:
        outcome = str(cell.value)
    assert outcome.startswith(("refused", "nothing")), outcome
    assert SECRET not in outcome
    assert secret.read_text(encoding="utf-8") == SECRET
    with pytest.raises(BlockingIOError):
        listener.accept()


ALONE = """
try {
  const gain = await (async (FILE, PORT) => { %s })(%s, %d);
  Deno.stdout.writeSync(new TextEncoder().encode(gain ? `gained: ${gain}` : "nothing"));
} catch (error) {
  Deno.stdout.writeSync(new TextEncoder().encode(`refused: ${error?.message ?? error?.type}`));
}
Deno.exit(0);
"""


@pytest.mark.parametrize("name", params([name for name in ATTACKS if "snapshot" not in name], ALONE_SAMPLE))
def test_denos_empty_permissions_hold_without_the_jail_and_in_a_whole_realm(
    name: str, listener: socket.socket, secret: Path, tmp_path: Path
) -> None:
    """All but one: Deno asks for no permission where V8 writes a snapshot, so there the jail stands alone."""
    script = tmp_path / "attack.js"
    port = listener.getsockname()[1]
    script.write_text(ALONE % (ATTACKS[name], json.dumps(str(secret)), port), encoding="utf-8")
    command = [find.find_deno().program, *find.FFI_FLAGS, str(script)]
    done = subprocess.run(command, env=find.ENVIRONMENT, cwd="/", capture_output=True, timeout=60, check=False)
    outcome = done.stdout.decode() or "refused: an error that nobody caught"
    assert outcome.startswith(("refused", "nothing")), outcome
    assert SECRET not in outcome
    assert secret.read_text(encoding="utf-8") == SECRET
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.guarantee("G05")
@pytest.mark.parametrize(
    "source",
    [
        "new Error().stack",
        "import('ext:core/mod.js').catch((error) => error.message)",  # which names the module that asked
        "new Promise((resolve) => { const own = Error.prepareStackTrace; "
        "Error.prepareStackTrace = (_, frames) => frames.map((frame) => frame.getFileName()).join(); "
        "const text = new Error().stack; Error.prepareStackTrace = own; resolve(text); })",
    ],
)
def test_javascript_learns_no_path_of_the_host(source: str, runtime: Runtime, box: Sandbox) -> None:
    """A path has the name of the host's user in it, and where its programs lie."""
    if not {wall.name: wall.active for wall in runtime.walls(engine="deno")}["empty-root"]:
        pytest.skip("without a root of its own a worker runs where the host has its files")
    if box.closed:
        box.reset()
    said = str(box.run("import js\nawait js.eval('(async () => ' + source + ')()')", inputs={"source": source}).value)
    assert "/cloche/scripts/" in said, "it says where it runs, in the jail's own words"
    assert str(cache_dir()) not in said
    assert find.find_deno().program not in said


REPAIR = """
import js
js.eval('''
    const stub = new Proxy(function () {}, {
        get: (target, key) => key === Symbol.toPrimitive ? () => "" : key === "args" ? [] : stub,
        apply: () => stub,
        construct: () => stub,
    });
    globalThis.Deno = stub;
''')
fs = await js.eval('import("node:fs")')
"""


def test_a_guest_that_repairs_its_realm_gets_node_modules_and_still_no_file(runtime: Runtime, secret: Path) -> None:
    with Sandbox(runtime=runtime, engine_options=FFI) as box:
        cell = box.run(REPAIR + "fs.readFileSync(path, 'utf8')", inputs={"path": str(secret)})
        assert cell.error is not None
        assert "Requires read access" in cell.error.message
        cell = box.run("fs.writeFileSync(path, 'x')", inputs={"path": str(secret)})
        assert cell.error is not None
        assert secret.read_text(encoding="utf-8") == SECRET


@pytest.mark.parametrize("forged", params(["text", "done"], ["done"]))
def test_frames_that_javascript_forges_on_standard_output_end_the_worker(runtime: Runtime, forged: str) -> None:
    """A guest with JavaScript can write there, as any hostile worker can: the host believes no frame of it."""
    header = (
        b'{"type":"done","id":7,"cpu_s":0.0,"memory_bytes":1,"artifacts":[],"artifacts_dropped":0,"attachments":[]}'
    )
    frame = b"forged" if forged == "text" else struct.pack("<II", 4 + len(header), len(header)) + header
    with Sandbox(runtime=runtime, engine_options=FFI) as box:
        with pytest.raises(ProtocolError):
            box.run(REPAIR + "from pyodide.ffi import to_js\nfs.writeSync(1, to_js(frame))", inputs={"frame": frame})
        assert box.closed


def test_a_policy_that_wants_no_javascript_refuses_js_ffi_and_takes_the_default_engine() -> None:
    with Runtime(engine="deno", policy=Policy(require_walls={"no-javascript"}), warm_workers=0) as runtime:
        with pytest.raises(WallMissing, match="no-javascript"):
            Sandbox(runtime=runtime, engine_options=FFI)
        with Sandbox(runtime=runtime) as box:
            assert box.run("1 + 1").value == 2


def test_the_walls_say_that_javascript_is_reachable_and_what_remains(runtime: Runtime, box: Sandbox) -> None:
    walls = {wall.name: wall for wall in runtime.walls(engine="deno", engine_options=FFI)}
    assert not walls["no-javascript"].active
    assert "empty permissions and the jail" in walls["no-javascript"].why
    assert not walls["wasm"].active
    for name in ("deno-permissions", "process", "seccomp", "landlock", "empty-root", "network-namespace", "rlimits"):
        assert walls[name].active, walls[name]
    assert {wall.name: wall.active for wall in runtime.walls(engine="deno")}["no-javascript"]
