"""The memory of a long list, measured; benchmarks/list_memory.py does the same with ten million items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.list_memory import make_data

ITEMS = 400_000


@pytest.mark.timeout(240)  # two processes and two workers start, which takes long on a crowded machine
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory is read from /proc, which only Linux has")
def test_long_list_takes_no_private_memory_and_little_of_any(tmp_path: Path, project: Path) -> None:
    make_data(tmp_path, ITEMS, with_tree=False)
    code = (
        "import sys; from omnisource.data.datasets import read_items; from omnisource.recipe.data import Split\n"
        "read_items(sys.argv[1], Split(list='train.txt'), 'image', None, 1000, 'images', check_files=False)"
    )
    script = str(project / "benchmarks/list_memory.py")
    # Parsing leaves some megabytes, however long the list is; a second process finds the list parsed.
    for command in (["-c", code, str(tmp_path)], [script, "--measure", str(tmp_path), "--workers", "2"]):
        environment = {**os.environ, "OMNISOURCE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=110
        )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["items"] == ITEMS
    assert found["processes"] >= 3
    assert found["private_after_opening"] < 10 * ITEMS
    assert 40 * ITEMS < found["list_pss"] < 100 * ITEMS  # all of it was read, and counts once
