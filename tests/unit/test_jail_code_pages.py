"""What the jail does to pages with code: in a process of its own, because it is done for good."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from cloche.wasm_sandbox.jail.code_pages import Mapping, parse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is made for Linux")

SHARED_CODE = """
import ctypes, mmap, os, sys
from cloche.wasm_sandbox.jail.code_pages import close_code_pages, mappings
from cloche.wasm_sandbox.jail.syscalls import libc

kept = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 42)
file = os.memfd_create("code")
os.ftruncate(file, 4096)
writable = mmap.mmap(file, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
runnable = mmap.mmap(file, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)
writable[:4] = b"code"
close_code_pages()
assert kept() == 42, "a callback of before still works"
assert runnable[:4] == b"code"
os.pwrite(file, b"evil", 0)
assert runnable[:4] == b"code", "nobody else can change it any more"
writable[:4] = b"mine"
assert runnable[:4] == b"code"
assert not any(found.is_loose for found in mappings())
print("closed")
"""


@pytest.mark.guarantee("G14")
def test_code_cannot_be_written_and_is_shared_with_nobody_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", SHARED_CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "closed\n", done.stderr


@pytest.mark.parametrize(
    ("line", "loose"),
    [
        ("7fc50a5f7000-7fc50a5f9000 rwxp 00000000 00:00 0 ", True),
        ("7fc50a5f7000-7fc50a5f9000 rw-s 00000000 00:01 99 /memfd:libffi (deleted)", True),
        ("7fc50a5f7000-7fc50a5f9000 r-xs 00000000 00:01 99 /memfd:libffi (deleted)", True),
        ("7fc50a5f7000-7fc50a5f9000 r--s 00000000 fe:00 33 /usr/lib/gconv-modules.cache", False),
        ("7fc50a5f7000-7fc50a5f9000 r-xp 00000000 fe:00 33 /usr/lib/libc.so.6", False),
        ("7fc50a5f7000-7fc50a5f9000 rw-p 00000000 00:00 0 [heap]", False),
    ],
)
def test_a_mapping_is_told_from_its_line(line: str, loose: bool) -> None:
    found = parse(line)
    assert (found.start, found.size) == (0x7FC50A5F7000, 0x2000)
    assert found.is_loose is loose


def test_the_pages_of_this_very_process_can_be_listed() -> None:
    place = ctypes.addressof(ctypes.create_string_buffer(4))
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    found: list[Mapping] = [parse(line) for line in lines]
    assert any(one.start <= place < one.start + one.size and one.protection & mmap.PROT_WRITE for one in found)
