"""The bill of materials: complete, in the format, the same for the same image, true of the guest."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import cast

import pytest

from cloche import Sandbox
from cloche.wasm_sandbox.image.load import Image, load_image
from cloche.wasm_sandbox.image.manifest import FORMAT, Manifest, Package
from cloche.wasm_sandbox.image.sbom import PARTS, PINNED_PYODIDE, sbom
from cloche.wasm_sandbox.image.store import find_image

INPUTS = {"pyodide/314.0.7/pyodide.asm.wasm": "a" * 64, "binaryen/132.0.0/bin/wasm-opt": "b" * 64}


def image(metadata: str = "Name: six\nLicense: MIT\n", pyodide: str = PINNED_PYODIDE) -> Image:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("six-1.0.dist-info/METADATA", metadata)
    manifest = Manifest(
        format=FORMAT, pyodide=pyodide, python="3.14.2", binaryen="132.0.0", wasmtime="50.0.1", guest="c" * 64,
        lock="d" * 64, abi="2026_0", scratch=16, interrupt=24, buffer=32, buffer_bytes=65536, memory_pages=1,
        exports=[], inputs=INPUTS, preloaded=[], modules=7,
        packages=[Package("six", "1.0", "six-1.0-py3-none-any.whl", "e" * 64)],
    )  # fmt: skip
    return Image(Path("image.wasm"), "f" * 64, manifest, memoryview(b""), memoryview(archive.getvalue()))


def by_name(of: Image) -> dict[str, dict[str, object]]:
    return {component["name"]: component for component in sbom(of)["components"]}


def test_the_same_image_gives_the_same_text_and_another_another_serial_number() -> None:
    assert json.dumps(sbom(image())) == json.dumps(sbom(image()))
    other = Image(Path("x"), "0" * 64, image().manifest, memoryview(b""), image().stdlib)
    assert sbom(other)["serialNumber"] != sbom(image())["serialNumber"]


def test_every_component_has_a_name_a_licence_and_a_reference_of_its_own() -> None:
    document = sbom(image())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["serialNumber"])
    references = [component["bom-ref"] for component in document["components"]]
    assert len(set(references)) == len(references)
    assert all(component["licenses"] for component in document["components"])
    assert set(document["dependencies"][0]["dependsOn"]) == set(references) - {"pkg:npm/binaryen@132.0.0"}


def test_inputs_wheels_and_the_guest_stand_with_their_hashes() -> None:
    found = by_name(image())
    (wasm,) = cast("list[dict[str, object]]", found["pyodide"]["components"])
    assert wasm["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert found["six"]["hashes"] == [{"alg": "SHA-256", "content": "e" * 64}]
    assert found["six"]["purl"] == "pkg:pypi/six@1.0"
    assert found["cloche-guest"]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert found["binaryen"]["scope"] == "excluded"


def test_the_licence_of_a_wheel_is_its_own_words_on_one_bounded_line() -> None:
    assert by_name(image())["six"]["licenses"] == [{"expression": "MIT"}]
    hostile = by_name(image("License: \x1b[2J" + "x" * 5000 + "\n"))["six"]["licenses"]
    assert hostile == [{"license": {"name": ("[2J" + "x" * 5000)[:200]}}]
    assert "licenses" not in by_name(image("Name: six\n"))["six"]
    classified = by_name(image("Classifier: License :: OSI Approved :: BSD License\n"))["six"]["licenses"]
    assert classified == [{"license": {"name": "BSD License"}}]


def test_of_another_pyodide_only_the_names_of_its_libraries_are_told() -> None:
    assert by_name(image())["sqlite"]["version"] == "3.39.0"
    assert "version" not in by_name(image(pyodide="999"))["sqlite"]


def test_the_notices_name_every_part_with_its_licence(root: Path) -> None:
    notices = (root / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8").lower()
    urls = [part.url for part in PARTS if part.url.lower() not in notices]
    assert urls == []


@pytest.mark.wasmtime
@pytest.mark.guarantee("G43")
def test_the_versions_in_the_table_are_those_that_a_guest_tells() -> None:
    code = """
import decimal, pyexpat, sqlite3, sys, zlib
from compression import zstd
{"emscripten": ".".join(map(str, sys._emscripten_info.emscripten_version)), "sqlite": sqlite3.sqlite_version,
 "expat": pyexpat.EXPAT_VERSION.removeprefix("expat_"), "libmpdec": decimal.__libmpdec_version__,
 "zlib": zlib.ZLIB_RUNTIME_VERSION, "zstd": zstd.zstd_version}
"""
    with Sandbox(isolation="thread") as box:
        told = box.run(code).value
    assert told == {part.name: part.version for part in PARTS if part.version}


@pytest.mark.wasmtime
def test_the_command_prints_the_bill_of_the_image_in_use(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "cloche", "image", "sbom"]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert json.loads(printed) == sbom(load_image(find_image()))
    out = tmp_path / "sbom.json"
    subprocess.run([*command, "--out", str(out)], capture_output=True, check=True, timeout=60)
    assert out.read_bytes() == printed


@pytest.mark.wasmtime
def test_a_bill_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "sbom.json"
    command = [sys.executable, "-P", "-m", "cloche", "image", "sbom", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"cloche: {out} cannot be written: No such file or directory\n"
