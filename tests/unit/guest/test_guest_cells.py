"""Cells: values, the namespace, errors as data, and the accidents that a sandbox survives."""

from __future__ import annotations

import datetime as dt
import socket
import struct
import sys
from decimal import Decimal
from typing import Any

import pytest

from .conftest import FakeHost


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", 2),
        ("x = 3\nx * 2", 6),
        ("x = 3", None),
        ("None", None),
        ("", None),
        ("# only a comment", None),
        ("def f():\n    return 5\nf()", 5),
        ("[1, (2, {'a': b'x'})]", [1, (2, {"a": b"x"})]),
        ("from decimal import Decimal\nDecimal('1.10')", Decimal("1.10")),
        ("import datetime\ndatetime.date(2026, 1, 2)", dt.date(2026, 1, 2)),
        ("'text'  # with a comment", "text"),
        ("1; 2", 2),
        ("1;", 1),
        ("x = 1; x + 1", 2),
    ],
)
def test_the_last_statement_gives_the_value_if_it_is_an_expression(host: FakeHost, code: str, value: object) -> None:
    ran = host.run(code)
    assert ran.result.error is None
    assert ran.value == value
    assert type(ran.value) is type(value)
    assert ran.result.has_value is (value is not None)
    assert ran.result.value_repr == (None if value is None else repr(value))


def test_names_live_from_cell_to_cell(host: FakeHost) -> None:
    host.run("import math\nx = 4")
    assert host.run("math.sqrt(x)").value == 2.0


def test_inputs_are_names_of_the_cell(host: FakeHost) -> None:
    assert host.run("sum(rows)", inputs={"rows": [1, 2, 3]}).value == 6
    assert host.run("rows").value == [1, 2, 3]


def test_a_value_that_cannot_cross_is_text_with_the_place_of_the_culprit(host: FakeHost) -> None:
    ran = host.run("class A:\n    def __repr__(self): return 'an A'\n[1, {'a': A()}]")
    assert ran.result.error is None
    assert not ran.result.has_value
    assert ran.result.value_repr == "[1, {'a': an A}]"
    assert ran.result.value_error == "value[1]['a']: A cannot cross"


def test_a_value_over_a_limit_says_which(host: FakeHost) -> None:
    ran = host.run("'x' * 5_000_000")
    assert ran.result.value_error is not None
    assert "value_bytes" in ran.result.value_error
    assert ran.result.value_repr is not None
    assert len(ran.result.value_repr) == 16_384


@pytest.mark.parametrize(
    "code",
    [
        "a = []; a.append(a); a",
        "[[]] * 3",
        "(1,)",
        "set(), frozenset(), {1}, frozenset({2})",
        "{'a': {'b': []}, 'c': ()}",
        "['\\ud800', b'\\xff', 1.5, True, None]",
        "{}",
        "range(3)",
    ],
)
def test_the_text_of_a_value_is_its_repr(host: FakeHost, code: str) -> None:
    names: dict[str, Any] = {}
    exec("\n".join(code.split("; ")[:-1]), names)
    expected = repr(eval(code.split("; ")[-1], names))
    assert host.run(code).result.value_repr == expected


@pytest.mark.guarantee("G24")
def test_a_huge_container_is_cut_without_its_whole_text_being_built(host: FakeHost) -> None:
    ran = host.run("[list(range(1000))] * 100_000")
    assert ran.result.value_repr is not None
    assert ran.result.value_repr.startswith("[[0, 1, 2,")
    assert ran.result.value_repr.endswith("...")
    assert len(ran.result.value_repr) == 16_384


def test_a_huge_integer_is_named_by_its_size(host: FakeHost) -> None:
    ran = host.run("10 ** 10_000")
    assert ran.result.value_repr == "<int of 33220 bits>"
    assert ran.result.value_error is not None
    assert "int_digits" in ran.result.value_error


@pytest.mark.parametrize("code", ["10 ** 4299", "10 ** 4300 - 1", "-(10 ** 4250)"])
def test_an_integer_that_crosses_is_shown_in_full(host: FakeHost, code: str) -> None:
    ran = host.run(code)
    assert ran.value == eval(code)
    assert ran.result.value_repr == str(ran.value)
    assert host.run(f"[{code}]").result.value_repr == f"[{ran.value}]"


def test_an_integer_with_more_digits_than_python_prints_is_named_by_its_size(host: FakeHost) -> None:
    assert host.run("10 ** 4300").result.value_repr == "<int of 14285 bits>"
    code = "import sys\ndefault = sys.get_int_max_str_digits()\nsys.set_int_max_str_digits(640)\n10 ** 1000"
    try:
        assert host.run(code).result.value_repr == "<int of 3322 bits>"
    finally:
        host.run("sys.set_int_max_str_digits(default)")


