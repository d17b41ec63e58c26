"""What the soak runs: good cells whose answer the host knows, and hostile cells with the ends that they may have.

The rule: a cell that ends in any other way than its row allows is a finding. Good cells say first, by a tool, that they
run; so the host knows how often each was executed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from cloche import Limits

GOOD_LIMITS = Limits(wall_s=60.0, cpu_s=60.0, memory_mb=96)
"""A deadline that a busy machine does not miss: a good cell takes milliseconds."""
HOSTILE_LIMITS = Limits(
    wall_s=0.4, cpu_s=5.0, memory_mb=96, output_bytes=64 * 1024, tool_calls=200, files=50, file_bytes=1 << 20
)


@dataclass(frozen=True, slots=True)
class GoodCell:
    """One cell and its only right answer."""

    code: str
    answer: object


def good_cell(number: int, secret: str, rng: random.Random) -> GoodCell:
    """The cell with this number in its sandbox. Its answer needs the state of all cells before it.

    `mark` counts the execution on the host before anything else happens, `number` in the answer counts it in the guest.
    """
    size, factor = rng.randint(10, 3000), rng.randint(2, 9)
    first = f"ran, secret = 0, {secret!r}" if number == 0 else f"assert secret == {secret!r}"
    code = f"""
mark({number})
{first}
ran += 1
data = [n * {factor} for n in range({size})]
[ran, sum(data), double({size}), sorted(set(str(data)))[:3], secret]
"""
    data = [n * factor for n in range(size)]
    return GoodCell(code, [number + 1, sum(data), size * 2, sorted(set(str(data)))[:3], secret])


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile cell."""

    code: str
    ends: frozenset[str]
    """Ways in which it may end: names of errors, "cell" for a cell without an error, "cell:X" for one with an error X
    of the guest. Each may also miss its short deadline on a busy machine (`TimedOut`)."""


FRAMES = """
import _host, json, marshal, struct

def made(header, *parts):
    raw = json.dumps({**header, "attachments": [len(part) for part in parts]}, separators=(",", ":")).encode()
    body = struct.pack("<I", len(raw)) + raw + b"".join(parts)
    return struct.pack("<I", len(body)) + body

def value(x): return b"\\0" + marshal.dumps(x, 2)

def say(frame):
    try: return _host.call(frame)
    except OSError as exc: return b""
"""
SECRET_CALL = "made({'type': 'tool_call', 'id': 1000, 'name': 'secret'}, value([[], {}]))"
DONE = "{'type': 'done', 'id': 0, 'cpu_s': 0.0, 'memory_bytes': 0, 'artifacts': [], 'artifacts_dropped': 0}"


def _ends(*names: str) -> frozenset[str]:
    return frozenset((*names, "TimedOut"))


ATTACKS: dict[str, Attack] = {
    "endless loop": Attack("while True: pass", _ends()),
    "endless C loop": Attack("sum(iter(int, 1))", _ends()),
    "swallowed interrupt": Attack(
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass", _ends("WorkerCrashed")
    ),
    "sleep": Attack("import time; time.sleep(100)", _ends()),
    "memory": Attack("x = []\nwhile True: x.append(bytearray(8 << 20))", _ends("cell:MemoryError")),
    "output flood": Attack("for _ in range(40): print('x' * 100_000)", _ends("cell")),
    "terminal escapes": Attack("print('\\x1b]0;pwned\\x07\\x1b[2J' * 100); '\\x1b[2J'", _ends("cell")),
    "exit": Attack("import os; os._exit(0)", _ends("WorkerCrashed")),
    "abort": Attack("import os; os.abort()", _ends("WorkerCrashed")),
    "recursion": Attack("def f(): return f()\nf()", _ends("cell:RecursionError")),
    "files": Attack("for n in range(1000): open(f'/tmp/{n}', 'w').write('x')", _ends("cell:OSError")),
    "threads": Attack("import threading\nthreading.Thread(target=print).start()", _ends("cell:RuntimeError")),
    "process": Attack("import os; os.system('id'); os.fork()", _ends("cell:OSError", "cell:AttributeError")),
    "host file": Attack("open('/etc/passwd').read()", _ends("cell:FileNotFoundError")),
    "network": Attack(
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)", _ends("cell:OSError", "cell:gaierror")
    ),
    "tool flood": Attack("for n in range(1000): double(n)", _ends("cell:ToolError", "LimitExceeded")),
    "wrong arguments": Attack("double([{}] * 10, x=1)", _ends("cell:TypeError", "cell:ToolError")),
    "unknown tool": Attack("secret()", _ends("cell:NameError")),
    "forged call of a tool that was not granted": Attack(f"{FRAMES}say({SECRET_CALL}); 0", _ends("cell")),
    "forged end": Attack(f"{FRAMES}say(made({DONE})); 0", _ends("cell")),
    "forged frame": Attack(
        f"{FRAMES}say(made({{'type': 'output', 'stream': 'log'}}, b'x')); 0", _ends("ProtocolError")
    ),
    "huge frame": Attack(
        f"{FRAMES}say(made({{'type': 'output', 'stream': 'stdout'}}, bytes(60 << 20))); 0",
        _ends("FrameTooLarge", "ProtocolError", "cell:MemoryError"),
    ),
    "calls that nobody waits for": Attack(
        f"{FRAMES}for n in range(40_000): say(made({{'type': 'tool_start', 'id': n, 'name': 'x'}}, value([[], {{}}])))",
        _ends("ProtocolError"),
    ),
    "lying repr": Attack("class X:\n  def __repr__(self):\n    while True: pass\nX()", _ends()),
}
