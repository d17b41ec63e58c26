"""Builds an image: fetch, link, boot, precompile, boot again, preload, gather, freeze, scrub, bake, add our sections.

Each slow step is kept by the hash of its inputs, so a change of the guest's Python or of the baked packages repeats
only the last ones (about ten seconds). The same inputs give the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...deno_host import npm
from ...runtime.errors import ImageError
from ..engine import BUFFER_AT, INTERRUPT_AT
from ..host_calls import SCRATCH_BYTES
from ..pinned import WASMTIME
from . import archive, bake, boot, rewrite, scrub, wasm
from .boot import Interpreter, Snapshot, on_guest_thread
from .check import check_image
from .compile import compile_cached
from .holes import fill_holes
from .link import ENGINE_EXPORTS, Linked, link
from .load import load_image
from .manifest import FORMAT, Manifest, Package
from .sections import MANIFEST_SECTION, STDLIB_SECTION
from .sources import HERE, guest_hash, guest_package, own_source, sha256_file
from .stages import Progress, Stages, write_atomically
from .store import CURRENT, cache_dir
from .wheels import Wheel, fetch_wheels


@dataclass(frozen=True, slots=True)
class _Build:
    """What the steps of one build share."""

    inputs: npm.NpmInputs
    stages: Stages
    linked: Linked
    compiled: Path
    """Machine code of the module that is not baked yet."""
    guest: dict[str, bytes]
    """The guest's own package, read once."""
    progress: Progress


def build_image(out: Path | None = None, requirements: Path | None = None, progress: Progress = print) -> Path:
    """Build an image and return where it is.

    Args:
        out: a copy goes here. In any case the image is in the cache, and becomes the one in use unless it has packages.
        requirements: hash-pinned pure-Python wheels to bake in.
        progress: hears one sentence per step.

    Raises:
        ImageError: an input cannot be fetched or is refused, or a step failed.
    """
    if out is not None:
        _make_folder_of(out)  # before minutes of work for nothing
    cache = cache_dir()
    wheels = fetch_wheels(requirements, cache / "wheels", progress) if requirements else []
    image = on_guest_thread(lambda: _assemble(cache, wheels, progress))
    folder = cache / "images"
    path = folder / f"{hashlib.sha256(image).hexdigest()[:16]}.wasm"
    write_atomically(path, image)
    check_image(load_image(path), progress)
    if not wheels:
        write_atomically(folder / CURRENT, path.name.encode())
    if out is not None:
        write_atomically(out, image, mode=0o644)
    progress(f"image {path.stem}: {len(image) / 1e6:.1f} MB")
    return out or path


