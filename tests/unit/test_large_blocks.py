"""What `keep_large_blocks` is for: blocks of a megabyte cost no page faults from then on."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
from cloche.runtime.large_blocks import keep_large_blocks

def use_blocks():
    for _ in range(20):
        first = b"x" * 1_000_000
        second = first + b"y"

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_large_blocks()
use_blocks()
before = faults()
use_blocks()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the page faults of glibc's allocator")
def test_large_blocks_are_used_again_without_a_page_fault() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 100  # 20 times two blocks of 245 pages