def test_a_repr_that_raises_does_not_fail_the_cell(host: FakeHost) -> None:
    ran = host.run("class A:\n    def __repr__(self): raise SystemExit(1)\nA()")
    assert ran.result.error is None
    assert ran.result.value_repr == "<repr() raised SystemExit>"


def test_a_dataclass_with_a_hostile_field_does_not_fail_the_cell(host: FakeHost) -> None:
    ran = host.run(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n"
        "    def __getattribute__(self, name):\n        if name == 'x': raise KeyboardInterrupt\n"
        "        return object.__getattribute__(self, name)\n"
        "    def __init__(self): pass\nA()"
    )
    assert ran.result.error is None
    assert ran.result.value_error == "encoding the value raised KeyboardInterrupt"


def test_an_exception_is_data_with_the_lines_of_the_cell(host: FakeHost) -> None:
    error = host.run("def f(x):\n    return 1 / x\n\nf(0)").error
    assert (error.type, error.message, error.line) == ("ZeroDivisionError", "division by zero", 4 - 2)
    assert error.traceback.startswith('Traceback (most recent call last):\n  File "<cell 1>", line 4, in <module>\n')
    assert "    return 1 / x\n" in error.traceback
    assert "_cloche" not in error.traceback
    assert "guest/" not in error.traceback


def test_a_traceback_shows_the_lines_of_earlier_cells(host: FakeHost) -> None:
    host.run("def f(x):\n    return 1 / x")
    host.run("import linecache\nlinecache.clearcache()")
    error = host.run("f(0)").error
    assert 'File "<cell 1>", line 2, in f\n    return 1 / x\n' in error.traceback
    assert error.line == 1


def test_a_syntax_error_points_at_the_place(host: FakeHost) -> None:
    error = host.run("x = 1\nprint('a'").error
    assert (error.type, error.line) == ("SyntaxError", 2)
    assert error.traceback.startswith('  File "<cell 1>", line 2\n')
    assert "    print('a'\n         ^\n" in error.traceback


@pytest.mark.parametrize("code", ["x = '\0'", "(" * 5000, "1 +" * 20_000 + "1", "\ufeff1 +", "return 5", "f'{'"])
def test_text_that_is_no_program_is_an_error_of_the_cell(host: FakeHost, code: str) -> None:
    assert host.run(code).error.type in ("SyntaxError", "ValueError", "MemoryError", "RecursionError")
    assert host.run("1 + 1").value == 2


def test_sys_exit_ends_the_cell_and_not_the_sandbox(host: FakeHost) -> None:
    error = host.run("x = 5\nimport sys\nsys.exit(3)\nx = 6").error
    assert error.type == "SystemExit"
    assert error.message == "sys.exit(3) ended the cell; the sandbox and its variables are still there"
    assert host.run("x").value == 5
    assert host.run("exit(4)").error.message.startswith("sys.exit(4) ended the cell")
    assert host.run("raise SystemExit").error.message.startswith("sys.exit() ended the cell")


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "GeneratorExit", "BaseException", "StopIteration", "MemoryError"]
)
def test_every_kind_of_exception_is_an_error_of_the_cell(host: FakeHost, name: str) -> None:
    ran = host.run(f"raise {name}('why')")
    assert (ran.error.type, ran.error.message, ran.result.interrupted) == (name, "why", False)


