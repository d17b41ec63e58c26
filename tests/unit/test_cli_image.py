"""`cloche image`: what it lists, checks and says, over small images of our own format."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.test_image_load import MANIFEST, image_bytes
from typer.testing import CliRunner, Result

from cloche.cli import build_app, exits
from cloche.wasm_sandbox.image import build, store
from cloche.wasm_sandbox.image.sources import guest_hash

Cloche = Callable[..., Result]


@pytest.fixture
def cloche(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloche:
    """`cloche image ...` with a cache of its own and without an image that came with the package."""
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLOCHE_IMAGE", raising=False)
    monkeypatch.setattr(store, "PACKAGED", tmp_path / "packaged.wasm")
    return lambda *arguments: CliRunner().invoke(build_app(["image"]), ["image", *map(str, arguments)])


def cached(data: bytes, name: str | None = None) -> Path:
    """An image in the cache, under the name that its contents ask for; two hours old."""
    folder = store.cache_dir() / "images"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name or hashlib.sha256(data).hexdigest()[:16]}.wasm"
    path.write_bytes(data)
    old = time.time() - 7200
    os.utime(path, (old, old))
    return path


def up_to_date() -> bytes:
    facts = {**json.loads(MANIFEST.to_json()), "guest": guest_hash()}
    return image_bytes(json.dumps(facts).encode())


def test_path_names_the_image_in_use(cloche: Cloche, tmp_path: Path) -> None:
    (tmp_path / "packaged.wasm").write_bytes(image_bytes())
    done = cloche("path")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'packaged.wasm'}\n")
    assert json.loads(cloche("path", "--json").stdout) == {"path": str(tmp_path / "packaged.wasm")}


def test_without_an_image_path_and_verify_exit_2_and_name_the_command(cloche: Cloche) -> None:
    for command in ("path", "verify"):
        done = cloche(command)
        assert done.exit_code == exits.REFUSED
        assert "cloche image build" in done.stderr
        told = json.loads(cloche(command, "--json").stdout)
        assert told["error"]["code"] == "image"


def test_list_marks_the_image_in_use_and_says_what_is_damaged(cloche: Cloche, tmp_path: Path) -> None:
    (tmp_path / "packaged.wasm").write_bytes(image_bytes())
    damaged = cached(b"\0asm but no image")
    used, other = cloche("list").stdout.splitlines()
    assert used == f"* {tmp_path / 'packaged.wasm'}  pyodide 1, 1 modules with six 1.0"
    assert other.startswith(f"  {damaged}  ")
    assert "no image of cloche" in other
    told = json.loads(cloche("list", "--json").stdout)
    assert [image["in_use"] for image in told["images"]] == [True, False]


def test_list_shows_the_image_that_the_environment_names_also_when_it_is_not_there(
    cloche: Cloche, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packaged.wasm").write_bytes(image_bytes())
    own = tmp_path / "own.wasm"
    monkeypatch.setenv("CLOCHE_IMAGE", str(own))
    missing, packaged = cloche("list").stdout.splitlines()
    assert missing.startswith(f"  {own}  the image {own} cannot be read (No such file or directory); build it again")
    assert packaged.startswith(f"  {tmp_path / 'packaged.wasm'}  ")

    own.write_bytes(up_to_date())
    used, other = cloche("list").stdout.splitlines()
    assert used == f"* {own}  pyodide 1, 1 modules with six 1.0"
    assert other == packaged


def test_prune_removes_old_images_and_keeps_the_one_in_use_and_new_ones(cloche: Cloche, tmp_path: Path) -> None:
    (tmp_path / "packaged.wasm").write_bytes(image_bytes())
    old, new = cached(up_to_date()), cached(image_bytes(), "new")
    os.utime(new)
    told = json.loads(cloche("list", "--prune", "--json").stdout)
    assert told["removed"] == [str(old)]
    assert (old.exists(), new.exists(), (tmp_path / "packaged.wasm").exists()) == (False, True, True)


def test_verify_finds_a_sound_image_a_stale_one_and_a_damaged_one(cloche: Cloche, tmp_path: Path) -> None:
    path = tmp_path / "image.wasm"
    path.write_bytes(up_to_date())
    sound = cloche("verify", path)
    assert (sound.exit_code, sound.stdout.split(",")[0]) == (0, f"{path}: sound")
    path.write_bytes(image_bytes())
    stale = cloche("verify", path, "--json")
    assert (stale.exit_code, json.loads(stale.stdout)["stale"]) == (1, True)
    path.write_bytes(up_to_date()[:-1])
    damaged = cloche("verify", path)
    assert damaged.exit_code == exits.REFUSED
    assert damaged.stderr == (
        f"cloche: {path} is damaged or no image of cloche; "
        f"build it again with `cloche image build --out {path}`, or name another\n"
    )


def test_verify_says_how_the_image_that_came_with_the_package_is_made_good(cloche: Cloche, tmp_path: Path) -> None:
    """`cloche image build` alone would not help: it builds into the cache, and the packaged one is still in use."""
    (tmp_path / "packaged.wasm").write_bytes(b"\0asm but no image")
    done = cloche("verify")
    assert done.exit_code == exits.REFUSED
    assert done.stderr.endswith("; run `make image` in a checkout, or install cloche again\n")
    (tmp_path / "packaged.wasm").write_bytes(image_bytes())
    stale = cloche("verify")
    assert (stale.exit_code, stale.stderr) == (1, "")
    assert "not this version's; run `make image` in a checkout" in stale.stdout


def test_a_build_makes_the_folder_it_is_told_to_put_a_copy_in_and_refuses_a_place_that_cannot_be(
    cloche: Cloche, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_one(_cache: Path, _wheels: object, _progress: object) -> bytes:
        return up_to_date()

    monkeypatch.setattr(build, "_assemble", write_one)

    def check_nothing(_image: object, _progress: object) -> None: ...

    monkeypatch.setattr(build, "check_image", check_nothing)
    out = tmp_path / "new" / "folder" / "image.wasm"
    done = cloche("build", "--no-compile", "--out", out)
    assert (done.exit_code, out.read_bytes()) == (0, up_to_date())
    assert out.parent.stat().st_mode & 0o777 == tmp_path.joinpath("new").stat().st_mode & 0o777

    for wrong, reason in ((out.parent, "it is a folder"), (out / "more" / "image.wasm", "Not a directory")):
        done = cloche("build", "--no-compile", "--out", wrong)
        assert done.exit_code == exits.REFUSED
        assert done.stderr == f"cloche: no image can be put at {wrong} ({reason}); name another file\n"


def test_verify_finds_a_cached_image_whose_contents_are_not_those_of_its_name(cloche: Cloche) -> None:
    done = cloche("verify", cached(up_to_date(), "0123456789abcdef"))
    assert done.exit_code == exits.REFUSED
    assert "cloche image build" in done.stderr
