"""Runs inside the guest while an image is built: compiles sources that the host hands over, one by one.

Only the interpreter that will load a .pyc can write it. The host answers `_host.call(b"next")` with a path, a zero byte
and the source, or with nothing at the end; each result goes back as "done", path, zero byte, pyc.
"""

import importlib.util
import marshal  # noqa: TID251  # the format of a .pyc; the host never reads it
from importlib import import_module

_host = import_module("_host")

_HASH_BASED_UNCHECKED = 1


def _pyc(path: str, source: bytes) -> bytes:
    """The file's contents; empty for a source that is no valid module (some packages ship templates)."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return b""
    key = importlib.util.source_hash(source)
    header = importlib.util.MAGIC_NUMBER + _HASH_BASED_UNCHECKED.to_bytes(4, "little") + key
    return header + marshal.dumps(code)


def _compile_all() -> None:
    while request := _host.call(b"next"):
        path, _, source = request.partition(b"\0")
        _host.call(b"done" + path + b"\0" + _pyc(path.decode(), source))


_compile_all()
