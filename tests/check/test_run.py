"""A whole check: what it reads, what it finds in lists and files, and where its report goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.data.shards.write import ShardFile, write_shards
from tests.support.checking import (
    CONFIG,
    IMAGENET,
    REPORT,
    SHARDS_CONFIG,
    TRAIN_LIST,
    VALIDATION_LIST,
    checked,
    findings,
    report,
    split_summary,
)
from tests.support.media import scenery, truncate, write_image
from tests.support.miniature import OWN_DATA_CONFIG, own_data_overrides, tiny_overrides

pytestmark = pytest.mark.usefixtures("in_data")


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
def test_bad_lines_and_bad_files_are_all_reported(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
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


def test_missing_folder_of_one_source_does_not_hide_what_is_wrong_with_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = next(Path("data/imagenet/train").rglob("*.JPEG"))
    truncate(image, 0.5)
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "sources.kinetics400.root=elsewhere")
    assert code == 2
    assert "elsewhere/videos_train" in text and "docs/data.md" in text
    assert f"{image}: " in text and "15 files read" in text


def test_missing_folders_of_all_sources_are_reported_before_reading(
    capsys: pytest.CaptureFixture[str],
) -> None:
    roots = ["sources.kinetics400.root=elsewhere", "sources.imagenet.root=nowhere"]
    assert main(["check", CONFIG, *tiny_overrides(), *roots]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "elsewhere/videos_train" in output.err and "docs/data.md" in output.err


def test_lists_of_which_no_file_is_there_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (TRAIN_LIST, VALIDATION_LIST, IMAGENET / "meta/train.txt"):
        path.write_text("none 0\n")
    code, text = checked(capsys, CONFIG, *tiny_overrides())
    assert code == 2 and "0 files read" in text and text.splitlines()[-1] == "3 problems"
    assert split_summary("kinetics400", "train")["items"] == 0


def test_report_goes_where_it_is_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(), "--report", str(tmp_path / "my report"))
    assert code == 0 and str(tmp_path / "my report") in text
    assert report(tmp_path / "my report")["errors"] == 0
    assert not REPORT.exists()


@pytest.mark.parametrize(
    "name", ["report.json", "report.txt", "duplicates.png", "class_histogram_x.png", "journal.jsonl"]
)
def test_files_of_others_are_not_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("my own")
    assert main(["check", CONFIG, *tiny_overrides(), "--report", str(tmp_path / "mine")]) == 2
    assert name in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "my own"


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


def test_links_with_other_labels_are_errors_and_what_is_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    classes = sorted(Path("my_data/videos/train").iterdir())
    first = sorted(classes[0].iterdir())[0]
    folder = Path("work_dirs/own_data/check")
    checked(capsys, str(OWN_DATA_CONFIG), *own_data_overrides())
    before = report(folder)["training_duplicates"]["differing_labels"]
    (classes[1] / "link.mp4").symlink_to(first.absolute())
    (classes[1] / "notes.txt").touch()
    code, text = checked(capsys, str(OWN_DATA_CONFIG), *own_data_overrides())
    assert code == 2
    (found,) = [one for one in report(folder)["findings"] if one["kind"] == "two_labels"]
    assert f"{classes[1].name}/link.mp4 has the label 1, and {classes[0].name}/{first.name}" in found["what"]
    assert "that are no videos, left out: 1 (1 .txt)" in text
    assert report(folder)["splits"][0]["duplicates"] == 2
    assert report(folder)["training_duplicates"]["differing_labels"] == before + 1
