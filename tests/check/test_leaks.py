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


def test_validation_list_that_is_the_training_list_is_found_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    lines = len(TRAIN_LIST.read_text().splitlines())
    the_same = [
        "sources.kinetics400.validation.folder=videos_train",
        f"sources.kinetics400.validation.list={TRAIN_LIST.name}",
    ]
    code, text = checked(capsys, CONFIG, *tiny_overrides(more=the_same))
    assert code == 2 and f"{lines} problems" in text and "nothing is wrong" not in text
    assert {finding["what"] for finding in findings("duplicate")} == {"is an item of kinetics400, train, too"}
    assert split_summary("kinetics400", "validation")["duplicates"] == lines


def test_test_items_on_which_the_best_checkpoint_is_chosen_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert "kinetics400, test: has no list of its own; tests take the validation items, on which best.pt is" in text
    assert "imagenet: nothing is held out; it is neither validated nor tested" in text
    shutil.copytree(KINETICS / "videos_val", KINETICS / "videos_test")
    own = [
        "sources.kinetics400.test.folder=videos_test",
        f"sources.kinetics400.test.list={VALIDATION_LIST.name}",
    ]
    code, text = checked(capsys, CONFIG, *tiny_overrides(more=own))
    count = len(VALIDATION_LIST.read_text().splitlines())
    (found,) = findings()
    assert code == 0 and "nothing is wrong, 1 warning" in text
    assert (found["kind"], found["severity"], found["split"]) == ("chosen_on", "warning", "test")
    assert found["what"].startswith(f"{count} of {count} test items are validation items of kinetics400, on which")
    never_chosen = [*own, "validation.interval_epochs=0"]
    assert checked(capsys, CONFIG, *tiny_overrides(more=never_chosen))[0] == 0 and not findings()


FRAMES_CONFIG = """
from omnisource import ClipSampling, LabelSpace, Recipe, Source, Split

folders = {{"format": "frames_folder", "frame_template": "img_{{:05d}}.jpg"}}
recipe = Recipe(
    label_spaces={{"v": LabelSpace(head="video", num_classes=1), "i": LabelSpace(head="image", num_classes=1)}},
    sources={{
        "videos": Source(
            media="video", label_space="v", root=".", batch_size=1, sampling=ClipSampling(clip_length=2),
            train=Split(list="{trained}.txt", **folders), validation=Split(list="{held_out}.txt", **folders),
        ),
        "images": Source(
            media="image", label_space="i", root="elsewhere", train=Split(list="train.txt"), batch_size=1,
            validation=Split(list="val.txt"),
        ),
    }},
    main_source="videos", num_epochs=1, num_workers=0,
)
"""


@pytest.mark.parametrize("trained", ["a", "b"])
def test_frames_that_are_images_of_another_source_are_found_by_either_way(
    trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate("ab"):
        Path(name).mkdir()
        Path(f"{name}.txt").write_text(f"{name} 3 0\n")
        for frame in range(1, 4):
            write_image(Path(name) / f"img_{frame:05d}.jpg", scenery(20 * number + frame))
    Path("elsewhere").symlink_to(".")
    write_image(Path("c.jpg"), scenery(70))
    write_image(Path("b/cover_2.jpg"), scenery(80))
    Path("train.txt").write_text("b/img_00002.jpg 0\nb/img_00003.jpg 0\nb/cover_2.jpg 0\n")
    Path("val.txt").write_text("a/img_00001.jpg 0\nc.jpg 0\n")
    Path("config.py").write_text(FRAMES_CONFIG.format(trained=trained, held_out="ba"["ab".index(trained)]))
    code, _ = checked(capsys, "config.py", "--report", "report")
    found = [(one["source"], one["split"], one["what"]) for one in report(Path("report"))["findings"]]
    here = Path.cwd()
    expected = [
        ("videos", "validation", "its frame img_00002.jpg is an item of images, train, too"),
        ("images", "validation", f"is a frame of an item of videos, train: {here / 'a'}"),
    ]
    assert code == (2 if trained == "a" else 0) and found == (expected if trained == "a" else [])
