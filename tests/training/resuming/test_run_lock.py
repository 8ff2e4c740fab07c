from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.files import lock as file_lock
from omnisource.files.lock import DYING_SECONDS
from omnisource.reporting.events import RunEnded
from omnisource.reporting.sinks.status_file import StatusFileSink
from omnisource.reporting.status_file import starting_status
from omnisource.training.resuming.run_lock import LOCK, RunLock


@pytest.fixture
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a run that has the folder count as one that keeps it at once."""
    monkeypatch.setattr(file_lock, "DYING_SECONDS", 0.0)


@pytest.mark.usefixtures("without_waiting")
def test_second_run_is_refused_by_the_process_that_has_the_folder(tmp_path: Path) -> None:
    with RunLock(tmp_path) as first:
        assert first.take() is True
        assert first.take() is False  # it has it already
        with (
            RunLock(tmp_path) as second,
            pytest.raises(UserError, match=r"\(a process that has only started\)"),
        ):
            second.take()
        status = StatusFileSink(tmp_path, starting_status(0, 40))
        host = status.status.host
        with RunLock(tmp_path) as second, pytest.raises(UserError) as refused:
            second.take()
        status.close(None)
        assert f"{tmp_path}: another run is at work in this folder (process {os.getpid()} on {host})" in str(
            refused.value
        )
        assert "--resume auto" in str(refused.value) and "--work-dir" in str(refused.value)
    with RunLock(tmp_path) as third:
        assert third.take() is True
    assert (tmp_path / LOCK).read_bytes() == b""


@pytest.mark.usefixtures("without_waiting")
def test_run_that_has_ended_is_not_named_as_the_one_at_work(tmp_path: Path) -> None:
    StatusFileSink(tmp_path, starting_status(0, 40)).close(RunEnded("complete"))
    with RunLock(tmp_path) as first, RunLock(tmp_path) as second:
        first.take()
        with pytest.raises(UserError, match="only started"):
            second.take()


def test_folder_that_is_not_there_is_not_made_and_can_be_taken_later(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run") as lock:
        assert lock.take() is False
        assert not (tmp_path / "run").exists()
        (tmp_path / "run").mkdir()
        assert lock.take() is True


def test_file_system_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(tmp_path) as first, RunLock(tmp_path) as second:
        assert first.take() is True
        assert second.take() is True


HOLDING = """
import subprocess, sys
from pathlib import Path
from omnisource.training.resuming.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=0, close_fds=False)
print("taken", flush=True)
child.wait()
"""


@contextmanager
def holding(work_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Yields a process that has the folder, and has started another one that lives as long as its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(work_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("without_waiting")
def test_folder_of_a_killed_run_is_free_although_a_process_that_it_started_lives_on(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        with RunLock(tmp_path) as lock, pytest.raises(UserError):
            lock.take()
        process.kill()
        process.wait()
        with RunLock(tmp_path) as lock:
            assert lock.take() is True  # the child still waits for its input


def test_folder_of_a_run_that_is_still_dying_is_taken_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    flock, refused = fcntl.flock, []

    def refused_at_first(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError:
            refused.append(descriptor)
            if len(refused) == 3:  # by now it waits
                process.kill()
            raise

    monkeypatch.setattr(fcntl, "flock", refused_at_first)
    monkeypatch.setattr(file_lock, "DYING_SECONDS", 100.0)
    with holding(tmp_path) as process, RunLock(tmp_path) as lock:
        assert lock.take() is True
    assert len(refused) >= 3 and capfd.readouterr() == ("", "")


def test_run_that_lives_is_given_the_time_to_die_and_keeps_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DYING_SECONDS == 5
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    with RunLock(tmp_path) as first, RunLock(tmp_path) as second:
        first.take()
        with pytest.raises(UserError, match="another run is at work"):
            second.take()
    assert sum(slept) == pytest.approx(DYING_SECONDS, abs=0.1) and max(slept) < 0.2
