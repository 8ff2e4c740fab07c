"""Long videos through the command line, with a recognizer that tells colors apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnisource.cli.main import main
from tests.support.media import truncate, write_image, write_video
from tests.support.tiny_checkpoints import save_untrained, untrained_recipe, untrained_recognizer

COLORS = {"down": (220, 40, 40), "left": (40, 200, 60), "right": (50, 80, 230)}
LENGTHS = {"left": 70, "down": 45, "right": 95}
NAMES = {"kinetics400": list(COLORS), "imagenet": ["0", "1", "2"]}


def colored(name: str, num_frames: int) -> np.ndarray:
    return np.broadcast_to(np.array(COLORS[name], np.uint8), (num_frames, 40, 48, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`colors.pt` names the color that is nearest by its features; `long.mp4` shows one after the other."""
    folder = tmp_path_factory.mktemp("long")
    recipe = untrained_recipe("label_spaces.kinetics400.head=image")
    recognizer = untrained_recognizer(recipe).eval()
    pixels = torch.tensor(list(COLORS.values()), dtype=torch.uint8)
    features = recognizer.features(pixels[:, :, None, None, None].expand(-1, -1, 2, 32, 32).contiguous(), "video")
    head = recognizer.heads["kinetics400"]
    head.bn.running_mean.zero_()
    means = head.bn(features).detach()
    scale = 12 / (means[:, None] - means).square().sum(dim=2).max()
    head.fc.weight.data = 2 * scale * means
    head.fc.bias.data = -scale * means.square().sum(dim=1)
    save_untrained(recipe, recognizer, folder / "colors.pt", NAMES)
    long = np.concatenate([colored(name, length) for name, length in LENGTHS.items()])
    write_video(folder / "long.mp4", long)
    write_video(folder / "short.mp4", colored("down", 9))
    truncate(write_video(folder / "cut.mp4", colored("down", 9)), 0.1)
    write_image(folder / "image.jpg", colored("down", 1)[0])
    return folder


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_borders_of_concatenated_clips_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(folder / "colors.pt"), str(folder / "long.mp4"), "--windows", "--json"]
    for window in ([], ["--window-seconds", "0.5"], ["--window-seconds", "0.8", "--stride-seconds", "0.1"]):
        assert main([*arguments, *window]) == 0
        lines = lines_of(capsys.readouterr().out)
        assert [line["class_name"] for line in lines] == list(LENGTHS)
        assert (lines[0]["start_frame"], lines[-1]["end_frame"], lines[-1]["end_seconds"]) == (0, 210, 7.0)
        for line, border in zip(lines[1:], (70, 115), strict=True):
            assert abs(line["start_frame"] - border) <= 8
            assert line["start_seconds"] == pytest.approx(line["start_frame"] / 30, abs=1e-3)
    assert main([*arguments, "--threshold", "down=1", "--threshold", "0.2"]) == 0
    assert [line["class_name"] for line in lines_of(capsys.readouterr().out)] == ["left", "right"]
    assert main([*arguments, "--window-seconds", "0.5", "--min-seconds", "2"]) == 0
    assert [line["class_name"] for line in lines_of(capsys.readouterr().out)] == ["left", "right"]


def test_results_of_many_videos_are_written_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "results.jsonl", tmp_path / "segments.csv"
    flags = ["--windows", "--out", str(out), "--csv", str(table), "--timeline", str(tmp_path / "timelines")]
    checkpoint = str(folder / "colors.pt")
    assert main(["predict", checkpoint, str(folder / "short.mp4"), *flags]) == 0
    assert "0:00:00.00 to 0:00:00.30" in capsys.readouterr().out
    assert main(["predict", checkpoint, str(folder), *flags]) == 2
    said = capsys.readouterr()
    assert "short.mp4" not in said.out and "long.mp4" in said.out
    assert "image.jpg: an image; --windows takes videos" in said.err and "cut.mp4: " in said.err
    assert "2 of 4 files could not be read to their end" in said.err
    before = out.read_bytes()
    entries = lines_of(out.read_text())[1:]
    assert [Path(entry["path"]).name for entry in entries] == ["short.mp4", "cut.mp4", "image.jpg", "long.mp4"]
    rows = list(csv.DictReader(table.open()))
    assert [row["class_name"] for row in rows] == ["down", "left", "down", "right"]
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "timelines").iterdir()) == ["long", "short"]
    assert main(["predict", checkpoint, str(folder), *flags]) == 2
    assert out.read_bytes() == before and "2 of 4 files" in capsys.readouterr().err


def test_plain_predictions_go_on_and_features_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "results.jsonl", str(folder / "colors.pt")
    assert main(["predict", checkpoint, str(folder / "image.jpg"), "--out", str(out)]) == 0
    assert main(["predict", checkpoint, str(folder), "--out", str(out)]) == 2
    assert "1 of 4 files are in" in capsys.readouterr().err
    entries = {Path(entry["path"]).name: entry for entry in lines_of(out.read_text())[1:]}
    assert len(entries) == 4 and "error" in entries["cut.mp4"]
    assert entries["short.mp4"]["predictions"][0]["top"][0]["class"] == "down"
    assert main(["predict", checkpoint, str(folder), "--features", str(tmp_path / "f.npz")]) == 2
    assert main(["predict", checkpoint, str(folder), "--features", str(tmp_path / "v.npz"), "--each-view"]) == 2
    averaged, of_views = np.load(tmp_path / "f.npz"), np.load(tmp_path / "v.npz")
    assert [Path(path).name for path in averaged["paths"]] == ["image.jpg", "long.mp4", "short.mp4"]
    assert averaged["file_index"].tolist() == [0, 1, 2] and of_views["file_index"].tolist() == [0, *[1] * 6, *[2] * 6]
    means = [of_views["features"][of_views["file_index"] == number].mean(axis=0) for number in range(3)]
    np.testing.assert_allclose(averaged["features"], means, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--window-seconds", "2"], "--window-seconds is for long videos: give --windows, too"),
        (["--windows", "--threshold", "up=0.5"], "there is no class 'up'"),
        (["--windows", "--threshold", "half"], "must be a score from 0 to 1, or CLASS=SCORE"),
        (["--windows", "--features", "f.npz"], "--features goes with neither --windows nor --out"),
        (["--features", "f.txt"], "must end in .npz"),
        (["--each-view"], "--each-view is for --features"),
        (["--windows", "--csv", "image.jpg"], "image.jpg: exists already"),
        (["--out", "image.jpg"], "image.jpg: exists already"),
        (["--features", "mine.npz"], "mine.npz: exists already"),
        (["--features", "gone/f.npz"], "gone: there is no such folder, which f.npz is to lie in"),
        (["--windows", "--csv", "gone/s.csv"], "gone: there is no such folder, which s.csv is to lie in"),
        (["--windows", "--timeline", "image.jpg"], "image.jpg: exists already and is no folder"),
        (["--windows", "--timeline", "gone/t"], "gone: there is no such folder"),
        (["--windows", "--out", "gone/r.jsonl"], "gone/r.jsonl: No such file or directory"),
    ],
)
def test_mistakes_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "mine.npz").write_text("mine")
    before = sorted(folder.iterdir())
    assert main(["predict", "colors.pt", "short.mp4", *flags]) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out  # before the work
    assert sorted(folder.iterdir()) == before and (folder / "mine.npz").read_text() == "mine"
    (folder / "mine.npz").unlink()
