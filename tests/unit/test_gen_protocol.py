"""TypeScript learns of frames and imports from Python only: what the generator writes, and that it was run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from cloche.runtime import protocol
from cloche.wasm_sandbox.imports import ALL_IMPORTS, IN_SHIM, TRAPS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gen_protocol.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_protocol", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.deno
def test_the_generated_files_are_those_that_the_generator_writes_now() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, "")


def test_every_frame_has_an_interface_with_every_field(generator: ModuleType) -> None:
    text = generator.protocol_module()
    for kind in (*get_args(protocol.ToWorker), *get_args(protocol.FromWorker)):
        found = re.search(rf"export interface {kind.__name__} \{{\n(.*?)\n\}}", text, re.DOTALL)
        assert found is not None
        names = re.findall(r"readonly (\w+):", found[1])
        assert names == ["type", *(field.name for field in dataclasses.fields(kind))]


def test_bounds_reach_the_tables_of_the_strict_reader(generator: ModuleType) -> None:
    found = re.search(r"export const TO_WORKER: .*? = (\{.*\});\n", generator.protocol_module())
    assert found is not None
    table = json.loads(found[1])
    assert set(table) == {kind.type for kind in get_args(protocol.ToWorker)}
    assert table["cell"]["id"] == {"kind": "int", "least": 0, "below": 2**53}
    assert table["read_file"]["path"] == {"kind": "text", "longest": 4096}
    assert table["wake"]["results"]["of"]["fields"]["ok"] == {"kind": "bool"}


def test_every_import_of_the_tables_is_either_a_constant_or_handled_and_nothing_else_is(generator: ModuleType) -> None:
    constants, handled = re.findall(r" = (\{.*\}|\[.*\])(?: as const)?;\n", generator.imports_module())
    names = {*json.loads(constants), *json.loads(handled)}
    assert names == set(ALL_IMPORTS)
    assert not names & (set(TRAPS) | set(IN_SHIM))


def test_a_constant_import_answers_as_its_handler_does(generator: ModuleType) -> None:
    constants = json.loads(re.findall(r" = (\{.*\});\n", generator.imports_module())[0])
    assert constants["__syscall_socket"] == -40
    for name, value in constants.items():
        assert ALL_IMPORTS[name].handler(None, 1, 2, 3) == value


def test_an_annotation_without_a_twin_in_typescript_is_refused(generator: ModuleType) -> None:
    with pytest.raises(KeyError):
        generator._schema(bytes)
    with pytest.raises(TypeError, match="no bound"):
        generator._bound(5)
