"""Files of lines that only grow, whatever ends the process that adds to them."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnisource.files.jsonl import AppendFile, Journal, move_lines

HEADER = {"format": "test", "version": 1}
FIRST = b'{"format": "test", "version": 1}\n'


@contextlib.contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def opened(path: Path) -> contextlib.closing[Journal]:
    return contextlib.closing(Journal(path, HEADER))


def test_entries_are_in_the_file_at_once_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with opened(path) as journal:
        journal.append({"a": 1}, {"a": "ü"}, sync=True)
        assert path.read_bytes() == FIRST + b'{"a": 1}\n{"a": "\\u00fc"}\n'
    with opened(path) as journal:
        journal.append({"a": 3})
        assert list(journal.lines()) == [b'{"a": 1}\n', b'{"a": "\\u00fc"}\n', b'{"a": 3}\n']


@pytest.mark.parametrize("tail", [b'{"a": 2', b'{"a": 2}', b"\0" * 50, b'{"a": "' + b"x" * 200_000])
def test_line_that_was_cut_off_is_removed(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(FIRST + b'{"a": 1}\n' + tail)
    with opened(path) as journal:
        journal.append({"a": 3})
    assert path.read_bytes() == FIRST + b'{"a": 1}\n{"a": 3}\n'


@pytest.mark.parametrize("kept", [0, 1, 20, len(FIRST) - 1])
def test_first_line_that_was_never_finished_is_written_again(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(FIRST[:kept])
    with opened(path) as journal:
        assert journal.first_line == journal.header == FIRST
    assert path.read_bytes() == FIRST


def test_file_with_another_first_line_is_left_alone_until_it_is_restarted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    theirs = b'{"format": "test", "version": 2}\n{"a": 1}\n{"a'
    path.write_bytes(theirs)
    with opened(path) as journal:
        assert journal.first_line == b'{"format": "test", "version": 2}\n'
        assert path.read_bytes() == theirs
        journal.restart()
        journal.append({"a": 3})
    assert path.read_bytes() == FIRST + b'{"a": 3}\n'


@pytest.mark.parametrize("room", [1, 20])  # at once, and in the middle of what is written
def test_lines_that_find_no_room_leave_no_half_of_one(tmp_path: Path, room: int) -> None:
    file = AppendFile(tmp_path / "lines")
    file.append(b"first\n")
    with room_for(6 + room), pytest.raises(OSError, match="File too large") as failed:
        file.append(b"a line that is long\nand another\n")
    assert failed.value.filename == str(tmp_path / "lines")
    file.append(b"last\n")
    file.close()
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"first\nlast\n"


def test_lines_are_moved_to_the_end_of_another_file(tmp_path: Path) -> None:
    path, target = tmp_path / "lines", tmp_path / "moved"
    path.write_bytes(b"1\n2\n3\n2")
    target.write_bytes(b"0\n")
    assert move_lines(path, target, lambda line: b"2" in line) == 2
    assert (path.read_bytes(), target.read_bytes()) == (b"1\n3\n", b"0\n2\n2\n")
    assert move_lines(path, tmp_path / "none", lambda line: False) == 0
    assert sorted(os.listdir(tmp_path)) == ["lines", "moved"]
