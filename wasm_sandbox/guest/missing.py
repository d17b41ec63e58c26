"""What to add to "No module named 'x'", or to an error of what is missing all the same (network, time zones): why it is
missing here and what to do instead.

Rule: imports themselves are left alone, so `try: import numpy except ImportError` and `find_spec` behave as anywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_NETWORK = "there is no network in this sandbox; ask the host for data through a tool"
_PROCESS = "there are no processes in this sandbox"
_NATIVE = "it needs compiled code that this sandbox's image does not have"
_UI = "there is no screen in this sandbox"
_JS = "there is no JavaScript in this sandbox"

_REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("requests", "httpx", "aiohttp", "urllib3", "websockets", "boto3", "paramiko", "openai", "yfinance"), _NETWORK
    ),
    "numpy": f"{_NATIVE}; use lists with math, statistics or fractions",
    "pandas": f"{_NATIVE}; use csv, json, sqlite3 or collections",
    "polars": f"{_NATIVE}; use csv, json, sqlite3 or collections",
    "scipy": f"{_NATIVE}; use math or statistics",
    "sklearn": _NATIVE,
    "torch": _NATIVE,
    "tensorflow": _NATIVE,
    "lxml": f"{_NATIVE}; use xml.etree.ElementTree or html.parser",
    "orjson": f"{_NATIVE}; use json",
    "regex": f"{_NATIVE}; use re",
    "PIL": _NATIVE,
    "cv2": _NATIVE,
    "matplotlib": f"{_NATIVE}; return the numbers, or write an SVG file to /out",
    "duckdb": f"{_NATIVE}; use sqlite3",
    "tkinter": _UI,
    "turtle": _UI,
    "curses": _UI,
    "readline": _UI,
    "js": _JS,
    "pyodide": _JS,
    "pyodide_js": _JS,
    "micropip": f"{_NETWORK}; packages are baked into the image",
    "pip": f"{_NETWORK}; packages are baked into the image",
    "multiprocessing": _PROCESS,
    "_multiprocessing": _PROCESS,
    "_posixsubprocess": _PROCESS,
    "fcntl": _PROCESS,
}
_NATIVE_LIST = "_cloche_native.txt"
"""Beside this package in the image: `import name<TAB>package<TAB>version` of what Pyodide has as native wheels."""
_ARGS: Callable[[BaseException], tuple[Any, ...]] = BaseException.args.__get__  # type: ignore[attr-defined]  # a getset descriptor
_NO_NETWORK = 40
"""ENETUNREACH, with which every socket is refused (imports/sockets.py); `errno` would be a module more to load."""
_ZONES = "there are no time zones in this sandbox's image; use datetime.timezone with a fixed offset, or datetime.UTC"
_STDLIB = "this module of the standard library is not part of this sandbox"
_OTHER = "it is not in this sandbox's image, and nothing can be installed while it runs; use the standard library"


def hint(exc: BaseException) -> str | None:
    """A sentence for an error of what is missing here, None for anything else."""
    kind = type(exc)
    if issubclass(kind, OSError | KeyError):
        return _of_no_module(exc)
    if not isinstance(exc, ModuleNotFoundError) or not isinstance(exc.name, str):
        return None
    top = exc.name.partition(".")[0]
    if top != exc.name and top in sys.modules:
        return None  # a wrong submodule of something that is here
    if top in _REASONS:
        return _REASONS[top]
    if top in sys.stdlib_module_names:
        return _STDLIB
    return _native_package(top) or _OTHER


def _of_no_module(exc: BaseException) -> str | None:
    """For an error of network or time zones. By the names of classes, past every attribute and metaclass: nothing here
    runs code of the cell's own, which may call its classes so and gets no more than a sentence for it."""
    kind = type(exc)
    if type(kind) is not type:
        return None
    module, name = kind.__module__, kind.__name__
    if type(module) is not str or type(name) is not str:
        return None
    if (module, name) == ("urllib.error", "URLError"):
        args: tuple[Any, ...] = _ARGS(exc)
        return _of_no_module(args[0]) if args and issubclass(type(args[0]), OSError) else None
    if (module, name) == ("zoneinfo._common", "ZoneInfoNotFoundError"):
        return _ZONES
    return _NETWORK if (module, name) == ("socket", "gaierror") or _of_socket(exc) else None


def _of_socket(exc: BaseException) -> bool:
    """No other call of a guest ends with this number."""
    args: tuple[Any, ...] = _ARGS(exc)
    return type(exc) is OSError and len(args) > 1 and type(args[0]) is int and args[0] == _NO_NETWORK


def _native_package(top: str) -> str | None:
    """A sentence for what Pyodide has as a native wheel. The list is read each time: this happens once in a cell."""
    folder = __file__.rpartition("/")[0].rpartition("/")[0]
    try:
        listed: bytes = __spec__.loader.get_data(f"{folder}/{_NATIVE_LIST}")  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return None
    for line in listed.decode("utf-8").splitlines():
        name, _, rest = line.partition("\t")
        if name == top:
            return f"{_NATIVE} (Pyodide has it as {' '.join(rest.split())})"
    return None