HOSTILE = {
    "str raises": "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
    "str is no str": "class E(Exception):\n    def __str__(self): return 5\nraise E",
    "str is a subclass": "class S(str):\n    def __len__(self): return -1\n"
    "class E(Exception):\n    def __str__(self): return S('x')\nraise E",
    "str recurses": "class E(Exception):\n    def __str__(self): return str(self)\nraise E",
    "str is huge": "raise ValueError('x' * 10_000_000)",
    "surrogates": "raise ValueError('\\ud800' * 20_000)",
    "astral": "raise ValueError('\\U0001f4a5' * 20_000)",
    "controls": "raise ValueError('\\x01' * 20_000)",
    "name lies": "class M(type):\n    @property\n    def __name__(cls): raise SystemExit\n"
    "    @property\n    def __qualname__(cls): return 5\n    __module__ = 7\n"
    "class E(Exception, metaclass=M): pass\nraise E",
    "long name": "raise type('E' * 5000, (Exception,), {})",
    "class lies": "class E(Exception):\n    __class__ = int\n    __module__ = None\nraise E",
    "cause cycle": "a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a",
    "context is itself": "a = ValueError(1)\na.__context__ = a\nraise a",
    "long chain": "e = None\nfor i in range(5000):\n    n = ValueError(i)\n    n.__context__ = e\n    e = n\nraise e",
    "group": "raise ExceptionGroup('many', [ValueError(i) for i in range(100_000)])",
    "deep group": "e = ValueError(1)\nfor i in range(3000):\n    e = ExceptionGroup('g', [e])\nraise e",
    "notes": "e = ValueError(1)\ne.__notes__ = 5\nraise e",
    "hostile notes": "e = ValueError(1)\nclass N:\n    def __str__(self): raise SystemExit\n"
    "e.__notes__ = [N()]\nraise e",
    "recursion": "def f(): return f()\nf()",
    "recursion in str": "def f(): return f()\nclass E(Exception):\n    def __str__(self): return f()\nraise E",
    "getattr": "class E(AttributeError):\n    def __getattribute__(self, name): raise SystemExit\nraise E",
    "dir": "class A:\n    def __dir__(self): raise SystemExit\nA().x",
    "syntax error with lies": "e = SyntaxError('x')\ne.filename = '<cell 1>'\ne.lineno = 'five'\ne.text = 5\nraise e",
    "import error with a lie": "e = ModuleNotFoundError('x')\ne.name = 5\nraise e",
    "exit code lies": "class C:\n    def __repr__(self): raise ValueError\nraise SystemExit(C())",
    "exit code is huge": "raise SystemExit('x' * 1_000_000)",
    "exit code is a huge number": "raise SystemExit(10 ** 100_000)",
    "exit subclass": "class E(SystemExit):\n    code = property(lambda self: 1 / 0)\nraise E",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.guarantee("G24")
def test_a_hostile_exception_is_shown_within_bounds(host: FakeHost, code: str) -> None:
    error = host.run(code).error  # the real models check every bound
    assert error.type
    assert host.run("1 + 1").value == 2


ACCIDENTS = {
    "print": "print = None",
    "builtins": "import builtins\nbuiltins.print = builtins.open = None",
    "str": "str = int = list = Exception = BaseException = None",
    "modules": "import sys\nfor n in ('json', 'traceback', 'linecache', 'tools', '__main__', 'signal', 'ast'):\n"
    "    sys.modules.pop(n, None)",
    "stdout is None": "import sys\nsys.stdout = sys.stderr = None",
    "stdout is closed": "import sys\nsys.stdout.close()\nsys.stderr.detach()",
    "stdout is ascii": "import sys\nsys.stdout.reconfigure(encoding='ascii', errors='strict')",
    "stdout is redirected": "import io, sys\nsys.stdout = io.StringIO()",
    "recursion limit": "import sys\nsys.setrecursionlimit(60)",
    "trace": "import sys\ndef t(*a): raise ValueError\nsys.settrace(t)",
    "signal": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    "loop": "import asyncio\nasyncio.get_event_loop().close()",
    "globals": "globals().clear()",
    "del builtins": "del __builtins__",
    "main": "import sys, types\nsys.modules['__main__'] = types.ModuleType('x')",
    "asyncio.run": "import asyncio\nasyncio.run = None",
    "json": "import json\njson.loads = json.dumps = json.JSONDecoder = json.encoder = None",
}


@pytest.mark.parametrize("code", ACCIDENTS.values(), ids=ACCIDENTS.keys())
def test_an_accident_in_one_cell_does_not_break_the_next(host: FakeHost, code: str) -> None:
    host.run(code)
    ran = host.run("import sys\nsys.stdout.write('é')\n[1].missing")
    assert ran.stdout == "é"
    assert (ran.error.type, ran.error.line) == ("AttributeError", 3)
    assert host.run("import asyncio\nawait asyncio.sleep(1, 'slept')").value == "slept"
    assert host.run("get_price('tea')").value == 3.5


def test_main_is_a_module_as_in_a_script(host: FakeHost) -> None:
    ran = host.run(
        "import dataclasses, pickle, typing, inspect, sys\n"
        "@dataclasses.dataclass\nclass P:\n    x: int\n    other: 'P | None' = None\n"
        "def double(p: P) -> P:\n    return P(p.x * 2)\n"
        "if __name__ == '__main__':\n    p = pickle.loads(pickle.dumps(P(3)))\n"
    )
    assert ran.result.error is None
    assert host.run("double(p)").value == {"x": 6, "other": None}
    assert host.run("typing.get_type_hints(double)['p'] is P").value is True
    assert host.run("inspect.getsource(double)").value == "def double(p: P) -> P:\n    return P(p.x * 2)\n"
    assert host.run("sys.modules['__main__'].__dict__ is globals()").value is True


def test_future_imports_hold_for_later_cells(host: FakeHost) -> None:
    host.run("from __future__ import annotations")
    assert host.run("def f(x: missing): pass\nf.__annotations__").value == {"x": "missing"}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import socket\nsocket.create_connection(('example.com', 80), 1)", "no network"),
        ("import urllib.request\nurllib.request.urlopen('http://example.com')", "no network"),
        ("raise OSError(40, 'Network is unreachable')", "no network"),  # as the sandbox refuses a socket
        ("import zoneinfo\nraise zoneinfo.ZoneInfoNotFoundError('x')", "no time zones"),
    ],
)
def test_an_error_of_what_is_missing_here_says_what_to_do(
    host: FakeHost, code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(*_: object, **__: object) -> None:
        raise socket.gaierror(-4, "Non-recoverable error")  # as the sandbox has it

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    error = host.run(code).error
    assert words in error.message
    assert words in error.traceback


SPY = """
class Meta(type):
    __module__ = property(lambda cls: 1 / 0)
class Named(str):
    def __eq__(self, other): return 1 / 0
    __hash__ = str.__hash__
class Reason:
    __class__ = property(lambda self: 1 / 0)
class Mine(KeyError, metaclass=Meta): pass
class Other(OSError): pass
Other.__module__ = Named("socket")
"""


def test_the_look_for_such_an_error_runs_no_code_of_the_cell(host: FakeHost) -> None:
    host.run(SPY)
    assert host.run("raise Mine('x')").error.message == "'x'"
    assert host.run("raise Other('x')").error.message == "x"
    host.run("import urllib.error")
    assert host.run("raise urllib.error.URLError(Reason())").error.message.startswith("<urlopen error <")
    assert host.run("raise urllib.error.URLError('no')").error.message == "<urlopen error no>"
    assert host.run("raise OSError(Named('40'), 'x')").error.message == "[Errno 40] x"
    assert host.run("raise OSError(True)").error.message == "True"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("numpy", "compiled code"),
        ("requests", "no network"),
        ("js", "no JavaScript"),
        ("a_package_of_nobody", "not in this sandbox's image"),
    ],
)
def test_a_missing_package_says_why_and_what_to_do(host: FakeHost, name: str, words: str) -> None:
    host.run(f"import sys\nsys.modules[{name!r}] = None")
    error = host.run(f"import {name}").error
    assert error.type == "ModuleNotFoundError"
    assert words in error.message
    assert words in error.traceback
    assert host.run(f"import importlib.util\nimportlib.util.find_spec('{name}_')").value is None


