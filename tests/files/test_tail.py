from __future__ import annotations

import os
from pathlib import Path

import pytest

from omnisource.files.tail import LineFollower, last_lines

LINES = [b"first", b"second", b"third", b"", b"fifth"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(line + b"\n" for line in LINES))
    return path


def test_last_lines_are_whole_ones(path: Path) -> None:
    size = path.stat().st_size
    for num_bytes in range(1, size + 10):
        lines, is_whole_file = last_lines(path, num_bytes)
        assert lines == LINES[len(LINES) - len(lines) :]
        assert is_whole_file == (num_bytes >= size - 1)
        if num_bytes >= size:
            assert lines == LINES
    assert last_lines(path, len(b"fifth\n")) == ([b"fifth"], False)
    assert last_lines(path, len(b"fifth\n") - 1) == ([], False)


def test_line_that_is_being_written_is_left_out(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"half a li")
    assert last_lines(path, 1000) == (LINES, True)


def test_follower_gives_each_line_once_and_whole(path: Path) -> None:
    follower = LineFollower(path, num_bytes=1000)
    assert follower.new_lines() == LINES
    assert follower.new_lines() == []
    with path.open("ab", buffering=0) as file:
        file.write(b"sixth\nsev")
        assert follower.new_lines() == [b"sixth"]
        file.write(b"en")
        assert follower.new_lines() == []
        file.write(b"th\n")
        assert follower.new_lines() == [b"seventh"]


def test_follower_begins_near_the_end_with_a_whole_line(path: Path) -> None:
    assert LineFollower(path, num_bytes=8).new_lines() == [b"", b"fifth"]
    assert LineFollower(path, num_bytes=7).new_lines() == [b"", b"fifth"]
    assert LineFollower(path, num_bytes=6).new_lines() == [b"fifth"]


def test_follower_waits_for_a_file_that_comes_later(tmp_path: Path) -> None:
    follower = LineFollower(tmp_path / "later", num_bytes=100)
    assert follower.new_lines() == []
    (tmp_path / "later").write_text("now\n")
    assert follower.new_lines() == [b"now"]


def test_follower_goes_on_at_the_end_of_a_file_that_was_replaced_or_cut(path: Path) -> None:
    follower = LineFollower(path, num_bytes=1000)
    follower.new_lines()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes() + b"unseen, but of the past\n")
    os.replace(other, path)
    assert follower.new_lines() == []
    with path.open("ab") as file:
        file.write(b"new\n")
    assert follower.new_lines() == [b"new"]
    os.truncate(path, 6)
    assert follower.new_lines() == []
    with path.open("ab") as file:
        file.write(b"newer\n")
    assert follower.new_lines() == [b"newer"]
