"""`omnisource check`: reads every list and every file, and says all that is wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnisource.cli.main import main
from omnisource.data.shards.write import ShardFile, write_shards
from tests.support.holding import held_at_file
from tests.support.http_server import serving
from tests.support.media import moving_square, scenery, truncate, write_frames, write_image, write_video
from tests.support.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    make_class_folders,
    make_published_layout,
    own_data_overrides,
    tiny_overrides,
)

CONFIG = str(PUBLISHED_CONFIG)
KINETICS, IMAGENET = Path("data/kinetics400"), Path("data/imagenet")
TRAIN_LIST = KINETICS / "kinetics400_train_list_videos.txt"
VALIDATION_LIST = KINETICS / "kinetics400_val_list_videos.txt"
REPORT = Path("work_dirs") / PUBLISHED_CONFIG.stem / "check"

PATIENCE_SECONDS = 100.0
"""Time for a process to end that has been told to: enough on any machine."""


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture(autouse=True)
def in_data(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(miniature, tmp_path / "copy"))


def report(folder: Path = REPORT) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def findings(kind: str | None = None) -> list[dict[str, str]]:
    return [finding for finding in report()["findings"] if kind in (None, finding["kind"])]


def split_summary(source: str, split: str) -> dict[str, Any]:
    return next(one for one in report()["splits"] if (one["source"], one["split"]) == (source, split))


def journal(folder: Path = REPORT) -> list[dict[str, Any]]:
    """Returns the lines of the journal after the first."""
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]


def first_clip() -> Path:
    return KINETICS / "videos_train" / TRAIN_LIST.read_text().splitlines()[0].rsplit(" ", 1)[0]


def add_to_validation(*paths: Path) -> None:
    """Adds files, which are below the validation folder, to the validation list."""
    with VALIDATION_LIST.open("a") as file:
        file.writelines(f"{path.relative_to(KINETICS / 'videos_val')} 0\n" for path in paths)


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["check", *arguments])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_without_faults_passes(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_workers=num_workers))
    lines = text.splitlines()
    assert lines[:3] == [
        "source kinetics400, train: 12 items of 3 of 3 classes, 0 problems in the list",
        "source kinetics400, validation: 6 items of 3 of 3 classes, 0 problems in the list",
        "source imagenet, train: 15 items of 3 of 3 classes, 0 problems in the list",
    ]
    assert "33 files read" in lines and lines[-1] == "nothing is wrong"
    assert code == 0


def test_class_folders_without_faults_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(capsys, str(OWN_DATA_CONFIG), *own_data_overrides())
    assert (code, text.splitlines()[-1]) == (0, "nothing is wrong")
    assert "source images, validation: 6 items of 3 of 3 classes, 0 problems in the list" in text


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_lines_and_bad_files_are_all_told(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    lines = TRAIN_LIST.read_text().splitlines()
    first, second, third, fourth = (line.rsplit(" ", 1)[0] for line in lines[:4])
    TRAIN_LIST.write_text("\n".join([lines[0], "", f"{second} 9", "none.mp4 0", lines[0], *lines[2:]]) + "\n")
    truncate(Path("data/kinetics400/videos_train") / third, 0.2)
    (Path("data/kinetics400/videos_train") / fourth).write_bytes(b"")
    image = sorted(Path("data/imagenet/train").rglob("*.JPEG"))[7]
    truncate(image, 0.5)

    code, text = checked(capsys, CONFIG, *tiny_overrides(num_workers=num_workers))
    assert code == 2
    assert text.splitlines()[-1] == "7 problems"
    problems = [finding["path"] + ": " * bool(finding["path"]) + finding["what"] for finding in findings()]
    assert all(problem in text for problem in problems)
    for wanted in (
        f"{TRAIN_LIST}:2: ",
        f"{TRAIN_LIST}:3: label 9 is outside the classes (allowed: 0 to 2)",
        f"{TRAIN_LIST}:4: ",
        f"{TRAIN_LIST}:5: the same item as in line 1: {first}",
        f"{Path('data/kinetics400/videos_train').absolute() / third}: ",
        f"{Path('data/kinetics400/videos_train').absolute() / fourth}: ",
        f"{image.absolute()}: ",
    ):
        assert any(problem.startswith(wanted) for problem in problems), (wanted, problems)
    assert len(problems) == 7
    # 13 items: the line that stands there twice was read twice, the one without a file is none.
    assert "source kinetics400, train: 13 items of 3 of 3 classes, 4 problems in the list" in text


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


def test_class_without_items_is_counted_and_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_classes=5))
    assert code == 0
    assert "source kinetics400, train: 12 items of 3 of 5 classes" in text


def test_missing_folder_of_one_source_does_not_hide_what_is_wrong_with_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = next(Path("data/imagenet/train").rglob("*.JPEG"))
    truncate(image, 0.5)
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "sources.kinetics400.root=elsewhere")
    assert code == 2
    assert "elsewhere/videos_train" in text and "docs/data.md" in text
    assert f"{image}: " in text and "15 files read" in text


def test_missing_folders_of_all_sources_are_told_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    roots = ["sources.kinetics400.root=elsewhere", "sources.imagenet.root=nowhere"]
    assert main(["check", CONFIG, *tiny_overrides(), *roots]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "elsewhere/videos_train" in output.err and "docs/data.md" in output.err


def test_raw_frames_of_two_sizes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("data/kinetics400/videos_train/raw")
    write_frames(folder, moving_square(3, 40, 48, seed=1))
    write_image(folder / "img_00003.jpg", moving_square(1, 32, 48, seed=1)[0])
    Path("data/kinetics400/raw.txt").write_text("raw 3 0\n")
    raw = ["sources.kinetics400.train.list=raw.txt", "sources.kinetics400.train.format=frames_folder"]
    code, text = checked(capsys, CONFIG, *tiny_overrides(), *raw)
    assert code == 2
    assert "img_00003.jpg: its size 48x32 is not that of img_00002.jpg, 48x40" in text


def test_report_says_the_same_for_programs_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    image = next((IMAGENET / "train").rglob("*.JPEG"))
    image.write_bytes(b"no picture")
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_classes=4))
    assert code == 2
    found = report()
    assert (found["format"], found["version"], found["config"]) == ("omnisource check report", 1, CONFIG)
    assert (found["errors"], found["warnings"], found["files"]) == (1, 0, {"all": 33, "taken_over": 0})
    assert "num_workers=0" in found["overrides"]
    assert findings() == [
        {
            "severity": "error",
            "kind": "unreadable",
            "source": "imagenet",
            "split": "train",
            "path": str(image.absolute()),
            "what": findings()[0]["what"],
        }
    ]
    images = split_summary("imagenet", "train")
    assert (images["items"], images["unreadable"], images["media"]) == (15, 1, "image")
    assert images["class_counts"] == {"0": 5, "1": 5, "2": 5, "3": 0}
    assert images["class_sizes"] == {"least": 0, "median": 5.0, "greatest": 5, "empty": ["3"]}
    clips = split_summary("kinetics400", "train")
    assert clips["frames"] == {"least": 12, "median": 12.0, "greatest": 12}
    assert clips["short_sides"] == {"least": 40, "median": 40.0, "greatest": 40}
    people = (REPORT / "report.txt").read_text()
    assert f"error: unreadable: {image.absolute()}: " in people and "classes of imagenet, train: 0 to 5 items" in people
    assert f"{image.absolute()}: " in text and str(REPORT / "report.txt") in text


def test_screen_is_cut_and_the_report_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    TRAIN_LIST.write_text(TRAIN_LIST.read_text() + "".join(f"none_{number}.mp4 0\n" for number in range(60)))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and text.count("missing file") == 20
    assert f"... and 40 more in {REPORT / 'report.txt'}" in text and text.splitlines()[-1] == "60 problems"
    assert len(findings("list")) == 60
    assert (REPORT / "report.txt").read_text().count("missing file") == 60


def test_report_goes_where_it_is_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--report", str(tmp_path / "my report"))
    assert code == 0 and str(tmp_path / "my report") in text
    assert report(tmp_path / "my report")["errors"] == 0
    assert not REPORT.exists()


def test_class_histogram_of_each_source_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    checked(capsys, CONFIG, *tiny_overrides())
    for source, panels in (("kinetics400", 2), ("imagenet", 1)):
        with Image.open(REPORT / f"class_histogram_{source}.png") as picture:
            assert picture.width > 400 * panels


@pytest.mark.parametrize(
    "name", ["report.json", "report.txt", "duplicates.png", "class_histogram_x.png", "journal.jsonl"]
)
def test_files_of_somebody_else_are_not_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("my own")
    assert main(["check", CONFIG, *tiny_overrides(), "--report", str(tmp_path / "mine")]) == 2
    assert name in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "my own"


def test_second_check_reads_what_has_changed_and_says_what_it_took_over(capsys: pytest.CaptureFixture[str]) -> None:
    clip = first_clip()
    truncate(clip, 0.5)
    assert checked(capsys, CONFIG, *tiny_overrides())[0] == 2
    before = report()
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and "0 files read" in text and "33 files taken over" in text
    assert report() == {**before, "files": {"all": 33, "taken_over": 33}}
    assert len(journal()) == 33

    write_video(clip, moving_square(12, 40, 48, seed=7))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and "1 file read" in text and "32 files taken over" in text
    assert "damaged lines" not in text
    lines = (REPORT / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (REPORT / "journal.jsonl").write_bytes(b"".join([*lines[:5], b"\0" * 50 + b"\n", *lines[6:]]))
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and "1 damaged lines are left out" in text
    (REPORT / "journal.jsonl").unlink()
    assert "33 files read" in checked(capsys, CONFIG, *tiny_overrides())[1]


def test_file_that_took_too_long_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (TRAIN_LIST, VALIDATION_LIST, IMAGENET / "meta/train.txt"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    code, _ = checked(capsys, CONFIG, *tiny_overrides(num_workers=1), "item_timeout_seconds=0.000001")
    slow = [finding["path"] for finding in findings("unreadable") if "took longer" in finding["what"]]
    assert code == 2 and slow
    code, _ = checked(capsys, CONFIG, *tiny_overrides(num_workers=1))
    assert code == 0 and report()["files"] == {"all": 3, "taken_over": 3 - len(slow)}


NUM_FILES, NUM_BEFORE = 33, 12 + 3
"""Files of all lists, and those before the one at which a check is held."""


def started(
    project: Path,
    *arguments: str,
    config: str = CONFIG,
    folder: Path = REPORT,
    num_read: int = 9,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Returns a check that has read some files, and is going on."""
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", **(variables or {})}
    command = [sys.executable, "-m", "omnisource", "check", config, *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = folder / "journal.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < 1 + num_read:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def held(project: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Returns a check that has read some files and does not come to its end: it waits at one in the middle."""
    name = VALIDATION_LIST.read_text().splitlines()[NUM_BEFORE - 12].rsplit(" ", 1)[0]
    return started(project, *arguments, variables=held_at_file(folder / "held", name))


def test_check_goes_on_after_it_was_killed(capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path) -> None:
    process = held(project, tmp_path, *tiny_overrides(num_workers=1))
    process.kill()
    process.communicate()
    kept = (REPORT / "journal.jsonl").read_bytes().count(b"\n") - 1
    assert 9 <= kept <= NUM_BEFORE
    with (REPORT / "journal.jsonl").open("ab") as file:
        file.write(b'{"file": {"path": "torn')
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0 and f"{NUM_FILES - kept} files read" in text
    assert report()["files"] == {"all": NUM_FILES, "taken_over": kept}
    assert len(journal()) == len({line["file"]["path"] for line in journal()}) == NUM_FILES


@pytest.mark.parametrize(("number", "num_workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 0), (signal.SIGUSR1, 0)])
def test_check_that_is_asked_to_stop_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path, number: signal.Signals, num_workers: int
) -> None:
    flags = ["--report", str(REPORT), "--pictures", "my sheets"]
    process = held(project, tmp_path, *tiny_overrides(num_workers=num_workers), *flags)
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number and "Traceback" not in errors
    kept = len(journal())
    assert 9 <= kept <= NUM_BEFORE and not (REPORT / "report.json").exists()
    words = shlex.split(output.splitlines()[-1].removeprefix("continue with: omnisource "))
    assert words == ["check", CONFIG, *tiny_overrides(num_workers=num_workers), *flags]
    assert main(words) == 0
    capsys.readouterr()
    assert report()["files"] == {"all": NUM_FILES, "taken_over": kept}


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


def test_container_that_promises_more_frames_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    cut = truncate(write_video(KINETICS / "videos_val/cut.avi", moving_square(40, 40, 48), "mjpeg"), 0.6)
    add_to_validation(cut)
    code, _ = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 0
    (found,) = findings()
    assert (found["kind"], found["path"]) == ("wrong_count", str(cut.absolute()))
    assert found["what"].startswith("its container declares 40 frames, ")


def test_training_samples_are_drawn_before_the_files_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheets = tmp_path / "sheets"
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--pictures", str(sheets))
    assert code == 0 and sorted(path.name for path in sheets.iterdir()) == ["imagenet.png", "kinetics400.png"]
    assert text.index(str(sheets / "imagenet.png")) < text.index("33 files read")
    before = (sheets / "imagenet.png").read_bytes()
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "seed=5", "--pictures", str(sheets))
    assert code == 0 and str(sheets / "imagenet.png") in text
    assert (sheets / "imagenet.png").read_bytes() != before


def test_pictures_of_somebody_else_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "imagenet.png").write_bytes(b"mine")
    assert main(["check", CONFIG, *tiny_overrides(), "--pictures", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "move it away, or name another folder" in output.err
    assert (tmp_path / "imagenet.png").read_bytes() == b"mine"
    assert not REPORT.exists() and not (tmp_path / "kinetics400.png").exists()


def test_lists_with_mistakes_are_checked_although_no_training_samples_can_be_drawn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    TRAIN_LIST.write_text(TRAIN_LIST.read_text() + "none.mp4 0\n")
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--pictures", str(tmp_path / "sheets"))
    assert code == 2 and "missing file" in text and text.splitlines()[-1] == "1 problem"


SHARDS_CONFIG = """
from omnisource import LabelSpace, Recipe, Source, TarShards

recipe = Recipe(
    label_spaces={"things": LabelSpace(head="image", num_classes=2)},
    sources={
        "things": Source(
            media="image",
            label_space="things",
            root=".",
            train=TarShards(("train-{000000..000001}.tar",)),
            validation=TarShards(("validation-000000.tar",)),
            batch_size=2,
        )
    },
    main_source="things",
    num_epochs=1,
    num_workers=0,
)
"""


def test_files_in_shards_are_checked_and_taken_over_like_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [write_image(tmp_path / f"{seed}.png", scenery(seed)) for seed in range(8)]
    truncate(paths[3], 0.5)
    train = [ShardFile(path, path.name, number % 2) for number, path in enumerate(paths)]
    assert len(write_shards(train, tmp_path, "train", 5 * paths[0].stat().st_size)) == 2
    held_out = [write_image(tmp_path / "other.png", scenery(100)), Path(shutil.copy(paths[5], "same.png"))]
    write_shards([ShardFile(path, path.name, 0) for path in held_out], tmp_path, "validation", 10**9)
    Path("shards.py").write_text(SHARDS_CONFIG)
    for taken_over in (0, 10):
        code, text = checked(capsys, "shards.py", "--report", "check")
        assert code == 2 and "source things, train: 8 items of 2 of 2 classes, 0 problems in the list" in text
        found = report(Path("check"))
        assert found["files"] == {"all": 10, "taken_over": taken_over}
        (unreadable, duplicate) = found["findings"]
        assert unreadable["kind"] == "unreadable" and "train-000000.tar::" in unreadable["path"]
        assert duplicate["kind"] == "duplicate" and duplicate["path"].endswith("same.png")
        assert "has the same bytes as an item of things, train: " in duplicate["what"]
    os.utime("validation-000000.tar")
    checked(capsys, "shards.py", "--report", "check")
    assert report(Path("check"))["files"] == {"all": 10, "taken_over": 8}


def test_file_that_takes_long_holds_back_nothing_that_is_read_after_it(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNISOURCE_CACHE", str(tmp_path / "cache"))
    files = [ShardFile(write_image(tmp_path / f"{seed}.png", scenery(seed)), f"{seed}.png", 0) for seed in range(20)]
    for number, of_shard in enumerate((files[:1], files[1:18])):
        write_shards(of_shard, tmp_path / "all", f"train-{number}", 10**9)
    write_shards(files[18:], tmp_path, "validation", 10**9)
    report_folder = Path("check")
    with serving(tmp_path / "all") as server:
        shards = f"{server.url}/train-{{0..1}}-000000.tar"
        Path("shards.py").write_text(SHARDS_CONFIG.replace("train-{000000..000001}.tar", shards))
        server.stuck = ("train-0-000000.tar",)  # with the first file of all
        arguments = ("num_workers=2", "--report", str(report_folder))
        # All but that one and, perhaps, one that its worker was given to be the next.
        process = started(project, *arguments, config="shards.py", folder=report_folder, num_read=20 - 2)
        process.kill()
        process.communicate()
        kept = [line["file"]["path"] for line in journal(report_folder)]
        assert 20 - 2 <= len(kept) < 20 and not any(path.endswith("train-0-000000.tar") for path in kept)
        server.stuck = ()
        assert checked(capsys, "shards.py", *arguments)[0] == 0
        after_kill = report(report_folder)
        assert after_kill["files"] == {"all": 20, "taken_over": len(kept)}
        (report_folder / "journal.jsonl").unlink()
        checked(capsys, "shards.py", *arguments)
        assert report(report_folder) == {**after_kill, "files": {"all": 20, "taken_over": 0}}


def test_lists_of_which_no_file_is_there_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (TRAIN_LIST, VALIDATION_LIST, IMAGENET / "meta/train.txt"):
        path.write_text("none 0\n")
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and "0 files read" in text and text.splitlines()[-1] == "3 problems"
    assert split_summary("kinetics400", "train")["items"] == 0


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
