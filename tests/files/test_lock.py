"""Locks between processes, and who has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omnisource.files import lock
from omnisource.files.lock import LockHeld, is_locked, take_lock

HOLDING = """
import sys
from pathlib import Path
from omnisource.files.lock import take_lock
lock = take_lock(Path(sys.argv[1]))
print("taken", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDING, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["file", "missing file", "folder"])
def test_lock_of_another_process_is_refused_with_its_number_and_free_after_its_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "locked"
    if kind == "file":
        path.write_text("content")
    elif kind == "folder":
        path.mkdir()
    assert not is_locked(path)
    with holding(path) as process:
        assert is_locked(path)
        with monkeypatch.context() as impatient, pytest.raises(LockHeld) as refused:
            impatient.setattr(lock, "DYING_SECONDS", 0.0)
            take_lock(path)
        assert refused.value.owner == f"process {process.pid}"
        assert str(path) in str(refused.value)
        process.kill()
        with take_lock(path):  # waits until it is gone
            pass
    assert path.is_dir() if kind == "folder" else path.read_text() == ("content" if kind == "file" else "")


def test_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    first = take_lock(tmp_path / "lock")
    first.release()
    first.release()
    with take_lock(tmp_path / "lock"):
        pass
    take_lock(tmp_path / "lock").release()


def test_file_that_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        take_lock(tmp_path / "missing/lock")
