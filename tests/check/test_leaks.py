"""Copies of training files in what is held out, and within the training data, are found by a whole check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.checking import (
    CONFIG,
    IMAGENET,
    KINETICS,
    REPORT,
    TRAIN_LIST,
    VALIDATION_LIST,
    add_to_validation,
    checked,
    findings,
    first_clip,
    report,
    split_summary,
)
from tests.support.media import scenery, write_image, write_video
from tests.support.miniature import OWN_DATA_CONFIG, own_data_overrides, tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")


def test_file_of_two_lists_is_read_once_and_counts_as_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = TRAIN_LIST.read_text().splitlines()
    (KINETICS / "held_out.txt").write_text("\n".join([lines[3], lines[8]]) + "\n")
    overrides = [
        "sources.kinetics400.validation.folder=videos_train",
        "sources.kinetics400.validation.list=held_out.txt",
    ]
    code, text = checked(capsys, CONFIG, *tiny_overrides(more=overrides))
    assert code == 2 and "27 files read" in text
    assert [(finding["kind"], finding["what"]) for finding in findings()] == [
        ("duplicate", "is an item of kinetics400, train, too")
    ] * 2
    assert split_summary("kinetics400", "validation")["duplicates"] == 2


def test_test_items_that_are_those_of_validation_are_no_duplicates(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0
    splits = [(split["source"], split["split"]) for split in report()["splits"]]
    assert splits == [("kinetics400", "train"), ("kinetics400", "validation"), ("imagenet", "train")]


def test_copies_in_validation_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    clip, held_out = first_clip(), KINETICS / "videos_val"
    same = Path(shutil.copy(clip, held_out / "same.mp4"))
    frames = np.stack([np.roll(scenery(0), 9 * number, axis=1) for number in range(12)])
    original = write_video(KINETICS / "videos_train/original.mp4", frames)
    with TRAIN_LIST.open("a") as file:
        file.write("original.mp4 2\n")
    again = write_video(held_out / "again.mkv", frames[:, ::2, ::2], "libx264", options={"crf": "30", "g": "3"})
    add_to_validation(same, again)
    code, _ = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2
    first, second = findings()
    assert (first["path"], first["kind"], first["severity"]) == (str(same.absolute()), "duplicate", "error")
    assert first["what"] == f"has the same bytes as an item of kinetics400, train: {clip.absolute()}"
    assert second["path"] == str(again.absolute())
    assert second["what"].startswith("shows the same as an item of kinetics400, train (")
    assert second["what"].endswith(f" of 256 bits differ): {original.absolute()}")
    assert split_summary("kinetics400", "validation")["duplicates"] == 2
    assert split_summary("kinetics400", "train")["duplicates"] == 0
    with Image.open(REPORT / "duplicates.png") as sheet:
        assert min(sheet.size) > 100
    again.unlink()
    VALIDATION_LIST.write_text("".join(VALIDATION_LIST.read_text().splitlines(keepends=True)[:-2]))
    assert checked(capsys, CONFIG, *tiny_overrides())[0] == 0
    assert not (REPORT / "duplicates.png").exists()


def test_copies_of_images_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(path for path in Path("my_data/images/validation").iterdir())
    picture = write_image(folder / "new.png", scenery(1))
    with Image.open(picture) as image:
        image.resize((80, 60)).save(Path("my_data/images/train") / folder.name / "copied.jpg", quality=70)
    code, _ = checked(capsys, str(OWN_DATA_CONFIG), *own_data_overrides())
    assert code == 2
    path = Path("work_dirs/own_data/check/report.json")
    (found,) = json.loads(path.read_text())["findings"]
    assert found["path"] == str(picture.absolute()) and found["what"].endswith("copied.jpg")


def test_black_pictures_are_no_duplicates_of_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    black = np.zeros((12, 40, 48, 3), dtype=np.uint8)
    write_video(KINETICS / "videos_train/black.mp4", black)
    with TRAIN_LIST.open("a") as file:
        file.write("black.mp4 0\n")
    add_to_validation(write_video(KINETICS / "videos_val/dark.mp4", np.repeat(black, 2, axis=1)))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and not findings()
    assert "kinetics400, train: 1 item too plain to be compared" in text
    assert split_summary("kinetics400", "validation")["plain"] == 1


def test_training_files_that_show_the_same_are_counted_and_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    images = (
        (IMAGENET / "meta/train.txt").read_text().splitlines()[:5]
    )  # of one class: the others have the same grounds
    path = IMAGENET / "train" / images[0].rsplit(" ", 1)[0]
    shutil.copy(path, IMAGENET / "train/copy.JPEG")
    (IMAGENET / "meta/train.txt").write_text("\n".join([*images, "copy.JPEG 2"]) + "\n")
    TRAIN_LIST.write_text(TRAIN_LIST.read_text().splitlines()[0] + "\n")
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0
    assert "2 training files show the same as others, in 1 group, 1 of them with differing labels" in text
    found = report()["training_duplicates"]
    assert (found["groups"], found["files"], found["differing_labels"]) == (1, 2, 1)
    assert found["examples"] == [[str(path.absolute()), str((IMAGENET / "train/copy.JPEG").absolute())]]
    assert split_summary("imagenet", "train")["duplicates"] == 2


def test_held_out_items_are_compared_with_the_training_items_of_all_sources(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_image(IMAGENET / "train/web.JPEG", scenery(5), quality=60)
    with (IMAGENET / "meta/train.txt").open("a") as file:
        file.write("web.JPEG 0\n")
    still = write_video(KINETICS / "videos_val/still.mp4", np.repeat(scenery(5)[None], 12, axis=0))
    add_to_validation(still)
    assert checked(capsys, CONFIG, *tiny_overrides())[0] == 2
    (found,) = findings()
    assert (found["source"], found["split"], found["path"]) == ("kinetics400", "validation", str(still.absolute()))
    assert "an item of imagenet, train (" in found["what"] and found["what"].endswith("web.JPEG")
