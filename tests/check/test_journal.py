"""The journal of a check, which must survive whatever ends it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path

import pytest

from omnisource.check.examine import FileReport
from omnisource.check.files import FileState
from omnisource.check.journal import JOURNAL, Journal
from omnisource.errors import UserError
from omnisource.files import lock

FOUND = FileReport("", 40, 41, 64, 48, "0123456789abcdef" * 2, ("ab" * 32, "cd" * 32), (False, True))


def state(number: int, path: str = "/data/clip") -> FileState:
    return FileState(f"{path}_{number}.mp4", "video", 0, 1000 + number, 1_700_000_000_000_000_000 + number)


def written(folder: Path, count: int) -> Path:
    with Journal(folder) as journal:
        for number in range(count):
            journal.append(state(number), FOUND)
    return folder / JOURNAL


def numbers(folder: Path) -> list[int]:
    with Journal(folder) as journal:
        return [found.size - 1000 for found, _ in journal.entries()]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    entries = [
        (state(0), FOUND),
        (state(1, "/daten/Übung"), FileReport(fault="damaged: frame 3 is not whole")),
        (state(2, "/data/\udcff"), dataclasses.replace(FOUND, declared_frames=None, hashes=(), is_plain=())),
    ]
    with Journal(tmp_path) as journal:
        for entry in entries:
            journal.append(*entry)
        assert list(journal.entries()) == entries
    with Journal(tmp_path) as journal:
        assert list(journal.entries()) == entries
        assert not journal.is_of_others


def test_torn_last_line_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    whole = path.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        with Journal(tmp_path) as journal:
            journal.append(state(9), FOUND)
        assert numbers(tmp_path) == [0, 1, 9]


def test_torn_last_line_longer_than_what_is_looked_at_once_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"file": "' + b"x" * 200_000)
    assert numbers(tmp_path) == [0, 1]
    assert path.stat().st_size < 2000


@pytest.mark.parametrize("damage", [b"\0" * 50, b"\xff\xfe", b"[]", b"{}", b'{"file": 3, "found": 4}', b"null", b"3"])
def test_damaged_line_is_left_out_and_counted(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path, 3)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]) + b"\n")
    assert numbers(tmp_path) == [0, 2]
    with Journal(tmp_path) as journal:
        for _ in range(2):
            assert len(list(journal.entries())) == 2 and journal.num_damaged == 1


@pytest.mark.parametrize("content", [b"my own notes\n", b'{"format": "something else"}\n', b"{", b"\n"])
def test_file_of_somebody_else_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    if content == b"{":
        content += b'"name": 1}'  # begins as a journal would, and is none
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(UserError, match="no journal of a check"):
        Journal(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == content


@pytest.mark.parametrize("content", [b"", b'{"format": "omnisource ch'])
def test_journal_whose_first_line_was_never_finished_is_started_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with Journal(tmp_path) as journal:
        assert not journal.is_of_others
        journal.append(state(0), FOUND)
    assert numbers(tmp_path) == [0]


def test_journal_of_other_decoders_is_started_again(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(header), "av": "1.0"}), *lines]) + "\n")
    with Journal(tmp_path) as journal:
        assert journal.is_of_others
        assert list(journal.entries()) == []
    assert path.read_text().splitlines() == [header]


def test_journal_of_an_earlier_omnisource_is_gone_on_with(tmp_path: Path) -> None:
    decoders = {name: importlib.metadata.version(name) for name in ("av", "pillow")}
    lines = [
        json.dumps({"format": "omnisource check journal", "version": 1, **decoders}),
        '{"file": {"path": "/data/clip_0.mp4", "read_as": "video", "offset": 0, "size": 1000, "modified_ns": '
        '1700000000000000000}, "found": {"fault": "", "num_frames": 40, "declared_frames": 41, "width": 64, "height": '
        '48, "digest": "0123456789abcdef0123456789abcdef", "hashes": ["ab", "cd"], "is_plain": [false, true]}}',
        '{"file": {"path": "/data/cl',
    ]
    (tmp_path / JOURNAL).write_text("\n".join(lines))
    with Journal(tmp_path) as journal:
        assert not journal.is_of_others
        assert list(journal.entries()) == [(state(0), dataclasses.replace(FOUND, hashes=("ab", "cd")))]
    content = (tmp_path / JOURNAL).read_text()
    assert content == "\n".join(lines[:2]) + "\n"


def test_two_checks_do_not_write_to_one_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DYING_SECONDS", 0.0)
    with Journal(tmp_path), pytest.raises(UserError, match=rf"another check is writing .*process {os.getpid()}"):
        Journal(tmp_path)
    assert numbers(tmp_path) == []
