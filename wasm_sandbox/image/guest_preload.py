"""Runs inside the guest while an image is built, before guest_install.py: imports what cells and the runner need."""

import importlib

_host = importlib.import_module("_host")

_MODULES = (
    "abc", "ast", "asyncio", "base64", "bisect", "builtins", "calendar", "codeop", "collections.abc", "contextlib",
    "contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools",
    "hashlib", "heapq", "html", "inspect", "io", "itertools", "json", "keyword", "linecache", "marshal", "math",
    "numbers", "operator", "pathlib", "pprint", "random", "re", "secrets", "statistics", "string", "struct",
    "tempfile", "textwrap", "time", "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid", "warnings",
    "weakref", "zlib", "encodings.ascii", "encodings.idna", "encodings.latin_1",
)  # fmt: skip

for _name in (*_MODULES, *_host.call(b"guest modules").decode().split()):
    importlib.import_module(_name)
