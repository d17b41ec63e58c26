"""The whole standard library in a guest: each module imports, or fails with the plain error that stands here."""

from __future__ import annotations

from typing import cast

import pytest
from tests.support.places import params, where

from cloche import Limits, Sandbox

pytestmark = pytest.mark.wasmtime

OTHER_SYSTEMS = """
_aix_support _android_support _apple_support _ios_support _osx_support _overlapped _pyrepl.windows_console _scproxy
_winapi _wmi asyncio.windows_events asyncio.windows_utils encodings.mbcs encodings.oem msvcrt
multiprocessing.popen_spawn_win32 nt winreg winsound
"""
NO_PROCESSES_OR_INTERPRETERS = """
_interpchannels _interpqueues _interpreters _multiprocessing _posixshmem concurrent.futures.interpreter
concurrent.interpreters concurrent.interpreters._crossinterp concurrent.interpreters._queues multiprocessing.forkserver
multiprocessing.popen_forkserver multiprocessing.resource_tracker multiprocessing.shared_memory
multiprocessing.sharedctypes multiprocessing.synchronize
"""
NOT_IN_PYODIDE = """
_curses _curses_panel _dbm _gdbm _hashlib _pydecimal _tkinter _uuid curses dbm ensurepip grp idlelib pwd pydoc_data
readline resource syslog tkinter turtle turtledemo venv
"""
NO_NATIVE_CALLS = "_ctypes ctypes"
LEFT_OUT = set(" ".join([OTHER_SYSTEMS, NO_PROCESSES_OR_INTERPRETERS, NOT_IN_PYODIDE, NO_NATIVE_CALLS]).split())

IMPORT_ALL = """
import importlib, sys, warnings, zipfile
warnings.simplefilter("ignore")
files = [name for name in zipfile.ZipFile("/lib/python314.zip").namelist() if name.endswith(".pyc")]
names = {name.removesuffix(".pyc").replace("/", ".").removesuffix(".__init__") for name in files}
names |= set(sys.stdlib_module_names) | set(sys.builtin_module_names)
names -= {"antigravity", "this", "__hello__", *(name for name in names if name.endswith(".__main__"))}
failed = {}
for name in sorted(names):
    try:
        importlib.import_module(name)
    except BaseException as exc:
        failed[name] = type(exc).__name__
(len(names), failed)
"""


@pytest.fixture(scope="module", params=params())
def imported(request: pytest.FixtureRequest) -> tuple[int, dict[str, str]]:
    """How many modules there are, and the error of each that does not import."""
    with Sandbox(**where(request.param), limits=Limits(wall_s=60, cpu_s=60)) as box:
        cell = box.run(IMPORT_ALL)
        assert cell.error is None, cell.error
        assert box.run("1 + 1").value == 2
    return cast("tuple[int, dict[str, str]]", cell.value)


def test_every_module_imports_but_those_listed(imported: tuple[int, dict[str, str]]) -> None:
    count, failed = imported
    assert count > 600
    assert set(failed) == LEFT_OUT


def test_what_is_missing_is_an_import_error(imported: tuple[int, dict[str, str]]) -> None:
    kinds = {name: kind for name, kind in imported[1].items() if kind not in {"ImportError", "ModuleNotFoundError"}}
    # It imports as far as its closures, which would be new machine code.
    assert kinds == {"_ctypes": "MemoryError"}


@pytest.mark.parametrize("place", params(sampled=False))
def test_every_way_to_the_network_ends_in_a_sentence_that_says_what_to_do(place: str) -> None:
    ways = (
        "import socket; socket.socket().connect(('192.0.2.1', 80))",
        "import socket; socket.create_connection(('example.com', 80))",
        "import socket; socket.socketpair()",
        "import asyncio; await asyncio.open_connection('192.0.2.1', 80)",
        "import urllib.request; urllib.request.urlopen('http://192.0.2.1')",
        "import smtplib; smtplib.SMTP('192.0.2.1')",
    )
    with Sandbox(**where(place)) as box:
        for way in ways:
            error = box.run(way).error
            assert error is not None, way
            assert error.message.endswith(": there is no network in this sandbox; ask the host for data through a tool")


@pytest.mark.parametrize("place", params(sampled=False))
def test_a_module_beside_the_cell_is_imported_and_hides_none_of_ours(place: str) -> None:
    with Sandbox(**where(place)) as box:
        box.write_file("helper.py", b"def double(n): return 2 * n")
        assert box.run("import helper\nhelper.double(4)").value == 8
        code = """
import os
os.mkdir("shop")
for name, text in (("shop/__init__", "TEA = 1"), ("shop/milk", "PRICE = 2"), ("statistics", "TEA = 3")):
    with open(name + ".py", "w") as file:
        print(text, file=file)
import shop.milk, statistics
shop.TEA, shop.milk.PRICE, statistics.mean([1, 2]), sorted(os.listdir("."))
"""
        expected = (1, 2, 1.5, ["helper.py", "shop", "statistics.py"])
        assert box.run(code).value == expected
        error = box.run("import numpy").error
        assert error is not None
        assert error.type == "ModuleNotFoundError"


@pytest.mark.parametrize("place", params(sampled=False))
def test_a_list_that_grows_at_the_top_of_a_cell_is_not_gone_through_again_and_again(place: str) -> None:
    """CPU time of a first cell with the collector and without it: ten times as much where it goes through all."""
    code = """
import gc
gc.SWITCH()
class Tea: pass
shelf = []
for n in range(100_000):
    tea = Tea()
    tea.price = [n]
    shelf.append(tea)
"""

    def cpu_s(switch: str) -> float:
        with Sandbox(**where(place), limits=Limits(wall_s=60)) as box:
            return box.run(code.replace("SWITCH", switch)).usage.cpu_s

    assert min(cpu_s("enable") for _ in range(4)) < 4 * min(cpu_s("disable") for _ in range(4))


@pytest.mark.parametrize("place", params(sampled=False))
def test_sqlite_keeps_a_database_in_a_file_and_reads_it_back(place: str) -> None:
    code = """
import sqlite3
with sqlite3.connect("/tmp/shop.db") as db:
    db.execute("create table price (item text primary key, euros real)")
    db.executemany("insert into price values (?, ?)", [(f"item {n}", n / 4) for n in range(2000)])
db.close()
again = sqlite3.connect("/tmp/shop.db")
rows = again.execute("select count(*), sum(euros), max(item) from price where euros >= 100").fetchone()
found = again.execute("select euros from price where item = ?", ["item 7"]).fetchone()
(rows, found, again.execute("pragma integrity_check").fetchone())
"""
    with Sandbox(**where(place)) as box:
        cell = box.run(code)
    assert cell.error is None, cell.error
    assert cell.value == ((1600, 479_800.0, "item 999"), (1.75,), ("ok",))
