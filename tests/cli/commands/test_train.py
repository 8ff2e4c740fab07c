"""`omnisource train` on the command line: its flags, and data that is missing or wrong."""

from __future__ import annotations

import json
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from omnisource.cli.main import main
from tests.support.media import truncate
from tests.support.miniature import OWN_DATA_CONFIG, PUBLISHED_CONFIG, VIDEO_CLASSES, own_data_overrides, tiny_overrides

CONFIG = str(PUBLISHED_CONFIG)

TRAIN_LIST = "data/kinetics400/kinetics400_train_list_videos.txt"


def test_seed_flag_goes_before_a_seed_in_the_overrides(in_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", CONFIG, "--seed", "7", *tiny_overrides(), "seed=3", "--work-dir", "run"]) == 0
    assert json.loads(Path("run/recipe.json").read_text())["seed"] == 7
    page = Path("run/report.html").read_text()
    assert "report: run/report.html" in capsys.readouterr().out and "this run has none yet" in page
    assert "imagenet" in page and "kinetics400" in page and "not noted" not in page


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_signal_before_the_first_step_ends_the_command_and_says_that_nothing_is_lost(
    number: signal.Signals, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # under nohup and in the background they may be ignored
    try:
        Path("config.py").write_text(f"import signal\nsignal.raise_signal({int(number)})\n")
        assert main(["train", "config.py"]) == 128 + number
    finally:
        signal.signal(number, before)
    message = f"stopped by {number.name} before the first step: nothing is lost, and the same command starts again\n"
    assert capsys.readouterr().out == message
    assert [path.name for path in in_empty_folder.iterdir()] == ["config.py"]


@pytest.mark.parametrize("command", [["train"], ["check"], ["test"]], ids=" ".join)
def test_missing_data_is_reported_on_one_screen(
    command: list[str], failing: Callable[..., str], in_empty_folder: Path
) -> None:
    Path("checkpoint.pt").touch()
    message = failing(*command, CONFIG, *(["checkpoint.pt"] if command == ["test"] else []))
    assert f"{CONFIG}: the data is not here. Missing:" in message
    assert len(message.splitlines()) <= 15
    for name in ("data/kinetics400/videos_val", "kinetics400_val_list_videos.txt", "docs/data.md"):
        assert name in message
    assert ("data/imagenet/meta/train.txt" in message) == (command != ["test"])
    assert not Path("work_dirs").exists()


def test_missing_root_is_reported(failing: Callable[..., str], in_data: Path) -> None:
    message = failing("train", CONFIG, *tiny_overrides(), "sources.imagenet.root=elsewhere/imagenet")
    assert "elsewhere/imagenet " in message and "sources.imagenet.root=" in message
    assert "kinetics400_train" not in message


def test_empty_source_is_refused(failing: Callable[..., str], in_data: Path) -> None:
    Path("data/imagenet/meta/train.txt").write_text("")
    message = failing("train", CONFIG, *tiny_overrides())
    assert "data/imagenet/meta/train.txt: the list is empty: source imagenet has no items" in message


def test_everything_wrong_with_a_list_is_reported_at_once(failing: Callable[..., str], in_data: Path) -> None:
    lines = Path(TRAIN_LIST).read_text().splitlines()
    damaged = [lines[0], "", lines[1].rsplit(" ", 1)[0] + " 9", "none.mp4 0", "word", lines[0], *lines[6:]]
    Path(TRAIN_LIST).write_text("\n".join(damaged) + "\n")
    message = failing("train", CONFIG, *tiny_overrides())
    for number, what in (
        (2, "empty"),
        (3, "label 9 is outside"),
        (4, "none.mp4"),
        (5, ""),
        (6, "same item as in line 1"),
    ):
        assert any(f"{TRAIN_LIST}:{number}: " in line and what in line for line in message.splitlines()), number


def test_unreadable_video_stops_the_training_and_is_reported(failing: Callable[..., str], in_data: Path) -> None:
    video = next(Path("data/kinetics400/videos_train").rglob("*.mp4"))
    truncate(video, 0.3)
    message = failing("train", CONFIG, *tiny_overrides(), "--work-dir", "run")
    assert str(video) in message
    assert "1 unreadable, 0 permitted" in message and "max_unreadable=N" in message


def test_work_dir_that_cannot_be_made_is_a_message(failing: Callable[..., str], in_data: Path) -> None:
    Path("file").touch()
    assert "file" in failing("train", CONFIG, *tiny_overrides(), "--work-dir", "file/run")


def test_example_config_trains_and_tests_through_the_command_line(
    in_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, overrides = str(OWN_DATA_CONFIG), own_data_overrides()
    assert main(["train", config, *overrides, "--work-dir", "run", "num_epochs=2"]) == 0
    best = "run/checkpoints/best.pt"
    assert main(["test", config, best, *overrides, "--dump", "scores.pkl"]) == 0
    assert Path("run/checkpoints/test/videos/per_class.csv").is_file()
    scores = pickle.loads(Path("scores.pkl").read_bytes())
    assert [int(item["gt_label"]) for item in scores] == [0, 0, 1, 1, 2, 2]
    assert all(item["key"].split("/")[0] == list(VIDEO_CLASSES)[int(item["gt_label"])] for item in scores)
    capsys.readouterr()
    assert main(["train", config, *overrides, "--work-dir", "run"]) == 2
    assert "--resume auto" in capsys.readouterr().err
