from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FRAGMENTED = """
import mmap
from pathlib import Path
from omnisource.data.free_memory import return_free_memory

def resident_mebibytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20

blocks = [bytearray(b"x" * 60_000) for _ in range(1000)]  # each too small for a mapping of its own
last = blocks[-1]  # at the top of the heap: nothing below it goes back by itself
del blocks
before = resident_mebibytes()
return_free_memory()
print(before - resident_mebibytes(), len(last))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc hands memory back on request")
def test_what_lies_free_below_a_block_in_use_goes_back_to_the_system() -> None:
    result = subprocess.run([sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True)
    returned, kept = result.stdout.split()
    assert float(returned) > 45  # of 57 MiB
    assert int(kept) == 60_000
