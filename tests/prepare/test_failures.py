"""Originals that cannot be prepared, and disks that are full."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnisource.cli.main import main
from omnisource.prepare.jobs import PrepareJob, job_from_folder, job_from_list
from omnisource.prepare.run import prepare
from tests.support.media import moving_square, truncate, write_image, write_video, zero_end_of_last_packet
from tests.support.preparing import SMALL, entries, numbers_in, prepared, tree


def in_child(work: Callable[[Any, Path], None], what: Path | PrepareJob, out: Path) -> BaseProcess:
    """Starts a process that has nothing of FFmpeg in it from this one."""
    process = multiprocessing.get_context("forkserver").Process(target=work, args=(what, out))
    process.start()
    return process


def prepare_with_room_for_small_files(list_path: Path, out: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        prepared(job_from_list(str(list_path), None), out)
    except OSError as error:
        os._exit(error.errno or 1)


def test_bad_files_are_reported_and_all_others_done(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(originals / "first.mp4", 0.3)
    (originals / "large.JPG").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]) == 2
    output = capsys.readouterr()
    assert "3 files, 0 of them from before" in output.out
    assert "not prepared: 2 files" in output.out
    assert f"{originals / 'first.mp4'}: " in output.out and f"{originals / 'large.JPG'}: " in output.out
    assert "5/5 files, 2 failed" in output.err
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(originals / "first.mp4"), str(originals / "large.JPG")]
    assert all(line["reason"] for line in lines)
    assert set(entries(out)) == {"deep/second.mp4", "deep/er/third one.mp4", "deep/small.png"}


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_video_of_one_frame_that_does_not_decode_is_reported(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
) -> None:
    path = zero_end_of_last_packet(write_video(originals / "one.avi", moving_square(1, 48, 64), codec))
    out = tmp_path / "out"
    assert main(["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]) == 2
    assert f"{path}: none of its frames can be decoded" in capsys.readouterr().out
    assert len(entries(out)) == 5


def test_original_that_is_cut_off_is_prepared_and_warned_of(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, whole = originals / "cut.avi", originals / "whole.avi"
    for path in (cut, whole):
        write_video(path, moving_square(40, 40, 48), "mjpeg")
    content = cut.read_bytes()
    truncate(cut, 0.6)
    out = tmp_path / "out"
    command = ["prepare", str(originals), str(out), "--short-side", "32", "--workers", "1"]
    for _ in range(2):  # the second time nothing is left to be done
        assert main(command) == 0
        (short,) = [json.loads(line) for line in (out / "fewer_frames.jsonl").read_text().splitlines()]
        assert short == {"path": str(cut), "frames": len(numbers_in(out / "cut.mp4")), "declared_frames": 40}
        assert 0 < short["frames"] < 30
        assert json.loads((out / "prepared.json").read_text())["fewer_frames"] == 1
        lines = capsys.readouterr().out.splitlines()
        index = lines.index(f"{cut}: {short['frames']} of 40 frames")
        assert lines[index - 1].startswith("warning: originals with fewer frames than their containers declare, ")
        assert str(whole) not in "".join(lines)
    found = entries(out)
    assert (found["whole.mp4"]["declared_frames"], found["large.JPG"]["declared_frames"]) == (40, None)
    cut.write_bytes(content)
    assert main(command) == 0
    assert "fewer frames" not in capsys.readouterr().out and not (out / "fewer_frames.jsonl").exists()


def test_hanging_file_has_the_time_of_its_own_size(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnisource.prepare.run.LIMIT_SECONDS", 5.0)
    (originals / "pipe.mp4").touch()
    with (originals / "large.avi").open("wb") as file:
        file.truncate(10**9)  # bytes, for which a file would be given 14 hours
    (originals / "list.txt").write_text("pipe.mp4 0\nlarge.avi 1\nfirst.mp4 2\n")
    job = job_from_list(str(originals / "list.txt"), None)
    (originals / "pipe.mp4").unlink()
    os.mkfifo(originals / "pipe.mp4")  # nobody writes to it
    preparation = prepare(job, tmp_path / "out", SMALL, num_workers=1)
    reasons = {failure.path: failure.reason for failure in preparation.failures}
    assert set(reasons) == {str(originals / "large.avi"), str(originals / "pipe.mp4")}
    assert reasons[str(originals / "pipe.mp4")] == "loading took longer than 5 s"
    assert list(entries(tmp_path / "out")) == ["first.mp4"]


def test_fixed_file_is_prepared_by_the_next_run(originals: Path, tmp_path: Path) -> None:
    whole = (originals / "first.mp4").read_bytes()
    truncate(originals / "first.mp4", 0.3)
    job, out = job_from_folder(str(originals)), tmp_path / "out"
    assert len(prepared(job, out).failures) == 1
    (originals / "first.mp4").write_bytes(whole)
    again = prepared(job, out)
    assert (again.failures, again.num_new) == ([], 1)
    assert not (out / "failures.jsonl").exists()
    assert numbers_in(out / "first.mp4") == list(range(9))


def test_items_that_failed_are_left_out_of_the_list(originals: Path, tmp_path: Path) -> None:
    list_path = originals / "all.txt"
    list_path.write_text("first.mp4 3\ndeep/second.avi 1\nlarge.JPG 0\n")
    truncate(originals / "first.mp4", 0.3)
    preparation = prepared(job_from_list(str(list_path), None), tmp_path / "out")
    assert (tmp_path / "out/all.txt").read_text() == "deep/second.mp4 1\nlarge.JPG 0\n"
    assert preparation.lists.num_items == {"all.txt": 2} and preparation.lists.left_out == 1


def test_full_disk_ends_everything_and_leaves_no_half_file(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    write_video(many.parent / "05.avi", noise, codec="mpeg4")  # the largest, which comes first
    process = in_child(prepare_with_room_for_small_files, many, out)
    process.join()
    assert process.exitcode == errno.EFBIG
    assert set(tree(out)) == {"prepared.jsonl"}
    assert prepared(job_from_list(str(many), None), out).num_new == 12


@pytest.mark.parametrize(
    ("num_images", "side", "reported"),
    [
        (1, 100, r"\.partial-\w+/0"),  # an image that is shrunk
        (1, 30, r"\.partial-\w+/0"),  # one that is copied
        (20, 8, r"prepared\.jsonl"),
    ],
)
def test_full_disk_is_reported_with_the_file_that_cannot_be_written(
    tmp_path: Path, num_images: int, side: int, reported: str
) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (num_images, side, side, 3), dtype=np.uint8)
    for number, image in enumerate(noise):
        write_image(tmp_path / f"in/{number}.png", image)
    limited = (
        "import resource, sys; from omnisource.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = ["prepare", str(tmp_path / "in"), str(tmp_path / "out"), "--short-side", "32", "--workers", "1"]
    ended = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    last_line = ended.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"error: {re.escape(str(tmp_path / 'out'))}/{reported}: File too large: let files be larger \(ulimit -f\)",
        last_line,
    )
    assert main(command) == 0  # with room again
    assert len(entries(tmp_path / "out")) == num_images
