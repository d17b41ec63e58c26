"""The software bill of materials of an image, as CycloneDX 1.6 JSON: what is inside, from where, under which licence.

The rule: everything is read from the image itself (its manifest, the wheels' own metadata) or stands in the table below
for the pinned release of Pyodide; the same image gives the same text. A version that is not known is left out.
"""

from __future__ import annotations

import email.parser
import io
import uuid
import zipfile
from dataclasses import dataclass
from typing import Any

from .load import Image
from .manifest import Package

SPEC = "1.6"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cloche.invalid/image")
PINNED_PYODIDE = "314.0.7"
"""The release whose bundled versions the table knows; of another one only the names are told."""
_METADATA_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Something that Pyodide's build of CPython has compiled in."""

    name: str
    licence: str
    """SPDX expression."""
    url: str
    version: str = ""
    """In `PINNED_PYODIDE`; empty where neither the guest nor the release tells."""


PARTS = (
    Part("emscripten", "MIT OR NCSA", "https://github.com/emscripten-core/emscripten", "5.0.3"),
    Part("musl", "MIT", "https://musl.libc.org"),
    Part("llvm-runtimes", "Apache-2.0 WITH LLVM-exception", "https://github.com/llvm/llvm-project"),
    Part("sqlite", "blessing", "https://sqlite.org", "3.39.0"),
    Part("expat", "MIT", "https://github.com/libexpat/libexpat", "2.7.3"),
    Part("libmpdec", "BSD-2-Clause", "https://www.bytereef.org/mpdecimal/", "2.5.1"),
    Part("hacl-star", "MIT OR Apache-2.0", "https://github.com/hacl-star/hacl-star"),
    Part("mimalloc", "MIT", "https://github.com/microsoft/mimalloc"),
    Part("zlib", "Zlib", "https://zlib.net", "1.3.1"),
    Part("bzip2", "bzip2-1.0.6", "https://sourceware.org/bzip2/"),
    Part("xz", "0BSD", "https://tukaani.org/xz/"),
    Part("zstd", "BSD-3-Clause", "https://github.com/facebook/zstd", "1.5.7"),
    Part("libffi", "MIT", "https://github.com/libffi/libffi"),
)
"""The same as in THIRD_PARTY_NOTICES.md; a test asks a guest for the versions that it can tell."""


def sbom(image: Image) -> dict[str, Any]:
    """The bill of materials of this image, as a CycloneDX document."""
    facts = image.manifest
    components = [*_interpreter(image), *_libraries(facts.pyodide), _guest(facts.guest)]
    components += [_wheel(package, image) for package in facts.packages]
    components.append(_build_tool(image))
    root = f"cloche-image@{image.sha256}"
    inside = [component["bom-ref"] for component in components if component.get("scope") != "excluded"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, image.sha256)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "cloche-image",
                "version": image.sha256[:16],
                "hashes": [_sha256(image.sha256)],
                "licenses": _licences("Apache-2.0"),
                "properties": _properties(
                    {"abi": facts.abi, "booted-with-wasmtime": facts.wasmtime, "modules": str(facts.modules)}
                ),
            }
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": inside}],
    }


def _interpreter(image: Image) -> list[dict[str, Any]]:
    facts = image.manifest
    files = [
        {"type": "file", "bom-ref": f"npm:{name}", "name": name, "hashes": [_sha256(digest)]}
        for name, digest in sorted(facts.inputs.items())
        if name.startswith("pyodide/")
    ]
    return [
        _component("pyodide", facts.pyodide, "MPL-2.0", f"pkg:npm/pyodide@{facts.pyodide}", components=files),
        _component("cpython", facts.python, "PSF-2.0", f"pkg:generic/cpython@{facts.python}"),
    ]


def _libraries(pyodide: str) -> list[dict[str, Any]]:
    known = pyodide == PINNED_PYODIDE
    return [_library(part, part.version if known else "") for part in PARTS]


def _library(part: Part, version: str) -> dict[str, Any]:
    at = f"@{version}" if version else ""
    made = _component(part.name, version, part.licence, f"pkg:generic/{part.name}{at}")
    return {**made, "externalReferences": [{"type": "website", "url": part.url}]}


def _guest(digest: str) -> dict[str, Any]:
    made = _component("cloche-guest", digest[:16], "Apache-2.0", None)
    return {**made, "hashes": [_sha256(digest)]}


def _build_tool(image: Image) -> dict[str, Any]:
    """Binaryen rewrites the module and is not in it."""
    version = image.manifest.binaryen
    made = _component("binaryen", version, "Apache-2.0", f"pkg:npm/binaryen@{version}")
    files = [
        {"type": "file", "bom-ref": f"npm:{name}", "name": name, "hashes": [_sha256(digest)]}
        for name, digest in sorted(image.manifest.inputs.items())
        if name.startswith("binaryen/")
    ]
    return {**made, "scope": "excluded", "components": files}


# --- baked wheels -----------------------------------------------------------------------------------------------------


def _wheel(package: Package, image: Image) -> dict[str, Any]:
    name = package.name.lower().replace("_", "-")
    licence = _wheel_licence(package, image)
    made = _component(name, package.version, licence, f"pkg:pypi/{name}@{package.version}")
    return {**made, "hashes": [_sha256(package.sha256)], "properties": _properties({"file": package.file})}


def _wheel_licence(package: Package, image: Image) -> str:
    """What the wheel says of itself; empty if it says nothing. Its text is somebody else's: bounded and one line."""
    member = f"{package.name}-{package.version}.dist-info/METADATA"
    with zipfile.ZipFile(io.BytesIO(image.stdlib)) as archive:
        try:
            raw = archive.read(member)[:_METADATA_BYTES]
        except KeyError:
            return ""
    headers = email.parser.HeaderParser().parsestr(raw.decode("utf-8", "replace"))
    told = headers.get("License-Expression") or headers.get("License") or ""
    classifiers = [line for line in headers.get_all("Classifier") or [] if line.startswith("License ::")]
    text = told or "; ".join(line.rpartition(" :: ")[2] for line in classifiers)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


# --- pieces of the format ---------------------------------------------------------------------------------------------

_EXPRESSIONS = frozenset({part.licence for part in PARTS} | {"Apache-2.0", "MPL-2.0", "PSF-2.0"})


def _component(name: str, version: str, licence: str, purl: str | None, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": purl or f"{name}@{version}", "name": name}
    if version:
        found["version"] = version
    if licence:
        found["licenses"] = _licences(licence)
    if purl:
        found["purl"] = purl
    return {**found, **more}


def _licences(licence: str) -> list[dict[str, Any]]:
    """SPDX where we know that it is; a wheel's own words otherwise."""
    return [{"expression": licence}] if licence in _EXPRESSIONS else [{"license": {"name": licence}}]


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _properties(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"cloche:{name}", "value": value} for name, value in values.items()]
