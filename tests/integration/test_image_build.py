"""The pipeline from the kept results of its slow steps: the same bytes each time, packages baked in, refusals."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloche import Sandbox
from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import store
from cloche.wasm_sandbox.image.build import build_image
from cloche.wasm_sandbox.image.load import load_image, verify
from cloche.wasm_sandbox.image.manifest import Package

# Without kept results the first test takes minutes: it fetches and optimises.
pytestmark = [pytest.mark.slow, pytest.mark.deno, pytest.mark.wasmtime, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own that shares downloads and slow results with the developer's."""
    real, own = store.cache_dir(), tmp_path_factory.mktemp("cache")
    own.chmod(0o700)
    for name in ("npm", "stages"):
        (real / name).mkdir(exist_ok=True, mode=0o700)
        (own / name).symlink_to(real / name)
    return own


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(cache))
    monkeypatch.delenv("CLOCHE_IMAGE", raising=False)


def wheel(cache: Path, name: str, files: dict[str, bytes]) -> str:
    """Put a wheel where the build looks first; the line that requires it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for item, data in files.items():
            archive.writestr(zipfile.ZipInfo(item), data)
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    folder = cache / "wheels" / digest
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(out.getvalue())
    return f"{name}==1.0 --hash=sha256:{digest}\n"


def test_the_same_inputs_give_the_same_bytes_and_become_the_image_in_use(cache: Path, tmp_path: Path) -> None:
    first = build_image(progress=lambda _sentence: None)
    heard: list[str] = []
    second = build_image(tmp_path / "copy.wasm", progress=heard.append)
    assert first.read_bytes() == second.read_bytes()
    assert first.stem == hashlib.sha256(first.read_bytes()).hexdigest()[:16]
    assert store.current_image(cache) == first
    assert [sentence.partition(" ")[0] for sentence in heard] == ["starting", "image"]
    assert verify(first).sha256 == load_image(second).sha256


def test_the_command_gets_the_engine_deno_ready_and_a_sandbox_runs_on_what_it_made(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "own.wasm"
    command = [sys.executable, "-P", "-m", "cloche", "image", "build", "--engine=deno", "--no-compile", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (cache / "deno-host").iterdir() if (path / "record.json").exists())
    assert f"the scripts of the engine deno are in {folder}" in done.stderr
    monkeypatch.setenv("CLOCHE_IMAGE", str(out))
    with Sandbox(engine="deno") as box:
        cell = box.run("1 + 1")
    assert (cell.value, cell.metadata and cell.metadata.image) == (2, verify(out).sha256)


def test_a_package_is_baked_in_compiled_and_listed_without_becoming_the_default(cache: Path, tmp_path: Path) -> None:
    default = build_image(progress=lambda _sentence: None)
    line = wheel(
        cache, "tea", {"tea/__init__.py": b"PRICE = 3", "tea-1.0.dist-info/METADATA": b"Name: tea\nVersion: 1.0"}
    )
    (tmp_path / "requirements.txt").write_text(line, encoding="utf-8")
    heard: list[str] = []
    path = build_image(requirements=tmp_path / "requirements.txt", progress=heard.append)
    image = load_image(path)
    assert store.current_image(cache) == default
    assert image.manifest.packages == [Package("tea", "1.0", "tea-1.0-py3-none-any.whl", line[-65:-1])]
    with zipfile.ZipFile(io.BytesIO(bytes(image.stdlib))) as archive:
        names = [name for name in archive.namelist() if name.startswith("tea")]
    assert names == ["tea-1.0.dist-info/METADATA", "tea/__init__.py", "tea/__init__.pyc"]
    assert not any("optimise" in sentence for sentence in heard)


@pytest.mark.parametrize("module", ["json/__init__.py", "_cloche/entry.py", "zlib.py"])
def test_a_package_may_not_replace_what_the_image_has(cache: Path, tmp_path: Path, module: str) -> None:
    (tmp_path / "requirements.txt").write_text(wheel(cache, "bad", {module: b""}), encoding="utf-8")
    with pytest.raises(ImageError, match="would replace modules that the image has already"):
        build_image(requirements=tmp_path / "requirements.txt", progress=lambda _sentence: None)
