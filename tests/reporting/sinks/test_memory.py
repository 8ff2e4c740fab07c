from __future__ import annotations

import mmap
import os
import subprocess
import sys

import pytest
import torch

from omnisource.reporting.sinks.memory import memory_in_use


def test_memory_of_the_process_and_its_workers_is_in_gib() -> None:
    before = memory_in_use([])
    assert "workers_gib" not in before
    # Mapped again and touched: what a tensor is given may have been resident before, freed by an earlier test.
    with mmap.mmap(-1, 2**27) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        after = memory_in_use([os.getpid(), os.getpid()])
    assert after["process_gib"] - before["process_gib"] == pytest.approx(0.125, abs=0.03)
    assert after["workers_gib"] == pytest.approx(2 * after["process_gib"], rel=0.05)


def test_worker_that_has_ended_meanwhile_does_not_count() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert "workers_gib" not in memory_in_use([process.pid])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_the_gpu_is_the_most_that_was_in_use() -> None:
    block = torch.ones(2**27, device="cuda")
    del block
    memory = memory_in_use([])
    assert memory["gpu_highest_gib"] >= 0.5
    assert memory["gpu_reserved_gib"] >= 0.5
