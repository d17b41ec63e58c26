"""The pinned npm inputs: lock, constants and folder agree, and nothing names a host."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cloche.deno_host import HOST_DIR, find, npm
from cloche.runtime.errors import ImageError


def test_the_lock_pins_each_package_by_hash_and_names_no_host() -> None:
    text = (HOST_DIR / "deno.lock").read_text(encoding="utf-8")
    assert "://" not in text
    packages = json.loads(text)["npm"]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert f"pyodide@{npm.PYODIDE_VERSION}" in packages
    assert f"binaryen@{npm.BINARYEN_VERSION}" in packages


def test_configuration_lock_and_code_name_the_same_versions() -> None:
    imports = json.loads((HOST_DIR / "npm.json").read_text(encoding="utf-8"))["imports"]
    assert imports["pyodide"] == f"npm:pyodide@{npm.PYODIDE_VERSION}"
    assert imports["binaryen"] == f"npm:binaryen@{npm.BINARYEN_VERSION}"
    prefixes = (f"pyodide/{npm.PYODIDE_VERSION}/", f"binaryen/{npm.BINARYEN_VERSION}/")
    assert all(key.startswith(prefixes) for key in npm.PINNED)


def test_pinned_files_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path, monkeypatch)
    monkeypatch.setattr(npm, "_install", _no_network)
    monkeypatch.setattr(npm, "deno_executable", lambda: Path("deno"))
    heard: list[str] = []
    inputs = npm.fetch_inputs(tmp_path, heard.append)
    assert inputs.pyodide("pyodide.asm.wasm").read_bytes() == b"pyodide.asm.wasm"
    assert heard == []


@pytest.mark.guarantee("G41")
def test_a_file_that_is_not_the_pinned_one_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path, monkeypatch)
    next(tmp_path.glob("npm/*/binaryen/*/bin/wasm-opt")).write_bytes(b"another tool")
    monkeypatch.setattr(npm, "_install", _nothing_new)
    monkeypatch.setattr(npm, "deno_executable", lambda: Path("deno"))
    with pytest.raises(ImageError, match="are not the pinned ones; delete it"):
        npm.fetch_inputs(tmp_path, lambda _sentence: None)


def test_without_deno_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_from_wheel", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match=r"pip install 'cloche\[build\]'"):
        npm.deno_executable()


def _no_network(_deno: Path, _cache: Path) -> None:
    raise AssertionError("the network was asked")


def _nothing_new(_deno: Path, _cache: Path) -> None:
    pass


def _fill(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds each pinned file, with contents of ours."""
    pinned: dict[str, str] = {}
    for key in npm.PINNED:
        path = cache / "npm" / "some.registry" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
        pinned[key] = hashlib.sha256(path.name.encode()).hexdigest()
    monkeypatch.setattr(npm, "PINNED", pinned)
