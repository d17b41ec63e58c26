"""The Deno host's scripts in the cache: made once, checked before each use, made anew after a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.deno_host import HOST_DIR
from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import deno_script
from cloche.wasm_sandbox.image.deno_script import RECORD, HostScript, host_script, pack_scripts

pytestmark = pytest.mark.deno


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostScript:
    """Scripts in a cache of their own."""
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    return host_script()


def forbid_making(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_sources: object) -> dict[str, bytes]:
        raise AssertionError("made again")

    monkeypatch.setattr(deno_script, "_stripped", refuse)


def test_every_module_of_the_host_is_there_without_types_and_no_test_is(made: HostScript) -> None:
    scripts = {path.stem for path in made.main.parent.glob("*.js")}
    sources = {path.stem for path in HOST_DIR.glob("*.ts")}
    assert scripts == {name for name in sources if not name.endswith(("_test", ".d"))} - {"strip_types"}
    assert "interface" not in made.main.read_text(encoding="utf-8")
    assert '.ts"' not in made.main.read_text(encoding="utf-8")


def test_the_second_time_they_are_taken_from_the_cache(made: HostScript, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_making(monkeypatch)
    assert host_script() == made


def test_a_script_that_was_changed_is_not_used(made: HostScript) -> None:
    good = made.main.read_bytes()
    made.main.write_bytes(good + b"\n// changed")
    assert host_script() == made
    assert made.main.read_bytes() == good


def test_scripts_without_a_record_are_not_used(made: HostScript, monkeypatch: pytest.MonkeyPatch) -> None:
    made.main.with_name(RECORD).unlink()
    forbid_making(monkeypatch)
    with pytest.raises(AssertionError, match="made again"):
        host_script()


def test_the_scripts_of_a_wheel_are_used_where_they_are_of_the_same_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOCHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(deno_script, "PACKAGED", tmp_path / "packaged.json")
    pack_scripts(tmp_path / "packaged.json")
    forbid_making(monkeypatch)
    assert "serve(" in host_script().main.read_text(encoding="utf-8")
    sources = deno_script._sources()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(deno_script, "_sources", lambda: {**sources, "main.ts": b"// another"})
    with pytest.raises(AssertionError, match="made again"):
        host_script()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sources": 1}', b'{"sources": "x", "scripts": []}'])
def test_a_damaged_file_of_a_wheel_is_not_used(
    made: HostScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(deno_script, "PACKAGED", tmp_path / "packaged.json")
    (tmp_path / "packaged.json").write_bytes(content)
    made.main.with_name(RECORD).unlink()
    assert host_script() == made


def test_a_folder_that_others_can_write_is_not_used(made: HostScript) -> None:
    made.main.parent.chmod(0o777)
    with pytest.raises(ImageError, match="delete it"):
        host_script()


def test_a_change_of_the_sources_makes_new_scripts(made: HostScript, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = deno_script._sources()  # pyright: ignore[reportPrivateUsage]
    changed = {**sources, "main.ts": sources["main.ts"] + b"\n"}
    monkeypatch.setattr(deno_script, "_sources", lambda: changed)
    assert host_script().main != made.main
