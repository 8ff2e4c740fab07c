"""`omnisource lists` on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.cli.main import main
from tests.support.miniature import IMAGE_CLASSES, VIDEO_CLASSES

TRAIN_LIST = "data/kinetics400/kinetics400_train_list_videos.txt"


def rows_of(path: str) -> list[tuple[str, str]]:
    """Returns (path, label) of every line of a list; a comma separates where names have blanks."""
    rows = [re.fullmatch(r"(.+)[ ,](\d+)", line) for line in Path(path).read_text().splitlines()]
    return [(row[1], row[2]) for row in rows if row]


def test_lists_of_folders_are_made_by_the_command(in_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["lists", "folders", "my_data/videos/train", "--media", "video", "--out", "train.txt"]
    held_out = ["--validation-share", "0.25", "--validation-out", "validation.txt", "--classes", "classes.txt"]
    assert main([*command, *held_out, "--seed", "1"]) == 0
    assert "train.txt" in capsys.readouterr().out
    assert Path("classes.txt").read_text().split(",")[0] == "moving down"
    train, validation = rows_of("train.txt"), rows_of("validation.txt")
    assert (len(train), len(validation)) == (9, 3)
    files = {str(path.relative_to("my_data/videos/train")) for path in Path("my_data/videos/train").rglob("*.mp4")}
    assert {path for path, _ in train + validation} == files
    assert [label for _, label in validation] == ["0", "1", "2"]
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_imagenet_list_made_by_the_command_is_the_published_one(in_data: Path) -> None:
    before = rows_of("data/imagenet/meta/train.txt")
    arguments = ["lists", "folders", "data/imagenet/train", "--media", "image", "--out", "data/imagenet/meta/train.txt"]
    assert main([*arguments, "--overwrite"]) == 0
    after = rows_of("data/imagenet/meta/train.txt")
    assert after == before and len(after) == 5 * len(IMAGE_CLASSES)


def test_kinetics_list_made_by_the_command_is_the_published_one(
    in_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{name},{name.replace(' ', '-')}0{clip},1,11,train\n" for name in VIDEO_CLASSES for clip in range(4)]
    header = "label,youtube_id,time_start,time_end,split\n"
    Path("train.csv").write_text(header + "".join(rows) + "moving right,goneaway,5,15,train\n")
    published = rows_of(TRAIN_LIST)
    arguments = ["lists", "kinetics", "train.csv", "data/kinetics400/videos_train", "--out", TRAIN_LIST]
    assert main([*arguments, "--classes", "classes.txt"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--classes", "classes.txt", "--overwrite"]) == 0
    assert rows_of(TRAIN_LIST) == published
    assert "1 of 13 clips are missing" in capsys.readouterr().out
    assert Path(TRAIN_LIST.replace(".txt", ".missing.txt")).read_text() == "goneaway_000005_000015.mp4\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lists", "kinetics", "none.csv", "data", "--out", "x.txt"], "none.csv"),
        (["lists", "folders", "none", "--media", "image", "--out", "x.txt"], "none"),
        (["lists", "folders", "my_data/videos/train", "--media", "image", "--out", "x.txt"], "my_data/videos/train"),
        (
            [
                "lists",
                "folders",
                "my_data/images/train",
                "--media",
                "image",
                "--out",
                "x.txt",
                "--validation-share",
                "2",
            ],
            "validation share 2.0",
        ),
        (
            [
                "lists",
                "folders",
                "my_data/images/train",
                "--media",
                "image",
                "--out",
                "x.txt",
                "--validation-share",
                "x",
            ],
            "x: wants a share, such as 0.2 or 20%",
        ),
    ],
)
def test_mistake_in_making_lists_is_a_message(
    arguments: list[str], message: str, failing: Callable[..., str], in_data: Path
) -> None:
    assert message in failing(*arguments)
    assert not Path("x.txt").exists()
