"""The journal of prepared files: finished files are entered, and only these."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from omnisource.errors import UserError
from omnisource.files import lock
from omnisource.prepare.jobs import job_from_folder
from omnisource.prepare.journal import Entry, Journal
from tests.support.preparing import HEADER, entries, finished, prepared, tree


def test_commit_that_failed_is_taken_up_where_it_failed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal(out, HEADER) as journal:
        for name in ("first", "second"):
            journal.add(*finished(journal, name))
        entry, third = finished(journal, "third")
        third.unlink()
        journal.add(entry, third)
        with pytest.raises(FileNotFoundError):
            journal.commit()
        third.write_text("third")
        journal.commit()
        assert [(out / name).read_text() for name in ("first", "second", "third")] == ["first", "second", "third"]


def test_finished_file_is_entered_while_others_take_long(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal(out, HEADER) as journal:
        names = ["first", "second", "third"]
        for name in names:
            journal.add(*finished(journal, name))
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not (out / "third").exists():
            time.sleep(0.01)
        assert [(out / name).read_text() for name in names] == names
        assert list(entries(out)) == names


def test_many_small_files_are_entered_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnisource.prepare.journal.COMMIT_SECONDS", 3600.0)
    out = tmp_path / "out"
    with Journal(out, HEADER) as journal:
        for name in ("first", "second", "third"):
            journal.add(*finished(journal, name))
        assert [path.name for path in out.iterdir() if path.name[0] in "fst"] == ["first"]
    assert list(entries(out)) == ["first", "second", "third"]


@pytest.mark.parametrize("loss", ["the end of a line", "several lines", "zeros after it"])
def test_torn_journal_costs_only_what_it_lost(originals: Path, tmp_path: Path, loss: str) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    whole = tree(out)
    journal = out / "prepared.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # What a line describes got its name after the line was on the disk: a torn line has no file.
    if loss == "the end of a line":
        journal.write_bytes(b"".join(lines)[:-30])
        lost = [lines[-1]]
    elif loss == "several lines":
        journal.write_bytes(b"".join(lines[:3]))
        lost = lines[3:]
    else:
        journal.write_bytes(b"".join(lines) + bytes(100))
        lost = []
    for line in lost:
        (out / json.loads(line)["output"]).unlink()
    assert prepared(job, out).num_new == len(lost)
    assert tree(out) == whole


def test_leftovers_of_a_killed_process_go(originals: Path, tmp_path: Path) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    (out / ".partial-left").mkdir()
    (out / ".partial-left/0").write_bytes(b"half")
    prepared(job, out)
    assert not list(out.glob(".partial-*"))


def test_two_processes_do_not_prepare_one_folder(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "DYING_SECONDS", 0.0)
    refused = rf"another process is preparing it \(process {os.getpid()}\)"
    with Journal(tmp_path / "out", HEADER), pytest.raises(UserError, match=refused):
        prepared(job_from_folder(str(originals)), tmp_path / "out")


def test_folder_of_an_earlier_omnisource_is_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    entry = Entry("first.mp4", 5, "ab", 3, 8, 8, "/data/first.avi", 7, 9)
    first = json.dumps({"format": "omnisource prepared data", "version": 1, **dataclasses.asdict(HEADER)})
    line = (
        '{"output": "first.mp4", "size": 5, "sha256": "ab", "num_frames": 3, "width": 8, "height": 8, '
        '"original": "/data/first.avi", "original_size": 7, "original_modified_ns": 9}'
    )
    (out / "prepared.jsonl").write_text(f'{first}\n{line}\n{{"output": "sec')
    with Journal(out, HEADER) as journal:
        assert journal.entries == {"first.mp4": entry}
    assert (out / "prepared.jsonl").read_text() == f"{first}\n{line}\n"
