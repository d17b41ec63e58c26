"""`cloche image`: build the image of the sandbox, list what is cached, verify it, say where it is."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ..runtime.errors import ClocheError, ConfigError
from ..wasm_sandbox.image import compile as compiled
from ..wasm_sandbox.image import store
from ..wasm_sandbox.image.load import Image, load_image, verify
from ..wasm_sandbox.image.sources import guest_hash
from .exits import REFUSED
from .failures import complain

app = typer.Typer(no_args_is_help=True, help="The prepared interpreter that every sandbox starts from.")

_NEW_S = 600
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def build(
    requirements: Annotated[
        Path | None,
        typer.Option("--with", help="Bake in the hash-pinned pure-Python wheels of this requirements file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Put a copy of the image here; missing folders are made.")
    ] = None,
    compile_now: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile it for this machine as well.")
    ] = True,
    engine: Annotated[
        Literal["wasmtime", "deno"], typer.Option(help="deno: make the scripts of that engine's host as well.")
    ] = "wasmtime",
    as_json: Json = False,
) -> None:
    """Build the image from its pinned sources. Two minutes the first time, seconds after that."""
    try:
        from ..wasm_sandbox.image.build import build_image

        path = build_image(out, requirements, _progress)
        image = load_image(path)
        if compile_now:
            for epochs in (False, True):
                compiled.compiled_module(image, epochs, _progress)
        if engine == "deno":
            prepare_deno(image)
    except ClocheError as exc:
        _fail(exc, as_json)
    text = str(path)
    if not _is_used(image):
        text += f"\nanother image is in use; to use this one: export CLOCHE_IMAGE={path}"
    _print(_described(image), text, as_json)


@app.command("list")
def list_(
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove images and compiled modules that are not in use.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the images and compiled modules in the cache."""
    try:
        cache = store.cache_dir()
        removed = [str(path) for path in _prune(cache)] if prune else []
        current = _used()
        images = [{**_summary(path), "in_use": path == current} for path in _known_images(cache)]
        entries = compiled.entries(cache)
    except ClocheError as exc:
        _fail(exc, as_json)
    lines = [f"removed {path}" for path in removed]
    lines += [f"{'*' if image['in_use'] else ' '} {image['path']}  {image['about']}" for image in images]
    lines += [f"  {entry.path}  {entry.size / 1e6:.0f} MB  {entry.problem or 'sound'}" for entry in entries]
    modules = [dataclasses.asdict(entry) | {"path": str(entry.path)} for entry in entries]
    _print({"cache": str(cache), "images": images, "compiled": modules, "removed": removed}, "\n".join(lines), as_json)


@app.command("verify")
def verify_(
    path: Annotated[Path | None, typer.Argument(help="An image; without it the one in use.")] = None,
    as_json: Json = False,
) -> None:
    """Check an image and its compiled modules byte by byte."""
    try:
        image = verify(path or store.find_image())
        damaged = [e for e in compiled.entries(store.cache_dir()) if e.problem and e.image == image.sha256]
    except ClocheError as exc:
        _fail(exc, as_json)
    stale = image.manifest.guest != guest_hash()
    lines = [f"{image.path}: sound, sha256 {image.sha256}"]
    lines += [f"{entry.path} {entry.problem}; it will be compiled again" for entry in damaged]
    if stale:
        lines.append(f"its guest package is not this version's; {store.remedy(image.path)}")
    _print({**_described(image), "stale": stale, "damaged": [str(e.path) for e in damaged]}, "\n".join(lines), as_json)
    if stale or damaged:
        raise typer.Exit(1)


@app.command("sbom")
def sbom_(
    path: Annotated[Path | None, typer.Argument(help="An image; without it the one in use.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file.")] = None,
) -> None:
    """Print the image's bill of materials: parts, versions, licences and hashes, as CycloneDX JSON."""
    from ..wasm_sandbox.image.sbom import sbom

    try:
        text = json.dumps(sbom(load_image(path or store.find_image())), indent=1)
        if out is not None:
            _write(out, text + "\n")
    except ClocheError as exc:
        _fail(exc, False)
    if out is None:
        typer.echo(text)


@app.command("path")
def path_(as_json: Json = False) -> None:
    """Print where the image in use is."""
    try:
        path = store.find_image()
    except ClocheError as exc:
        _fail(exc, as_json)
    _print({"path": str(path)}, str(path), as_json)


def prepare_deno(image: Image) -> None:
    """What a first worker of the engine "deno" would have to wait for; both engines run the same image.

    Raises:
        ImageError: the image does not suit it, or Deno is missing.
    """
    from ..wasm_sandbox.image.deno_assets import deno_assets
    from ..wasm_sandbox.image.deno_script import host_script

    deno_assets(image)
    _progress(f"the scripts of the engine deno are in {host_script().main.parent}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc


def _described(image: Image) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(image.manifest.to_json())
    return {"path": str(image.path), "sha256": image.sha256, "manifest": facts}


def _summary(path: Path) -> dict[str, Any]:
    try:
        image = load_image(path)
    except ClocheError as exc:
        return {"path": str(path), "sha256": None, "about": str(exc)}
    facts = image.manifest
    packages = "".join(f" {package.name} {package.version}" for package in facts.packages)
    return {
        "path": str(path),
        "sha256": image.sha256,
        "about": f"pyodide {facts.pyodide}, {facts.modules} modules{packages and ' with' + packages}",
    }


def _known_images(cache: Path) -> list[Path]:
    """The one that `CLOCHE_IMAGE` names, the packaged one and those in the cache; each once."""
    chosen = os.environ.get("CLOCHE_IMAGE")
    packaged = [store.PACKAGED] if store.PACKAGED.is_file() else []
    return list(dict.fromkeys([*([Path(chosen)] if chosen else []), *packaged, *store.images(cache)]))


def _used() -> Path | None:
    try:
        return store.find_image()
    except ClocheError:
        return None


def _is_used(image: Image) -> bool:
    used = _used()
    return used is not None and load_image(used).sha256 == image.sha256


def _prune(cache: Path) -> list[Path]:
    """Remove every cached image but the one in use and the new ones (a build may be checking them); their code too."""
    used, old = _used(), time.time() - _NEW_S
    gone = [path for path in store.images(cache) if path != used and path.stat().st_mtime < old]
    for path in gone:
        path.unlink()
    known = [_summary(path)["sha256"] for path in _known_images(cache)]  # None for one that is damaged
    return gone + compiled.prune(cache, {digest for digest in known if digest})


def _progress(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _print(data: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)


def _fail(error: ClocheError, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"error": {"code": error.code, "message": str(error)}}))
    else:
        complain(error)
    raise typer.Exit(REFUSED)
