"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnisource.files.atomic import UNFINISHED, atomic_path, atomic_write, remove_unfinished


def test_file_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_writing_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from omnisource.files.atomic import atomic_write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with atomic_write(Path(sys.argv[1])) as file:\n"
        "        file.write(bytes(100_000))\n"
        "except OSError as error:\n"
        "    print(error.filename, error.strerror, sep=': ')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{path}: File too large\n"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_killed_process_leaves_only_an_unfinished_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    code = (
        "import os, sys; from pathlib import Path; from omnisource.files.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith("file.txt.") and left.endswith(UNFINISHED)


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    code = (
        "import sys; from pathlib import Path; from omnisource.files.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'theirs')\n"
    )
    with atomic_write(path) as file:
        file.write(b"ou")
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
        assert path.read_text() == "theirs"
        file.write(b"rs")
    assert path.read_text() == "ours"


def test_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "gone/file.txt"):
        pass


def test_file_that_is_written_by_its_name_takes_the_place_too(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "file.txt", tmp_path / "elsewhere"
    path.write_text("old")
    elsewhere.mkdir()
    with atomic_path(path, sync=False, unfinished_in=elsewhere) as unfinished:
        unfinished.write_text("new")
        assert unfinished.parent == elsewhere and path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass  # nothing was made
    assert path.read_text() == "new" and os.listdir(elsewhere) == []


def test_only_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    left = f"file.txt.0123456789abcdef{UNFINISHED}"
    others = ["file.txt", "mine.tmp", ".0123456789abcdef.tmp", "file.0123456789ABCDEF.tmp", "file.0123.tmp"]
    for name in (left, *others):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    remove_unfinished(tmp_path / "nowhere")
