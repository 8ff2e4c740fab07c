from __future__ import annotations

import dataclasses
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from omnisource.reporting.events import RunEnded
from omnisource.reporting.records import ValidationRecord
from omnisource.reporting.sinks.status_file import StatusFileSink
from omnisource.reporting.status_file import STATUS, read_status, starting_status
from tests.support.reports import opened, record, status_of


def test_status_is_written_at_once_and_reads_back(tmp_path: Path) -> None:
    validation = ValidationRecord(3, 1, "clips", {"top1": 1 / 3, "count": 7})
    file = StatusFileSink(tmp_path, starting_status(3, 40, (validation,)))
    status = status_of(tmp_path)
    assert status == dataclasses.replace(file.status, updated_unix_seconds=status.updated_unix_seconds)
    assert (status.state, status.step, status.total_steps, status.validations) == ("running", 3, 40, (validation,))
    assert (status.process_id, status.activity) == (os.getpid(), "starting")
    file.close(None)
    assert [path.name for path in tmp_path.iterdir()] == [STATUS]


def test_changes_and_heartbeats_come_without_the_run_doing_anything(tmp_path: Path) -> None:
    file = StatusFileSink(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
    first = status_of(tmp_path).updated_unix_seconds
    file.change(step=5)
    while status_of(tmp_path).step != 5 or status_of(tmp_path).updated_unix_seconds <= first:
        time.sleep(0.005)
    file.close(RunEnded("complete"))


def test_changes_wait_for_the_heartbeat_unless_they_are_flushed(tmp_path: Path) -> None:
    file = StatusFileSink(tmp_path, starting_status(0, 40), heartbeat_seconds=3600)
    for step in range(1, 1001):
        file.change(step=step)
    assert status_of(tmp_path).step == 0  # a thousand steps wrote nothing
    file.flush()
    while status_of(tmp_path).step != 1000:
        time.sleep(0.005)
    file.close(None)


def test_end_is_the_last_word(tmp_path: Path) -> None:
    file = StatusFileSink(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
    file.change(step=7)
    file.close(RunEnded("failed", "the disk is full"))
    file.close(RunEnded("complete"))
    time.sleep(0.05)  # some heartbeats later
    status = status_of(tmp_path)
    assert (status.state, status.reason, status.step, status.activity) == ("failed", "the disk is full", 7, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_full_disk_hinders_the_status_and_not_the_run(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        file = StatusFileSink(tmp_path, starting_status(0, 40), heartbeat_seconds=0.01)
        file.change(step=1)
        file.close(RunEnded("complete"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_status(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_run_json_tells_how_the_run_goes_and_that_it_is_complete(tmp_path: Path) -> None:
    with opened(tmp_path, tensorboard=False, total_steps=40) as report:
        assert status_of(tmp_path).activity == "starting"
        report.step(record(1))
        report.validation(1, 1, "clips", {"top1": 0.5, "loss": float("nan")})
        report.validation(1, 1, "images", {"top1": 0.25})
        report.validation(1, 1, "clips", {"top1": 0.75, "loss": float("nan")})
        report.best(0.75, 1)
    status = status_of(tmp_path)
    assert (status.state, status.step, status.total_steps) == ("complete", 1, 40)
    assert (status.best_score, status.best_step) == (0.75, 1)
    assert {one.source: one.metrics for one in status.validations} == {
        "clips": {"top1": 0.75},
        "images": {"top1": 0.25},
    }


def test_run_json_tells_the_signal_that_stopped_a_run(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), opened(tmp_path, tensorboard=False) as report:
        report.stopped(signal.SIGTERM, tmp_path / "checkpoints/step_000000017.pt")
        raise InterruptedError
    assert status_of(tmp_path).state == "interrupted"
    assert status_of(tmp_path).reason == "SIGTERM, saved as step_000000017.pt"


def test_resumed_run_keeps_the_validations_that_are_not_done_again(tmp_path: Path) -> None:
    with opened(tmp_path, tensorboard=False) as report:
        report.validation(5, 1, "images", {"top1": 0.25})
        report.validation(9, 1, "clips", {"top1": 0.5})
    with opened(tmp_path, tensorboard=False, resumed_step=6, total_steps=40):
        status = status_of(tmp_path)
    assert (status.step, status.state) == (6, "running")
    assert [(one.step, one.source) for one in status.validations] == [(5, "images")]
