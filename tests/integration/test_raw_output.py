"""Output that does not go through `sys.stdout`: `os.write`, files opened on descriptors 1 and 2, C code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.places import params, where

import cloche


@pytest.fixture(params=params())
def box(request: pytest.FixtureRequest) -> Iterator[cloche.Sandbox]:
    with cloche.Sandbox(**where(request.param), tools=[nothing]) as sandbox:
        yield sandbox


@cloche.tool
def nothing() -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    "code",
    [
        "import os\nn = os.write({fd}, b'hi\\n')",
        "import os\nn = os.writev({fd}, [b'h', b'i\\n'])",
        "import os\nn = os.fdopen({fd}, 'w', closefd=False).write('hi\\n')",
        "with open('/dev/{name}', 'w') as file: n = file.write('hi\\n')",
        "import os\nd = os.dup({fd})\nn = os.write(d, b'hi\\n')\nos.close(d)",
    ],
)
@pytest.mark.parametrize(("fd", "name"), [(1, "stdout"), (2, "stderr")])
def test_what_is_written_to_a_descriptor_is_output(box: cloche.Sandbox, code: str, fd: int, name: str) -> None:
    cell = box.run(code.format(fd=fd, name=name))
    assert cell.error is None
    assert {"stdout": cell.stdout, "stderr": cell.stderr} == {"stdout": "", "stderr": "", name: "hi\n"}
    assert cell.usage.output_bytes == 3
    assert box.run("1 + 1").stdout == ""


def test_c_code_is_heard(box: cloche.Sandbox) -> None:
    assert "<cell 1>" in box.run("import faulthandler\nfaulthandler.dump_traceback(file=2)").stderr


def test_it_stands_where_it_was_written(box: cloche.Sandbox) -> None:
    code = (
        "import os\nfile = os.fdopen(1, 'w', closefd=False)\n"
        "for i in range(0, 300, 5):\n"
        "    print(i)\n    n = os.write(1, b'%d\\n' % (i + 1))\n    print(i + 2)\n    print(i + 3)\n"
        "    print(i + 4, file=file, flush=True)"
    )
    assert box.run(code).stdout == "".join(f"{i}\n" for i in range(300))
    code = (
        "import os, sys\nprint('a', end='')\nn = os.write(1, b'b')\nn = os.write(2, b'1')\n"
        "print('2', file=sys.stderr)\n"
        "n = os.write(1, 'é'.encode()[:1])\nn = os.write(1, 'é'.encode()[1:])\nprint('x' * 400_000)\n"
        "n = os.write(1, b'y' * 70_000)\nprint('end')"
    )
    cell = box.run(code)
    assert cell.stdout == "abé" + "x" * 400_000 + "\n" + "y" * 70_000 + "end\n"
    assert cell.stderr == "12\n"


def test_it_is_heard_while_the_cell_runs(box: cloche.Sandbox) -> None:
    pieces: list[str] = []
    box.run("import os\nn = os.write(1, b'one')\nnothing()\nprint('two')\nn = os.write(1, b'three')\nnothing()",
            on_output=lambda _stream, text: pieces.append(text))  # fmt: skip
    assert pieces == ["one", "two\n", "three"]


def test_the_cap_on_output_counts_it(box: cloche.Sandbox) -> None:
    cell = box.run("import os\nfor _ in range(30): n = os.write(1, b'x' * 99_999 + b'\\n')")
    assert cell.output_cut
    assert cell.stdout.startswith("x" * 99_999 + "\n")
    assert len(cell.stdout.split("\n[output cut")[0]) == 1 << 20
    assert [hit.limit for hit in cell.limits] == ["output_bytes"]
    assert box.run("n = os.write(1, b'again\\n')").stdout == "again\n"


def test_a_closed_descriptor_is_another_file(box: cloche.Sandbox) -> None:
    code = "import os\nos.close(1)\nfd = os.open('a', os.O_RDWR | os.O_CREAT)\nn = os.write(1, b'hi')\nprint('here')"
    cell = box.run(f"{code}\nfd, open('a').read()")
    assert (cell.value, cell.stdout) == ((1, "hi"), "here\n")
