"""The same jail for a host that is an ordinary user: the tests of test_jail.py again, and a real sandbox, as nobody."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.support.ordinary_user import NOBODY, missing_user, run_as_nobody

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="only root can become somebody else on Linux"
    ),
    pytest.mark.skipif(missing_user(NOBODY) is not None, reason=f"{missing_user(NOBODY)}"),
]

SANDBOX = """
import dataclasses, json, os, sys
from cloche import Runtime
with Runtime() as runtime, runtime.sandbox() as box:
    print(json.dumps({"uid": os.getuid(), "value": box.run("sum(range(10))").value,
                      "walls": {wall.name: wall.active for wall in runtime.walls()}}))
"""


@pytest.mark.timeout(400)
def test_every_test_of_the_jail_passes_for_an_ordinary_user(root: Path, tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(root), "-c", str(root / "pyproject.toml")]
    ran = run_as_nobody(
        root, tmp_path, "-m", "pytest", *options, f"--basetemp={tmp_path}/t", str(root / "tests/security/test_jail.py")
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout


@pytest.mark.wasmtime
def test_a_sandbox_of_an_ordinary_user_works_behind_its_walls(root: Path, tmp_path: Path) -> None:
    from cloche.wasm_sandbox.image.compile import compiled_module
    from cloche.wasm_sandbox.image.load import load_image
    from cloche.wasm_sandbox.image.store import find_image

    image = load_image(find_image())
    compiled = compiled_module(image, epochs=False).parent
    cache = tmp_path / "cache"
    shutil.copytree(compiled, cache / "compiled" / compiled.name)
    shutil.copy(image.path, tmp_path / "image.wasm")
    for path in (cache, tmp_path / "image.wasm", *cache.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    cache.chmod(0o700)

    ran = run_as_nobody(
        root, tmp_path, "-c", SANDBOX,
        CLOCHE_CACHE=str(cache), CLOCHE_IMAGE=str(tmp_path / "image.wasm"), PYTHONPATH=str(root / "src"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert (found["uid"], found["value"]) == (NOBODY, 45)
    assert found["walls"]["seccomp"]
    assert not found["walls"]["user"]
