"""What gets installed is what the root folders hold, in a wheel, from an sdist and in an editable checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from cloche.wasm_sandbox.image.deno_script import pack_scripts
from cloche.wasm_sandbox.image.store import find_image

FOLDERS = ("runtime", "wasm_sandbox", "deno_host", "agents")
BUILT = {"cloche/wasm_sandbox/image.wasm", "cloche/wasm_sandbox/deno_scripts.json"}
"""Products that a wheel may carry beside the sources: `make wheel` makes them first."""
BUILD_TIMEOUT_S = 100


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A copy of the checkout: a build in place would reuse `build/` and pack modules that were deleted since."""
    kept_out = shutil.ignore_patterns(
        "build", "dist", "*.egg-info", ".*", "__pycache__", "image.wasm*", "deno_scripts.json", "tests"
    )
    copy = tmp_path_factory.mktemp("tree") / "cloche"
    shutil.copytree(root, copy, symlinks=True, ignore=kept_out)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build_wheel(tree, tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_exactly_the_files_of_the_source_folders(tree: Path, wheel: Path) -> None:
    assert _packed(wheel) - BUILT == _sources(tree)


def test_wheel_carries_the_licences(wheel: Path) -> None:
    licences = {name.partition("/licenses/")[2] for name in zipfile.ZipFile(wheel).namelist() if "/licenses/" in name}
    assert licences == {
        "LICENSE",
        "THIRD_PARTY_NOTICES.md",
        "licenses/CPython.txt",
        "licenses/MPL-2.0.txt",
    }


def test_wheel_carries_a_built_image_and_the_sdist_does_not(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    (tmp_path / "tree" / "wasm_sandbox" / "image.wasm").write_bytes(b"\0asm stands in for the image")
    (tmp_path / "tree" / "wasm_sandbox" / "deno_scripts.json").write_bytes(b"{}")
    wheel = _build_wheel(tmp_path / "tree", tmp_path / "wheel")
    sdist = _build_sdist(tmp_path / "tree", tmp_path / "sdist")
    assert _packed(wheel) >= BUILT
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if name.endswith(("image.wasm", "deno_scripts.json"))]


def test_wheel_made_from_the_sdist_is_the_same(tree: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = _build_sdist(tree, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert _packed(_build_wheel(unpacked, tmp_path / "wheel")) == _packed(wheel)


def test_installed_wheel_imports_from_its_own_place_and_runs_its_command(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    _run("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel))
    where = "import cloche, cloche.runtime.errors as e; print(cloche.__file__, e.__file__, sep='\\n')"
    places = _run("-P", "-c", where, path=site, cwd=tmp_path).split()
    assert places == [str(site / "cloche" / "__init__.py"), str(site / "cloche" / "runtime" / "errors.py")]
    assert "exec" in _run(str(site / "bin" / "cloche"), "--help", path=site, cwd=tmp_path)


OFFLINE = """
import sys
def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        raise OSError("the network was asked")
sys.addaudithook(refuse)
import cloche
with cloche.Sandbox(engine="deno") as box:
    cell = box.run("6 * 7")
print(cell.value, cell.metadata.engine)
"""


@pytest.mark.deno
@pytest.mark.wasmtime
def test_an_installed_wheel_runs_the_engine_deno_without_network_or_tools(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    products = tmp_path / "tree" / "wasm_sandbox"
    shutil.copy(find_image(), products / "image.wasm")
    pack_scripts(products / "deno_scripts.json")
    site = tmp_path / "site"
    wheel = _build_wheel(tmp_path / "tree", tmp_path / "wheel")
    _run("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel))
    cache = tmp_path / "cache"
    assert _run("-P", "-c", OFFLINE, path=site, cwd=tmp_path, cache=cache) == "42 deno\n"
    assert not (cache / "deno-host" / "deno").exists(), "the tool that makes the scripts has run"


def test_editable_install_sees_a_new_module_at_once(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    install = (
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--quiet",
        "--ignore-installed",
    )
    _run(*install, "--prefix", str(tmp_path / "prefix"), "--editable", str(tmp_path / "tree"))
    (link,) = (tmp_path / "prefix").rglob("*.pth")
    src = tmp_path / "tree" / "src"
    assert link.read_text(encoding="utf-8").strip() == str(src)
    (tmp_path / "tree" / "runtime" / "added_later.py").write_text("ANSWER = 42\n", encoding="utf-8")
    assert _run("-P", "-c", "import cloche.runtime.added_later as m; print(m.ANSWER)", path=src, cwd=tmp_path) == "42\n"


def _sources(tree: Path) -> set[str]:
    paths = {
        path.relative_to(tree).as_posix() for folder in FOLDERS for path in (tree / folder).rglob("*") if path.is_file()
    }
    own = {path for path in (tree / "src" / "cloche").rglob("*") if path.is_file()}  # rglob does not follow the links
    paths |= {path.relative_to(tree / "src" / "cloche").as_posix() for path in own}
    return {f"cloche/{path}" for path in paths if not path.endswith("_test.ts")}


def _packed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("cloche/")}


def _build_wheel(tree: Path, out: Path) -> Path:
    _run("-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--quiet", "-w", str(out), str(tree))
    (wheel,) = out.glob("*.whl")
    return wheel


def _build_sdist(tree: Path, out: Path) -> Path:
    _run("-P", "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out), str(tree))
    (sdist,) = out.glob("*.tar.gz")
    return sdist


def _run(*arguments: str, path: Path | None = None, cwd: Path | None = None, cache: Path | None = None) -> str:
    """stdout of Python with these arguments; `path` comes before everything that is installed."""
    environ = {**os.environ, **({} if path is None else {"PYTHONPATH": str(path)})}
    if cache is not None:
        environ = {key: text for key, text in environ.items() if key != "CLOCHE_IMAGE"} | {"CLOCHE_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
