"""Files mapped into memory: what `mmap` shows and keeps, and SQLite's write-ahead log, whose index is a mapped file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.places import params, where

import cloche

MAKE = "import mmap, os\nopen('a', 'wb').write(bytes(range(256)) * 1000)\nf = open('a', 'r+b')\n"


@pytest.fixture(params=params())
def box(request: pytest.FixtureRequest) -> Iterator[cloche.Sandbox]:
    with cloche.Sandbox(**where(request.param)) as sandbox:
        yield sandbox


def test_a_mapped_file_reads_as_the_file(box: cloche.Sandbox) -> None:
    box.run(MAKE + "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)")
    assert box.run("len(m), m[255:258], m.find(b'\\xff\\x00', 1000), m[:] == f.read()").value == (
        256_000,
        b"\xff\x00\x01",
        1023,
        True,
    )
    assert box.run("n = mmap.mmap(f.fileno(), 65537, offset=65536)\nlen(n), n[0], n[65536]").value == (65537, 0, 0)


def test_what_is_changed_is_kept_by_a_flush_and_by_a_close(box: cloche.Sandbox) -> None:
    box.run(MAKE + "m = mmap.mmap(f.fileno(), 0)\nm[0:5] = b'hello'\nm.flush()")
    assert box.run("open('a', 'rb').read(6)").value == b"hello\x05"
    box.run("m[65534:65538] = b'edge'\nm[-1] = 1\nm.close()")
    assert box.run("data = open('a', 'rb').read()\nlen(data), data[65533:65539], data[-2:]").value == (
        256_000,
        b"\xfdedge\x02",
        b"\xfe\x01",
    )


def test_only_a_mapping_that_was_changed_changes_its_file(box: cloche.Sandbox) -> None:
    box.run(MAKE.replace("'a'", "'/out/a'"))
    assert box.run("mmap.mmap(f.fileno(), 0).close()").artifacts == ()
    (artifact,) = box.run("m = mmap.mmap(f.fileno(), 0)\nm[1] = 65\nm.close()").artifacts
    assert artifact.data[:3] == b"\0A\x02"


def test_a_change_reaches_its_own_file_whatever_the_descriptor_means_by_then(box: cloche.Sandbox) -> None:
    code = MAKE + (
        "m = mmap.mmap(f.fileno(), 0)\nold = f.fileno()\nf.close()\n"
        "g = open('b', 'w+b')\nn = g.write(b'q' * 300_000)\ng.flush()\nm[:3] = b'new'\nm.close()\n"
        "g.fileno() == old, open('a', 'rb').read(3), open('b', 'rb').read() == b'q' * 300_000"
    )
    assert box.run(code).value == (True, b"new", True)


def test_two_mappings_of_a_file_and_writes_to_it_keep_each_others_bytes(box: cloche.Sandbox) -> None:
    code = MAKE + (
        "one, two = mmap.mmap(f.fileno(), 0), mmap.mmap(f.fileno(), 0)\none[0] = 11\ntwo[1] = 22\n"
        "f.seek(2)\nn = f.write(b'\\x33')\nf.flush()\none.flush()\nseen = one[:4]\ntwo.close()\none.close()\n"
        "seen, open('a', 'rb').read(4)"
    )
    assert box.run(code).value == (b"\x0b\x01\x33\x03", b"\x0b\x16\x33\x03")


def test_a_private_mapping_is_not_kept(box: cloche.Sandbox) -> None:
    code = MAKE + "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\nm[:2] = b'me'\nm.flush()\n"
    assert box.run(code + "first = m[:3]\nm.close()\nfirst, open('a', 'rb').read(2)").value == (b"me\x02", b"\x00\x01")


def test_a_mapping_wants_a_file_that_was_opened_for_it(box: cloche.Sandbox) -> None:
    code = MAKE + (
        "def error(fd, **options):\n"
        "    try: mmap.mmap(fd, 10, **options)\n"
        "    except OSError as exc: return type(exc).__name__\n"
        "r, w, d = os.open('a', os.O_RDONLY), os.open('a', os.O_WRONLY), os.open('/tmp', os.O_RDONLY)\n"
        "z = os.open('/dev/urandom', os.O_RDWR)\n"
        "error(r), error(r, access=mmap.ACCESS_READ), error(w, access=mmap.ACCESS_READ), error(d), error(z), error(99)"
    )
    assert box.run(code).value == ("PermissionError", None, "PermissionError", "PermissionError", "OSError", "OSError")


def test_mapped_memory_is_given_back(box: cloche.Sandbox) -> None:
    code = (
        "for i in range(40):\n    m = mmap.mmap(f.fileno(), 0)\n    m[i * 1000] = 65\n    m.close()\n"
        "descriptors = os.dup(0)\nos.close(descriptors)"
    )
    box.run(MAKE + f"n = f.write(bytes(8 << 20))\nf.flush()\nfirst = os.dup(0)\nos.close(first)\n{code}")
    cell = box.run("descriptors == first, open('a', 'rb').read().count(b'A' + bytes(99))")
    assert cell.value == (True, 40)
    assert cell.usage.memory_bytes < 128 << 20


def test_a_mapping_for_which_there_is_no_memory_is_an_error_of_the_guest(box: cloche.Sandbox) -> None:
    code = MAKE + "f.truncate(60 << 20)\nheld = []\nfor _ in range(10): held.append(mmap.mmap(f.fileno(), 0))"
    cell = box.run(code)
    assert cell.error is not None
    assert cell.error.type in ("MemoryError", "OSError")
    assert box.run("held.clear()\n1 + 1").value == 2


def test_sqlite_keeps_a_write_ahead_log(box: cloche.Sandbox) -> None:
    code = (
        "import os, sqlite3\none, two = sqlite3.connect('w.db'), sqlite3.connect('w.db')\n"
        "mode = one.execute('pragma journal_mode=wal').fetchone()[0]\none.execute('create table t(a)')\n"
        "for i in range(400):\n"
        "    with (one, two)[i % 2] as c: n = c.execute('insert into t values(?)', (str(i) * 200,))\n"
        "def state(c):\n"
        "    rows = c.execute('select count(*), sum(length(a)) from t').fetchone()\n"
        "    return (*rows, c.execute('pragma integrity_check').fetchone()[0])\n"
        "mode, state(one), state(two), sorted(os.listdir('.'))"
    )
    whole = (400, 218_000, "ok")
    assert box.run(code).value == ("wal", whole, whole, ["w.db", "w.db-shm", "w.db-wal"])
    # No mapping of the database itself: one would not see what is written to the file.
    assert box.run("one.execute('pragma mmap_size=1000000').fetchone()").value == (0,)
    box.run("one.close()")
    assert box.run("state(two)").value == whole
    box.run("two.close()\nagain = sqlite3.connect('w.db')")
    assert box.run("state(again), again.execute('pragma journal_mode').fetchone()").value == (whole, ("wal",))
