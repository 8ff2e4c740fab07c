from __future__ import annotations

import os
import subprocess
import sys

import pytest

from omnisource.distributed.cores import local_processes, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no processes to cores")
def test_cores_that_a_process_may_not_use_do_not_count() -> None:
    code = (
        "import os; from omnisource.distributed.cores import usable_cores;"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usable_cores())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert result.stdout == "1\n"
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_processes_on_this_machine_are_those_that_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_processes() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert local_processes() == 8
