"""Runs inside the guest while an image is built, as the last thing before its memory is baked.

Imports what cells most often need and what the runner needs, installs the runner, leaves nothing behind in `__main__`.
"""

import gc
import importlib
import signal
import sys

_host = importlib.import_module("_host")

_MODULES = (
    "abc", "ast", "asyncio", "base64", "bisect", "builtins", "calendar", "codeop", "collections.abc", "contextlib",
    "contextvars", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools",
    "hashlib", "heapq", "html", "inspect", "io", "itertools", "json", "keyword", "linecache", "marshal", "math",
    "numbers", "operator", "pathlib", "pprint", "random", "re", "secrets", "statistics", "string", "struct",
    "tempfile", "textwrap", "time", "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid",
    "warnings", "weakref", "zlib", "encodings.ascii", "encodings.idna", "encodings.latin_1",
)  # fmt: skip


def _use_once() -> None:
    """Fill the caches that a first use fills: CPython makes some of its tables late."""
    import datetime
    import json
    import re

    json.loads(json.dumps({"a": [1, 2.5, None, "é"]}))
    re.sub(r"(\w+)-(?P<n>\d+)", r"\g<n>", "tea-12")
    datetime.datetime.strptime("2026-01-01", "%Y-%m-%d").isoformat()
    f"{1.5:,.2f} {'x':>4}"


def _preload() -> None:
    for name in _MODULES:
        importlib.import_module(name)
    for name in _host.call(b"guest modules").decode().split():
        importlib.import_module(name)
    _use_once()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("_cloche").install()
    _host.set_entry(_host.entry)
    _host.call(b"preloaded" + "\n".join(sorted(sys.modules)).encode())


_preload()
for _name in [*globals()]:
    if not _name.startswith("__") and _name not in ("gc", "_name"):
        del globals()[_name]
globals().pop("_name")
gc.collect()
gc.collect()
gc.freeze()
del gc
