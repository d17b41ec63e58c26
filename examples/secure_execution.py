"""What model-written code cannot do, how to choose the walls, and a log of all code that ran.

There is no unsafe mode to turn off: every cell runs in WebAssembly, by default in a locked-down process of its own.
`ENGINE=deno` takes Pyodide in Deno instead of wasmtime.
"""

from __future__ import annotations

import hashlib
import os

from _models import chosen_model, code

from cloche import CodeAgent, Hooks, Limits
from cloche.agents.hooks import CellCall

SCRIPT = [
    code("open('/etc/passwd').read()"),
    code("import socket\nsocket.create_connection(('1.1.1.1', 80), timeout=3)"),
    code("import subprocess\nsubprocess.run(['id'])"),
    code("import requests"),
    code("while True:\n    pass"),
    code("final_answer('none of it worked')"),
]


class CodeLog(Hooks):
    """Keeps a hash of each cell before it runs. It could keep the code, or veto it."""

    def __init__(self) -> None:
        self.hashes: list[str] = []

    def before_cell(self, call: CellCall) -> None:
        self.hashes.append(hashlib.sha256(call.code.encode()).hexdigest())


def main() -> None:
    log = CodeLog()
    agent = CodeAgent(
        [],
        chosen_model(SCRIPT),
        additional_authorized_imports=[],  # nothing but the standard library
        engine=os.environ.get("ENGINE", "wasmtime"),
        isolation="process",
        limits=Limits(wall_s=1, memory_mb=256),
        hooks=[log],
    )
    result = agent.run("Try to read a file, open a socket, start a program, import requests and run for ever.")
    for step, sha256 in zip(result.steps, log.hashes, strict=False):
        error = f"{step.error.type}: {step.error.message[:100]}" if step.error else "ok"
        print(f"step {step.number} sha256 {sha256[:12]} {error}")
    print("Answer:", result.output)


if __name__ == "__main__":
    main()
