"""`omnisource prepare` on the command line: its arguments, and what it prints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.data.datasets import read_items
from omnisource.recipe.data import Split
from tests.support.preparing import CONFIG, rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out"], "nowhere: is neither a folder, nor a list, nor a source of a config"),
        ([CONFIG, "out"], "name a source of this config, as"),
        ([f"{CONFIG}:ucf101", "out"], "no source 'ucf101'; its sources are kinetics400, imagenet"),
        (["my_data", "out", "num_epochs=3"], "num_epochs=3: only a source of a config"),
        (["my_data", "out", "--folder", "x"], "--folder x: is for lists"),
        (["my_data", "out", "--short-side", "255"], "255: wants an even number"),
        (["my_data", "out", "--keyframe-interval", "0"], "wants a whole number of at least 1"),
        (
            ["my_data", "out", "--shard-size", "lots"],
            "lots: wants a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as",
        ),
        (["my_data", "out", "--shard-size", "1GB"], "shards hold labels, and a folder has none"),
        (["bad.txt", "out"], "bad.txt:1: missing file"),
    ],
)
def test_mistake_in_the_arguments_is_a_message(
    in_data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("bad.txt").write_text("none.mp4 0\n")
    try:
        code = main(["prepare", *arguments])
    except SystemExit as end:  # argparse's way
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and "Traceback" not in error
    assert not Path("out").exists()


def test_source_of_a_config_with_overrides(in_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move("data/imagenet", "moved")
    arguments = ["prepare", f"{CONFIG}:imagenet", "out", "sources.imagenet.root=moved", "--short-side", "32"]
    assert main([*arguments, "--workers", "1"]) == 0
    output = capsys.readouterr().out
    assert "15 files, 0 of them from before" in output
    assert "meta/train.txt: 15 items" in output
    assert "train on them with sources.imagenet.root=OUT" in output


def test_list_with_a_folder(in_data: Path) -> None:
    kinetics = Path("data/kinetics400")
    arguments = ["prepare", str(kinetics / "kinetics400_val_list_videos.txt"), "out", "--short-side", "32"]
    assert main([*arguments, "--folder", str(kinetics / "videos_val"), "--workers", "1"]) == 0
    before, after = (
        read_items(str(folder), Split(list=str(Path(list_path).resolve())), "video", None, None, "x")
        for folder, list_path in (
            (kinetics / "videos_val", kinetics / "kinetics400_val_list_videos.txt"),
            ("out", "out/kinetics400_val_list_videos.txt"),
        )
    )
    assert rows(before) == rows(after) and len(after) == 6
