from __future__ import annotations

import os
import subprocess
import sys

from omnisource.distributed.liveness import is_process_alive, process_start, this_machine


def test_process_is_known_by_its_number_and_its_start() -> None:
    start = process_start(os.getpid())
    assert start is not None
    assert is_process_alive(os.getpid(), start, this_machine()) is True
    assert is_process_alive(os.getpid(), "1", this_machine()) is False  # another one, which had the number before


def test_process_of_another_machine_or_of_an_unknown_one_cannot_be_seen() -> None:
    assert is_process_alive(os.getpid(), "1", "another") is None
    assert is_process_alive(os.getpid(), "1", "") is None


def test_process_that_has_ended_is_not_alive_even_if_nobody_waits_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = process_start(process.pid)
        assert start is not None and is_process_alive(process.pid, start, this_machine()) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the list of processes
        assert is_process_alive(process.pid, start, this_machine()) is False
    assert is_process_alive(process.pid, start, this_machine()) is False