def _make_folder_of(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
    except OSError as exc:
        raise ImageError(f"no image can be put at {out} ({exc.strerror}); name another file") from exc


def build_untuned(out: Path, progress: Progress = print) -> None:
    """The same image without allocator and optimisation, to measure these against. Only at `out`: nothing uses it."""
    image = on_guest_thread(lambda: _assemble(cache_dir(), [], progress, tuned=False))
    write_atomically(out, image)
    check_image(load_image(out), progress)


def _assemble(cache: Path, wheels: list[Wheel], progress: Progress, *, tuned: bool = True) -> bytes:
    inputs = npm.fetch_inputs(cache / "npm", progress)
    stages = Stages(cache / "stages", progress)
    linked = link(inputs, stages, tuned=tuned)
    compiled = compile_cached(linked.module.data, linked.module.sha256, False, progress)
    build = _Build(inputs, stages, linked, compiled, guest_package(), progress)
    files = _archive_files(build, wheels)
    packed = archive.pack(files)
    progress("starting the interpreter and taking its snapshot")
    snapshot, base, preloaded = _snapshot(build, packed)
    module = _baked(linked, snapshot)
    manifest = _manifest(build, snapshot, base, preloaded, files, wheels)
    sections = [
        *wasm.parse(module),
        wasm.custom(MANIFEST_SECTION, manifest.to_json()),
        wasm.custom(STDLIB_SECTION, packed),
    ]
    return wasm.build(sections)


# --- the archive ------------------------------------------------------------------------------------------------------


def _archive_files(build: _Build, wheels: list[Wheel]) -> dict[str, bytes]:
    """Everything that can be imported, with compiled forms."""
    packed = build.inputs.pyodide("python_stdlib.zip").read_bytes()
    plain = archive.stdlib_sources(packed)
    stdlib = _compiled(build, "standard library", plain, plain)
    ours = build.guest
    guest = _compiled(build, "guest package", ours, plain)
    packages: dict[str, bytes] = {}
    reserved = {name.partition("/")[0].removesuffix(".py") for name in (*plain, *ours)} | set(sys.stdlib_module_names)
    for wheel in wheels:
        clash = sorted(wheel.top_level & reserved)
        if clash:
            raise ImageError(f"{wheel.file} would replace modules that the image has already: {', '.join(clash)}")
        packages |= _compiled(build, f"package {wheel.name}", wheel.files, plain)
    natives = _native_packages(build.inputs).encode("utf-8")
    return {**stdlib, **guest, **packages, archive.NATIVE_LIST: natives}


def _compiled(build: _Build, name: str, files: Mapping[str, bytes], stdlib: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with their .pyc, kept by hash. `stdlib` (sources) is what the compiling interpreter itself runs on."""

    def make() -> bytes:
        interpreter = Interpreter(build.compiled, build.linked, archive.pack(stdlib))
        try:
            return archive.pack(archive.with_compiled(interpreter, files))
        finally:
            interpreter.close()

    inputs = {
        "files": hashlib.sha256(archive.pack(files)).hexdigest(),
        "stdlib": sha256_file(build.inputs.pyodide("python_stdlib.zip")),
        "module": build.linked.module.sha256,
        "code": own_source("archive.py", "boot.py", "guest_compile.py"),
    }
    return archive.unpack(build.stages.run(f"compiled {name}".replace(" ", "-"), inputs, make).data)


def _native_packages(inputs: npm.NpmInputs) -> str:
    """`import name<TAB>package<TAB>version` of each package that Pyodide has as a native wheel, from its lock."""
    lock = json.loads(inputs.pyodide("pyodide-lock.json").read_bytes())
    lines: set[str] = set()
    for package in lock["packages"].values():
        if "wasm32" in package["file_name"]:
            lines.update(f"{name}\t{package['name']}\t{package['version']}\n" for name in package["imports"])
    return "".join(sorted(lines))


# --- the snapshot -----------------------------------------------------------------------------------------------------


def _snapshot(build: _Build, packed: bytes) -> tuple[Snapshot, int, list[str]]:
    """State after preloading, the shim's address, the names of the loaded modules."""
    interpreter = Interpreter(build.compiled, build.linked, packed)
    modules = [name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in build.guest]
    preloaded: list[str] = []
    reports: list[bytes] = []

    def answer(message: bytes) -> bytes:
        if message == b"guest modules":
            return " ".join(modules).encode()
        if not message.startswith(b"preloaded"):
            raise ImageError("the guest's runner made a host call while it was installed")
        preloaded.extend(message.removeprefix(b"preloaded").decode().split("\n"))
        return b""

    def take(message: bytes) -> bytes:
        reports.append(message)
        return b""

    try:
        for name in ("guest_preload.py", "guest_busy.py"):
            interpreter.run(_script(name), answer)
        fill_holes(interpreter)
        for name in ("guest_gather.py", "guest_install.py"):
            interpreter.run(_script(name), answer)
        fill_holes(interpreter)
        snapshot, base, low = interpreter.snapshot(), interpreter.base, interpreter.stack_end
        interpreter.run(_script("guest_report.py"), take)
    finally:
        interpreter.close()
    scrub.scrub_stack(snapshot.memory, low, snapshot.values["__stack_pointer"])
    scrub.scrub_allocator(snapshot.memory, base + boot.ALLOCATOR_AT)
    scrub.make_immortal(snapshot.memory, reports[0])
    scrub.load_immortals(snapshot.memory, *reports)
    snapshot.memory[base : base + boot.REFUSAL_AT] = bytes(boot.REFUSAL_AT)  # pointers and the last message
    return snapshot, base, preloaded


def _script(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _baked(linked: Linked, snapshot: Snapshot) -> bytes:
    numbers = rewrite.mutable_globals(linked.module.data)
    module = bake.bake(
        linked.module.data, snapshot.memory, {number: snapshot.values[n] for n, number in numbers.items()}
    )
    return rewrite.prune_exports(module, ENGINE_EXPORTS, mutable=False)


def _manifest(
    build: _Build, snapshot: Snapshot, base: int, preloaded: list[str], files: Mapping[str, bytes], wheels: list[Wheel]
) -> Manifest:
    lock = build.inputs.pyodide("pyodide-lock.json")
    info = json.loads(lock.read_bytes())["info"]
    return Manifest(
        format=FORMAT,
        pyodide=npm.PYODIDE_VERSION,
        python=info["python"],
        binaryen=npm.BINARYEN_VERSION,
        wasmtime=WASMTIME,
        guest=guest_hash(build.guest),
        lock=sha256_file(lock),
        abi=info["abi_version"],
        scratch=base,
        interrupt=base + INTERRUPT_AT,
        buffer=base + BUFFER_AT,
        buffer_bytes=SCRATCH_BYTES,
        memory_pages=len(snapshot.memory) // bake.PAGE,
        exports=list(ENGINE_EXPORTS),
        inputs=dict(npm.PINNED),
        preloaded=preloaded,
        modules=sum(name.endswith(".pyc") for name in files),
        packages=[Package(wheel.name, wheel.version, wheel.file, wheel.sha256) for wheel in wheels],
    )
