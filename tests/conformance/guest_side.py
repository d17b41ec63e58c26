"""What runs inside the guest: one module of CPython's tests, its counts as the value of the cell.

This file is a cell's source, read as text by host.py; `request` is an input of the cell. The rule: each test prints its
name before it begins, so that the host knows the culprit when the guest is lost.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import os
import shutil
import signal
import sys
import time
import unittest
import zipfile
from typing import Any

ROOT = "/home/web_user/cpython"
ARCHIVE = "/tmp/cpython-tests.zip"
LINE = 300


class Counts(unittest.TestResult):
    """Counts and short texts instead of a log."""

    def __init__(self, skipped: set[str]) -> None:
        super().__init__()
        self.left_out = skipped
        self.reasons: dict[str, int] = {}
        self.bad: list[tuple[str, str, str]] = []

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        print(test.id(), flush=True)  # noqa: T201  # the host listens

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._note("error", test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._note("failure", test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._note("failure" if issubclass(err[0], test.failureException) else "error", test, err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.bad.append((test.id(), "failure", "unexpected success"))

    def _note(self, kind: str, test: unittest.TestCase, err: Any) -> None:
        text = str(err[1]).strip()
        line = text.partition("\n")[0]
        if line.startswith("Failed doctest"):
            line += " ... " + " ".join(text.partition("Expected:")[2].split())
        self.bad.append((test.id(), kind, f"{err[0].__name__}: {line}"[:LINE] + _where(err[2])))


def _where(traceback: Any) -> str:
    """The last line of the traceback that is in a test file."""
    place = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if ROOT in code.co_filename:
            place = f" ({code.co_filename.removeprefix(ROOT + '/test/')}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return place


def _cases(suite: Any) -> list[Any]:
    if isinstance(suite, unittest.TestSuite):
        return [case for part in suite for case in _cases(part)]
    return [suite]


def _wanted(case: Any, left_out: list[str]) -> bool:
    return not any(case.id() == name or case.id().startswith(name + ".") for name in left_out)


def _nothing(_argument: object) -> None:
    """Stands in for what 3.14 has no more."""


def bridge_versions(support: Any) -> None:
    """Names that the tests of 3.13 use and 3.14 has no more, so that what they stand before is tested all the same."""
    testcapi: Any = importlib.import_module("_testcapi")
    internals: Any = importlib.import_module("_testinternalcapi")
    testcapi.Py_C_RECURSION_LIMIT = 150_000  # 3.14 measures the stack; this deep is too deep for it
    internals.suppress_immortalization = _nothing
    internals.get_immortalize_deferred = lambda: False
    builtins.__dict__.setdefault("__annotations__", {})  # a module's own are made when they are asked for
    policy: Any = importlib.import_module("asyncio.events")._AbstractEventLoopPolicy
    policy.get_child_watcher = _no_child_watcher
    support.use_resources = ()  # no network, no long CPU tests: regrtest's default


def _no_child_watcher(self: object) -> None:
    raise NotImplementedError


def run(modules: list[str], left_out: list[str], loops: bool) -> dict[str, object]:
    """Load and run; what happened. `loops`: they need an event loop and say "socket" for it."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(ROOT)
    os.remove(ARCHIVE)
    sys.path.insert(0, ROOT)
    support: Any = importlib.import_module("test.support")
    bridge_versions(support)
    support.has_socket_support = loops
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the sandbox's own comes back with the next cell
    os.makedirs("/tmp/work", exist_ok=True)
    os.chdir("/tmp/work")
    result = Counts(set(left_out))
    started = time.perf_counter()
    refused: list[tuple[str, str]] = []
    for name in modules:
        try:
            cases = _cases(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)))
        except unittest.SkipTest as exc:
            refused.append((name, f"skipped: {exc}"))
            continue
        except Exception as exc:  # noqa: BLE001  # the module does not import: a finding, and the next one may
            refused.append((name, f"{type(exc).__name__}: {exc}"[:LINE]))
            continue
        unittest.TestSuite([case for case in cases if _wanted(case, left_out)]).run(result)
        del cases
        gc.collect()
    shutil.rmtree("/tmp/work", ignore_errors=True)
    return {
        "run": result.testsRun,
        "skipped": result.reasons,
        "bad": result.bad,
        "refused": refused,
        "expected_failures": len(result.expectedFailures),
        "seconds": time.perf_counter() - started,
    }


run(request["modules"], request["left_out"], request["loops"])  # type: ignore[name-defined]  # noqa: F821  # an input of the cell
