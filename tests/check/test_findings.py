"""What a check says of the frames of videos: too few, other counts, other sizes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.checking import (
    CONFIG,
    KINETICS,
    TRAIN_LIST,
    add_to_validation,
    checked,
    findings,
    first_clip,
    split_summary,
)
from tests.support.media import moving_square, truncate, write_frames, write_image, write_video
from tests.support.miniature import tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")


def test_short_videos_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    clip = first_clip()
    write_video(clip, moving_square(5, 40, 48))
    sampling = ["sources.kinetics400.sampling.clip_length=6", "sources.kinetics400.sampling.frame_interval=2"]
    code, text = checked(capsys, CONFIG, *tiny_overrides(), *sampling)
    assert code == 0 and text.splitlines()[-1] == "nothing is wrong, 1 warning"
    assert "kinetics400, train: 1 video shorter than a clip" in text
    (found,) = findings()
    assert (found["kind"], found["severity"], found["path"]) == ("too_short", "warning", str(clip.absolute()))
    clips = split_summary("kinetics400", "train")
    assert (clips["shorter_than_clip"], clips["shorter_than_span"]) == (1, 1)  # 5 and 12 frames, and a span of 11
    sampling[1] = "sources.kinetics400.sampling.frame_interval=3"
    checked(capsys, CONFIG, *tiny_overrides(), *sampling)
    assert split_summary("kinetics400", "train")["shorter_than_span"] == 12  # a span of 16


def test_counts_of_raw_frames_are_compared_with_the_folders(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        frames = moving_square(6, 40, 48, seed=number)
        write_frames(KINETICS / f"videos_train/raw{number}", frames)
    (KINETICS / "raw.txt").write_text("raw0 6 0\nraw1 8 0\nraw2 4 0\n")
    raw = ["sources.kinetics400.train.list=raw.txt", "sources.kinetics400.train.format=frames_folder"]
    code, _ = checked(capsys, CONFIG, *tiny_overrides(), *raw)
    assert code == 2
    assert [(found["kind"], found["severity"], Path(found["path"]).name, found["what"]) for found in findings()] == [
        ("missing_frames", "error", "raw1", "the list says 8 frames, but there is no img_00007.jpg"),
        ("wrong_count", "warning", "raw2", "the list says 4 frames, the folder has 6: the last are never used"),
    ]
    clips = split_summary("kinetics400", "train")
    assert (clips["missing_frames"], clips["wrong_counts"]) == (1, 1)


def test_counts_of_a_list_of_videos_are_compared_with_the_videos(capsys: pytest.CaptureFixture[str]) -> None:
    keys = [line.rsplit(" ", 1)[0] for line in TRAIN_LIST.read_text().splitlines()]
    rows = [f"{os.path.splitext(key)[0]} {count} 0" for key, count in zip(keys[:4], (12, 99, 12, 13), strict=True)]
    rows.insert(1, "none 5 0")  # a missing file must not shift the counts of the others
    (KINETICS / "counted.txt").write_text("\n".join(rows) + "\n")
    counted = ["sources.kinetics400.train.list=counted.txt", "sources.kinetics400.train.format=video_frames_label"]
    code, _ = checked(capsys, CONFIG, *tiny_overrides(), *counted)
    assert code == 2 and len(findings("list")) == 1
    wrong = {Path(found["path"]).name: found["what"] for found in findings("wrong_count")}
    assert wrong == {
        Path(keys[1]).name: "the list says 99 frames, it has 12",
        Path(keys[3]).name: "the list says 13 frames, it has 12",
    }


def test_container_that_declares_more_frames_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    cut = truncate(write_video(KINETICS / "videos_val/cut.avi", moving_square(40, 40, 48), "mjpeg"), 0.6)
    add_to_validation(cut)
    code, _ = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0
    (found,) = findings()
    assert (found["kind"], found["path"]) == ("wrong_count", str(cut.absolute()))
    assert found["what"].startswith("its container declares 40 frames, ")


def test_raw_frames_of_two_sizes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("data/kinetics400/videos_train/raw")
    write_frames(folder, moving_square(3, 40, 48, seed=1))
    write_image(folder / "img_00003.jpg", moving_square(1, 32, 48, seed=1)[0])
    Path("data/kinetics400/raw.txt").write_text("raw 3 0\n")
    raw = ["sources.kinetics400.train.list=raw.txt", "sources.kinetics400.train.format=frames_folder"]
    code, text = checked(capsys, CONFIG, *tiny_overrides(), *raw)
    assert code == 2
    assert "img_00003.jpg: its size 48x32 is not that of img_00002.jpg, 48x40" in text
