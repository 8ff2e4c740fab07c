"""The command line: help, the order of arguments, exit codes, and a message instead of a traceback for each mistake."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from omnisource.cli.main import _parser, main, run
from omnisource.errors import UserError
from tests.support.media import truncate
from tests.support.miniature import (
    IMAGE_CLASSES,
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    VIDEO_CLASSES,
    make_class_folders,
    make_published_layout,
    own_data_overrides,
    tiny_overrides,
)

CONFIG = str(PUBLISHED_CONFIG)
TRAIN_LIST = "data/kinetics400/kinetics400_train_list_videos.txt"


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniature")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_data(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the miniature, to be damaged."""
    folder = shutil.copytree(miniature, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with exit code 2 and returns its message."""

    def message_of(*arguments: str) -> str:
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse's way
            code = end.code
        error = capsys.readouterr().err
        assert code == 2, error
        assert "Traceback" not in error
        assert "error: " in error
        return error

    return message_of


def python(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, env={**os.environ, **environment}
    )


# Help.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["omnisource"], ["train", "test", "predict", "show", "check", "lists", "runs", "watch", "demo", "--version"]),
        (["omnisource", "train"], ["CONFIG", "key=value", "--seed", "--deterministic", "--work-dir", "--resume"]),
        (["omnisource", "test"], ["CONFIG", "CHECKPOINT", "--dump", "--work-dir", "key=value"]),
        (["omnisource", "predict"], ["CHECKPOINT", "FILE", "--top", "--json", "--device", "--precision", "--workers"]),
        (["omnisource", "show"], ["CONFIG", "--keys"]),
        (["omnisource", "check"], ["CONFIG", "key=value"]),
        (["omnisource", "prepare"], ["SOURCE", "OUT", "--short-side", "--keyframe-interval", "--shard-size"]),
        (["omnisource", "lists"], ["kinetics", "folders"]),
        (["omnisource", "lists", "kinetics"], ["CSV", "VIDEOS", "--out", "--classes", "--overwrite"]),
        (["omnisource", "lists", "folders"], ["FOLDER", "--media", "--validation-share", "--group-pattern", "--seed"]),
        (["omnisource", "runs"], ["DIR", "--json"]),
        (["omnisource", "watch"], ["RUN", "--once"]),
        (["omnisource", "demo"], ["--work-dir"]),
        (["tools/train.py"], ["--cfg-options", "--amp", "--resume", "--no-validate", "--launcher", "--auto-scale-lr"]),
        (["tools/test.py"], ["--cfg-options", "--dump", "--show-dir", "--interval", "--wait-time", "--launcher"]),
    ],
    ids=" ".join,
)
def test_help_names_every_argument_and_imports_no_torch(arguments: list[str], words: list[str], project: Path) -> None:
    program = ["-m", "omnisource"] if arguments[0] == "omnisource" else [str(project / arguments[0])]
    result = python(["-X", "importtime", *program, *arguments[1:], "--help"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {' '.join(arguments)}")
    assert [word for word in words if word not in result.stdout] == []
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "omnisource.cli.main" in imported
    assert not imported & {"torch", "numpy", "av", "PIL", "rich", "matplotlib"}


def test_every_argument_has_a_help_text() -> None:
    def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for inner in action.choices.values():
                    yield from parsers(inner)

    unexplained = [
        f"{parser.prog}: {action.dest}"
        for parser in parsers(_parser())
        for action in parser._actions
        if not action.help and not isinstance(action.choices, dict)
    ]
    assert unexplained == []


# The order of arguments.


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", CONFIG, "seed=3", "num_epochs=2", "--keys"],
        ["show", "--keys", CONFIG, "seed=3", "num_epochs=2"],
        ["show", CONFIG, "--keys", "seed=3", "num_epochs=2"],
        ["show", CONFIG, "seed=3", "--keys", "num_epochs=2"],
    ],
)
def test_overrides_may_stand_before_and_after_flags(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "seed=3" in lines and "num_epochs=2" in lines


def test_seed_flag_goes_before_a_seed_in_the_overrides(in_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", CONFIG, "--seed", "7", *tiny_overrides(), "seed=3", "--work-dir", "run"]) == 0
    assert json.loads(Path("run/recipe.json").read_text())["seed"] == 7


# Mistakes in the arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["show"], "the following arguments are required: CONFIG\n"),
        (["test", CONFIG], "the following arguments are required: CHECKPOINT\n"),
        (["predict", "x.pt"], "the following arguments are required: FILE"),
        (["lists"], "the following arguments are required: KIND"),
        (["lists", "folders", "x"], "the following arguments are required: --media, --out"),
        (["lists", "folders", "x", "--media", "audio", "--out", "y"], "invalid choice: 'audio'"),
        (["lists", "folders", "x", "--media", "image", "--out", "y", "z=3"], "unrecognized arguments: z=3"),
        (["show", CONFIG, "--kyes"], "unrecognized arguments: --kyes"),
        (["show", CONFIG, "--kyes", "seed=3"], "unrecognized arguments: --kyes"),
        (["show", CONFIG, "--seed=3"], "unrecognized arguments: --seed=3"),
        (["train", CONFIG, "--work", "x"], "unrecognized arguments: --work"),
        (["show", CONFIG, "--key"], "unrecognized arguments: --key"),
        (["train", CONFIG, "--seed", "abc"], "argument --seed: abc: wants a whole number of at least 0"),
        (["train", CONFIG, "--seed", "-1"], "argument --seed: -1: wants a whole number of at least 0"),
        (["predict", "x.pt", "a.jpg", "--top", "0"], "argument --top: 0: wants a whole number of at least 1"),
        (["show", CONFIG, "seed"], "'seed': an override is written key=value"),
        (["show", CONFIG, "sed=3"], "unknown key sed. Did you mean seed?"),
        (["show", CONFIG, "--keys", "num_epochs=ten"], "num_epochs=ten: wants a whole number"),
        (["show", CONFIG, "num_epochs=0"], "num_epochs=0: must be at least 1"),
        (["test", CONFIG, "x.pt", "--dump", "scores.txt"], "--dump scores.txt: the file must end in .pkl or .pickle"),
        (["predict", "none.pt", "a.jpg"], "none.pt: there is no such file"),
    ],
    ids=lambda value: " ".join(value).replace(CONFIG, "CONFIG") if isinstance(value, list) else "",
)
def test_mistake_in_the_arguments_is_a_message(
    arguments: list[str], message: str, failing: Callable[..., str], in_empty_folder: Path
) -> None:
    assert message in failing(*arguments)


@pytest.mark.parametrize("command", ["show", "check", "train"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config.py: no such config file"),
        ("x = (\n", "config.py:1: not valid Python"),
        ("x = 1\n", "config.py: a config must build `recipe = Recipe(...)`"),
        ("\nraise KeyError('x')\n", "config.py:2: the config failed: KeyError: 'x'"),
    ],
    ids=["missing", "syntax", "no recipe", "failing"],
)
def test_bad_config_is_a_message(
    command: str, text: str | None, message: str, failing: Callable[..., str], in_empty_folder: Path
) -> None:
    if text is not None:
        Path("config.py").write_text(text)
    assert message in failing(command, "config.py")


def test_mistake_ends_the_real_process_with_code_2_and_no_traceback() -> None:
    result = python(["-m", "omnisource", "show", CONFIG, "model.dpeth=18"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown key model.dpeth. Did you mean model.depth?")
    assert "Traceback" not in result.stderr


# Mistakes in the data.


@pytest.mark.parametrize("command", [["train"], ["check"], ["test"]], ids=" ".join)
def test_missing_data_is_told_on_one_screen(
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


def test_missing_root_is_named(failing: Callable[..., str], in_data: Path) -> None:
    message = failing("train", CONFIG, *tiny_overrides(), "sources.imagenet.root=elsewhere/imagenet")
    assert "elsewhere/imagenet " in message and "sources.imagenet.root=" in message
    assert "kinetics400_train" not in message


def test_empty_source_is_refused(failing: Callable[..., str], in_data: Path) -> None:
    Path("data/imagenet/meta/train.txt").write_text("")
    message = failing("train", CONFIG, *tiny_overrides())
    assert "data/imagenet/meta/train.txt: the list is empty: source imagenet has no items" in message


def test_everything_wrong_with_a_list_is_told_at_once(failing: Callable[..., str], in_data: Path) -> None:
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


def test_unreadable_video_stops_the_training_and_is_named(failing: Callable[..., str], in_data: Path) -> None:
    video = next(Path("data/kinetics400/videos_train").rglob("*.mp4"))
    truncate(video, 0.3)
    message = failing("train", CONFIG, *tiny_overrides(), "--work-dir", "run")
    assert str(video) in message
    assert "1 unreadable, 0 permitted" in message and "max_unreadable=N" in message


def test_work_dir_that_cannot_be_made_is_a_message(failing: Callable[..., str], in_data: Path) -> None:
    Path("file").touch()
    assert "file" in failing("train", CONFIG, *tiny_overrides(), "--work-dir", "file/run")


# Making lists.


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
            "invalid float value: 'x'",
        ),
    ],
)
def test_mistake_in_making_lists_is_a_message(
    arguments: list[str], message: str, failing: Callable[..., str], in_data: Path
) -> None:
    assert message in failing(*arguments)
    assert not Path("x.txt").exists()


# How a command ends.


def test_user_error_becomes_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise UserError("x.txt:3: wrong")

    assert run(command) == 2
    assert capsys.readouterr().err == "error: x.txt:3: wrong\n"


def test_interrupt_becomes_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_error_of_the_file_system_is_a_message_that_names_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(lambda: len((tmp_path / "none").read_text())) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: No such file or directory\n"


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
    with pytest.raises(OSError, match="no file is to blame"):
        run(lambda: (_ for _ in ()).throw(OSError("no file is to blame")))


def test_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    # More than a pipe holds, so that the command is still writing when the reader leaves.
    code = (
        "import sys; from omnisource.cli.main import run; "
        "sys.exit(run(lambda: [print('line') for _ in range(10**6)] and 0))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=100) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


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
