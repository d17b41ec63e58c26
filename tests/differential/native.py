"""A CPython of this machine as a third opinion: runs programs in a process of its own, one line of JSON each way."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass

from tests.bench.measure import native_python

VARIABLE = "CLOCHE_TEST_NATIVE_PYTHON"
"""Path of a CPython 3.13 (or 3.14); without it the one that `make bench` finds, on PATH or under pyenv."""
_SERVER = """
import ast, contextlib, io, json, sys, warnings
warnings.simplefilter("ignore")
names, answers = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    out, value, error = io.StringIO(), None, None
    try:
        with contextlib.redirect_stdout(out):
            tree = ast.parse(json.loads(line))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    except BaseException as exc:
        error = type(exc).__name__
    answers.write(json.dumps([value, out.getvalue(), error]) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What can be compared."""

    value: object
    output: str
    error: str | None


def find_native() -> str | None:
    """The interpreter, if it runs and is one that the table of differences was written for."""
    place = os.environ.get(VARIABLE) or native_python()
    if place is None:
        return None
    try:
        said = subprocess.run(
            [place, "-c", "import sys; print(sys.implementation.name, *sys.version_info[:2])"],
            capture_output=True, timeout=20, check=True, encoding="utf-8",
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return place if said.split() in (["cpython", "3", "13"], ["cpython", "3", "14"]) else None


class Native:
    """The process. The caller closes it."""

    def __init__(self, place: str) -> None:
        self._process = subprocess.Popen(
            [place, "-I", "-X", "utf8", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, source: str) -> Outcome:
        """Deadlines are the test's: a program here cannot loop for ever."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("no channel")
        self._process.stdin.write(json.dumps(source) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
