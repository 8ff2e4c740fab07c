"""Preparing that was ended goes on, and ends with the same bytes; what changed is prepared again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from omnisource.prepare.jobs import PrepareJob, job_from_folder, job_from_list
from omnisource.prepare.run import prepare
from tests.support.media import numbered_frames, truncate, write_video
from tests.support.preparing import OURS, SMALL, entries, numbers_in, prepared, tree


@contextmanager
def never_finished(many: Path) -> Iterator[None]:
    """Puts a pipe that nobody writes to in place of one of `many`: a process that opens it waits for ever.

    A list that is read meanwhile does not find it.
    """
    original, kept = many.parent / "11.avi", many.parent / "kept"
    original.rename(kept)
    os.mkfifo(original)
    try:
        yield
    finally:
        kept.replace(original)


def in_child(work: Callable[[Any, Path], None], what: Path | PrepareJob, out: Path) -> BaseProcess:
    """Starts a process that has nothing of FFmpeg in it from this one."""
    process = multiprocessing.get_context("forkserver").Process(target=work, args=(what, out))
    process.start()
    return process


def prepare_alone(job: PrepareJob, out: Path) -> None:
    prepared(job, out)


def prepare_with_workers(job: PrepareJob, out: Path) -> None:
    prepare(job, out, SMALL, num_workers=2)


def wait_for_more(out: Path, count: int) -> None:
    """Waits until more than `count` of `many` are prepared, or all that can be with one that is never finished."""
    deadline = time.monotonic() + 100
    while len(list(out.glob("*.mp4"))) <= min(count, 10):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    job = job_from_list(str(many), None)
    prepared(job, whole)
    rng = random.Random(0)
    finished: dict[str, int] = {}
    with never_finished(many):
        for _ in range(4):
            process = in_child(prepare_alone, job, out)
            wait_for_more(out, len(finished))
            process.join(rng.uniform(0, 0.2))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            for output, modified_ns in finished.items():  # never done again
                assert (out / output).stat().st_mtime_ns == modified_ns
            for path in out.glob("*.mp4"):  # never half
                assert path.read_bytes() == (whole / path.name).read_bytes()
                finished[path.name] = path.stat().st_mtime_ns
    assert 4 <= len(finished) < 12
    assert prepared(job_from_list(str(many), None), out).num_new == 12 - len(finished)
    assert tree(out) == tree(whole)


def test_killed_with_its_workers_it_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    job = job_from_list(str(many), None)
    prepared(job, whole)
    with never_finished(many):
        process = in_child(prepare_with_workers, job, out)
        wait_for_more(out, 0)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    first = {path.name for path in out.glob("*.mp4")}
    assert first and not (out / "prepared.json").exists()
    again = prepared(job_from_list(str(many), None), out)
    assert again.num_new == 12 - len(first)
    assert tree(out) == tree(whole)


def test_finished_files_are_not_done_again(originals: Path, tmp_path: Path) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    before = {path: (content, (out / path).stat().st_mtime_ns) for path, content in tree(out).items()}
    again = prepared(job, out)
    assert (again.num_new, len(again.entries)) == (0, 5)
    assert tree(out) == {path: content for path, (content, _) in before.items()}
    for path, (_, modified_ns) in before.items():
        assert path in OURS or (out / path).stat().st_mtime_ns == modified_ns


def test_changed_original_is_prepared_again(originals: Path, tmp_path: Path) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    write_video(originals / "first.mp4", numbered_frames(6, 40, 48, first=300))
    assert prepared(job, out).num_new == 1
    assert numbers_in(out / "first.mp4") == list(range(300, 306))
    assert entries(out)["first.mp4"]["num_frames"] == 6


def test_prepared_file_of_an_original_that_was_damaged_since_goes(originals: Path, tmp_path: Path) -> None:
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    prepared(job, out)
    truncate(originals / "first.mp4", 0.3)
    assert len(prepared(job, out).failures) == 1
    assert not (out / "first.mp4").exists() and "first.mp4" not in entries(out)


def test_prepared_file_of_an_original_that_is_gone_is_reported_and_stays(originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(job_from_folder(str(originals)), out)
    (originals / "first.mp4").unlink()
    again = prepared(job_from_folder(str(originals)), out)
    assert again.orphans == ["first.mp4"] and "first.mp4" in str(again)
    assert (out / "first.mp4").exists()
