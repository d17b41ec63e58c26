"""What a process loads from its start to its first result: the heavy part of the standard library stays out."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.wasmtime

HEAVY = {"ast", "concurrent.futures", "dataclasses", "dis", "inspect", "logging", "mimetypes", "platform", "shutil"}
"""Each costs a start 2 to 12 ms. `runtime.lazy` and `runtime.plain` keep them out."""
OF_THE_ENGINE = {"_hashlib", "cloche.wasm_sandbox.capi", "ctypes"}
"""In process isolation the host never loads wasmtime."""
SCRIPT = """
import sys
from cloche import Sandbox
with Sandbox(isolation={!r}) as box:
    assert box.run("1+1").value == 2
print(*sys.modules)
"""


@pytest.mark.parametrize(("isolation", "absent"), [("thread", HEAVY), ("process", HEAVY | OF_THE_ENGINE)])
def test_the_way_to_a_first_result_needs_no_heavy_module(isolation: str, absent: set[str]) -> None:
    def loaded(code: str) -> set[str]:
        ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True, text=True)
        return set(ran.stdout.split())

    here = loaded("import sys; print(*sys.modules)")  # what `.pth` files of this environment load
    assert loaded(SCRIPT.format(isolation)) & (absent - here) == set()