def test_a_result_that_the_host_refuses_is_sent_without_its_value(host: FakeHost) -> None:
    host.refuse_results_over = 20_000
    ran = host.run("'x' * 100_000")
    assert ran.value is None
    assert ran.result.value_error == "value: too large to send"


def test_a_random_number_of_the_image_is_not_seen_twice(host: FakeHost) -> None:
    host.run("import random")
    host.start()
    one = host.run("import random\nrandom.random()").value
    host.start()
    assert host.run("import random\nrandom.random()").value != one


def test_bytes_that_are_no_frame_end_in_a_result_and_not_in_an_exception(host: FakeHost) -> None:
    host.run("1")
    assert host.entry(b"\xff\xff\xff\xff\xff\xff\xff\xff") == b""
    assert host.run("1 + 1").value == 2


@pytest.mark.parametrize("number", [-1, *range(9)])
def test_a_rehearsal_says_nothing_and_leaves_nothing(host: FakeHost, number: int) -> None:
    said: list[object] = []
    host.on_frame = said.append
    header = b'{"type":"noop","number":%d,"attachments":[]}' % number
    names = host.run("[name for name in globals() if not name.startswith('__')]").value
    said.clear()
    modules = set(sys.modules)
    assert host.entry(struct.pack("<II", 4 + len(header), len(header)) + header) == b""
    assert (said, set(sys.modules) - modules) == ([], set())
    ran = host.run("[name for name in globals() if not name.startswith('__')]")
    assert (ran.value, ran.result.interrupted) == (names, False)


def test_what_fails_after_the_result_makes_no_second_one(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    guest: Any = host.entry.__self__  # type: ignore[attr-defined]
    forget, left = guest.interrupts.forget, [MemoryError()]

    def fail_once() -> None:
        if left:
            raise left.pop()
        forget()

    monkeypatch.setattr(guest.interrupts, "forget", fail_once)
    assert host.run("1 + 1").value == 2  # `run` looks that there is one result
    assert not left
    assert host.run("2 + 2").value == 4
