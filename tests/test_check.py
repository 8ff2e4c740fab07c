"""`omnisource check`: reads every list and every file, and says all that is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from omnisource.cli import main
from tests.media import moving_square, truncate, write_frames, write_image
from tests.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    make_class_folders,
    make_published_layout,
    own_data_overrides,
    tiny_overrides,
)

CONFIG = str(PUBLISHED_CONFIG)
TRAIN_LIST = Path("data/kinetics400/kinetics400_train_list_videos.txt")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture(autouse=True)
def in_data(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(miniature, tmp_path / "copy"))


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["check", *arguments])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.out


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_without_faults_passes(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    code, text = checked(capsys, CONFIG, *tiny_overrides(num_workers=num_workers))
    assert text.splitlines() == [
        "source kinetics400, train: 12 items of 3 of 3 classes, 0 problems in the list",
        "source kinetics400, validation: 6 items of 3 of 3 classes, 0 problems in the list",
        "source imagenet, train: 15 items of 3 of 3 classes, 0 problems in the list",
        "33 files read",
        "nothing is wrong",
    ]
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
    problems = text.splitlines()[4:]
    assert problems.pop() == "7 problems"
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


def test_file_of_two_lists_is_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [
        "sources.kinetics400.validation.folder=videos_train",
        f"sources.kinetics400.validation.list={TRAIN_LIST.name}",
    ]
    code, text = checked(capsys, CONFIG, *tiny_overrides(more=overrides))
    assert code == 0 and "27 files read" in text


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
