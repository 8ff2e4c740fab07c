from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.recipe import config
from omnisource.reporting.metrics_file import ValidationRecord
from omnisource.reporting.status_file import (
    STATUS,
    RunStatus,
    StatusFile,
    ending_by,
    is_alive,
    read_status,
    starting_status,
    validations_until,
)


def written(work_dir: Path) -> RunStatus:
    status = read_status(work_dir)
    assert status is not None
    return status


def test_status_is_written_at_once_and_reads_back(tmp_path: Path) -> None:
    validation = ValidationRecord(3, 1, "clips", {"top1": 1 / 3, "count": 7})
    file = StatusFile(tmp_path, starting_status(3, 40, (validation,)))
    status = written(tmp_path)
    assert status == dataclasses.replace(file.status, updated_unix_seconds=status.updated_unix_seconds)
    assert (status.state, status.step, status.total_steps, status.validations) == ("running", 3, 40, (validation,))
    assert (status.process_id, status.activity) == (os.getpid(), "starting")
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_changes_and_signs_of_life_come_without_the_run_doing_anything(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
    first = written(tmp_path).updated_unix_seconds
    file.change(step=5)
    while written(tmp_path).step != 5 or written(tmp_path).updated_unix_seconds <= first:
        time.sleep(0.005)
    file.end("complete")


def test_changes_wait_for_the_heartbeat_unless_they_are_hurried(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, starting_status(0, 40), heartbeat_seconds=3600)
    for step in range(1, 1001):
        file.change(step=step)
    assert written(tmp_path).step == 0  # a thousand steps wrote nothing
    file.flush()
    while written(tmp_path).step != 1000:
        time.sleep(0.005)
    file.close()


def test_end_is_the_last_word(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
    file.change(step=7)
    file.end("failed", "the disk is full")
    file.end("complete")
    time.sleep(0.05)  # some heartbeats later
    status = written(tmp_path)
    assert (status.state, status.reason, status.step, status.activity) == ("failed", "the disk is full", 7, "")


def test_full_disk_hinders_the_status_and_not_the_run(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        file = StatusFile(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
        file.change(step=1)
        file.end("complete")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_status(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_missing_status_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    whole = config.to_plain(starting_status(0, 40))
    for content, reason in (
        ("", "Expecting value"),
        ("[1, 2]", "it holds no fields"),
        (json.dumps({**whole, "step": "three"}), "step = 'three': wants a whole number"),
        (json.dumps({**whole, "state": "asleep"}), "state = 'asleep': wants one of running"),
        (json.dumps({key: value for key, value in whole.items() if key != "host"}), "missing keys host"),
    ):
        (tmp_path / STATUS).write_text(content)
        with pytest.raises(UserError, match=reason) as named:
            read_status(tmp_path)
        assert str(tmp_path / STATUS) in str(named.value)


def test_process_is_alive_until_it_ends_even_if_nobody_waits_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    status = dataclasses.replace(starting_status(0, 40), process_id=process.pid)
    start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    status = dataclasses.replace(status, process_start=start)
    assert is_alive(status)
    assert not is_alive(dataclasses.replace(status, process_start="1"))
    process.send_signal(signal.SIGKILL)
    while is_alive(status):
        time.sleep(0.005)
    process.wait()  # only now is it gone from the list of processes
    assert not is_alive(status)


def test_process_elsewhere_is_alive_as_long_as_it_is_heard_of() -> None:
    status = dataclasses.replace(starting_status(0, 40), process_id=2**22 + 1)
    assert not is_alive(status)
    for machine in ("another", ""):  # "": a system that does not say
        elsewhere = dataclasses.replace(status, machine=machine)
        assert is_alive(elsewhere)
        assert not is_alive(dataclasses.replace(elsewhere, updated_unix_seconds=time.time() - 301))


def test_process_number_that_no_process_can_have_is_dead() -> None:
    assert not is_alive(dataclasses.replace(starting_status(0, 40), process_id=10**30))


def test_validations_of_steps_that_are_done_again_are_forgotten(tmp_path: Path) -> None:
    early, late = ValidationRecord(4, 1, "clips", {"top1": 0.5}), ValidationRecord(8, 2, "images", {"top1": 0.5})
    StatusFile(tmp_path, starting_status(8, 40, (early, late))).end("interrupted")
    assert validations_until(tmp_path, 8) == (early, late)
    assert validations_until(tmp_path, 7) == (early,)
    assert validations_until(tmp_path, None) == ()
    (tmp_path / STATUS).write_text("{")
    assert validations_until(tmp_path, 8) == ()


def test_ending_follows_from_what_was_raised() -> None:
    assert ending_by(UserError("no\nspace")) == ("failed", "no\nspace")
    assert ending_by(ZeroDivisionError("division by zero")) == ("failed", "ZeroDivisionError: division by zero")
    assert ending_by(KeyboardInterrupt())[0] == "interrupted"
    assert ending_by(SystemExit(2)) == (
        "failed",
        "another process of the run failed; the output of the run names the error; --resume auto continues it once "
        "that is fixed",
    )
