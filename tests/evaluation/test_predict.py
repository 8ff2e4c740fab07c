"""Predicting: from our own and published checkpoints, on images, videos and folders of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from omnisource.cli.main import main
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.evaluation.load import load
from omnisource.evaluation.predict import default_workers, media_files, predict
from omnisource.recipe.model import LabelSpace
from tests.support.media import truncate
from tests.support.miniature import write_clips, write_images
from tests.support.terminal import Terminal
from tests.support.tiny_checkpoints import (
    NAMES,
    save_both_formats,
    save_untrained,
    untrained_recipe,
    untrained_recognizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media, `own.pt` and `published.pth` with the same weights."""
    folder = tmp_path_factory.mktemp("predict")
    write_clips(folder / "media/videos", "moving left", 2)
    write_images(folder / "media", "n01440764", 2)
    write_images(folder / "many", "n01443537", 11)
    for clip in write_clips(folder / "clips", "moving right", 2):
        clip.rename(folder / "many" / f"n01443537_3_{clip.name}")  # between two images
    save_both_formats(folder)
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def video() -> str:
    return str(sorted(Path("media/videos").glob("*.mp4"))[0])


def image() -> str:
    return str(sorted(Path("media").glob("*.jpg"))[0])


def json_lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["predict", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_checkpoint_of_a_run_keeps_its_class_names(capsys: pytest.CaptureFixture[str]) -> None:
    of_video, of_image = json_lines(capsys, "own.pt", video(), image())
    assert (of_video["path"], of_video["media"], of_video["label_space"]) == (video(), "video", "kinetics400")
    assert (of_image["path"], of_image["media"], of_image["label_space"]) == (image(), "image", "imagenet")
    assert {entry["class"] for entry in of_video["top"]} == set(NAMES["kinetics400"])
    assert {entry["class"] for entry in of_image["top"]} == set(NAMES["imagenet"])
    for line in (of_video, of_image):
        scores = [entry["score"] for entry in line["top"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_scores_are_those_of_the_views_that_testing_averages(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = json_lines(capsys, "own.pt", video())
    recipe = untrained_recipe()
    source = recipe.sources["kinetics400"]
    request = SampleRequest("x", "video", video(), "x", 0, None, "", source.sampling, source.test_views)
    views = load_clip(request).frames
    assert views.shape == (6, 3, 2, 32, 32)  # 2 clips x 3 crops
    logits = untrained_recognizer(recipe).eval().video_logits(views)
    expected = dict(zip(NAMES["kinetics400"], logits.softmax(dim=1).mean(dim=0).tolist(), strict=True))
    assert {entry["class"]: entry["score"] for entry in line["top"]} == pytest.approx(expected, abs=1e-5)


def test_published_checkpoint_names_classes_by_index(capsys: pytest.CaptureFixture[str]) -> None:
    of_video, of_image = json_lines(capsys, "published.pth", video(), image())
    assert (of_video["label_space"], of_image["label_space"]) == ("video", "image")
    assert {entry["class"] for entry in of_video["top"] + of_image["top"]} == {"0", "1", "2"}


@pytest.mark.parametrize(("top", "count"), [("1", 1), ("2", 2), ("3", 3), ("99", 3)])
def test_top_names_that_many_classes_or_all(capsys: pytest.CaptureFixture[str], top: str, count: int) -> None:
    (line,) = json_lines(capsys, "own.pt", image(), "--top", top)
    assert len(line["top"]) == count


def test_text_output_names_file_label_space_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "own.pt", image(), "--top", "2"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"{image()} (imagenet)"
    assert len(others) == 2
    assert all(other.split()[0].endswith("%") and other.split()[1] in NAMES["imagenet"] for other in others)


def test_folder_stands_for_its_images_and_videos_in_alphabetical_order(capsys: pytest.CaptureFixture[str]) -> None:
    lines = json_lines(capsys, "own.pt", "media")
    paths = [line["path"] for line in lines]
    assert paths == sorted(paths) and len(paths) == 4
    assert [line["media"] for line in lines] == ["image", "image", "video", "video"]


def test_folder_is_walked_as_in_training(tmp_path: Path, folder: Path) -> None:
    inside = tmp_path / "in"
    (inside / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("a.JFIF", "._a.jpg", ".ipynb_checkpoints/a.jpg", "b.txt"):
        (inside / name).touch()
    (inside / "linked").symlink_to(folder / "media/videos")
    (inside / "linked again").symlink_to(inside)
    found = [os.path.relpath(file.path, inside) for file in media_files([str(inside)])]
    assert found == ["a.JFIF", *(f"linked/{path.name}" for path in sorted((folder / "media/videos").iterdir()))]
    (inside / "gone.mp4").symlink_to("/gone.mp4")  # told in its turn: the others are wanted all the same
    assert str(inside / "gone.mp4") in [file.path for file in media_files([str(inside)])]
    (inside / "gone").symlink_to("/gone")
    with pytest.raises(UserError, match=r"gone: is a link that leads nowhere, to /gone"):
        media_files([str(inside)])


def test_files_may_stand_on_both_sides_of_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "own.pt", image(), "--json", video()]) == 0
    paths = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert paths == [image(), video()]


def test_unreadable_files_are_reported_and_the_others_predicted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree("media", tmp_path / "m")
    clip, picture = sorted((tmp_path / "m/videos").iterdir())[0], sorted((tmp_path / "m").glob("*.jpg"))[0]
    truncate(clip, 0.2)
    picture.write_text("not an image")
    assert main(["predict", "own.pt", str(tmp_path / "m"), "--json"]) == 2
    output = capsys.readouterr()
    lines = {line["path"]: line for line in map(json.loads, output.out.splitlines())}
    assert len(lines) == 4
    assert {path for path, line in lines.items() if "error" in line} == {str(clip), str(picture)}
    assert sum("top" in line for line in lines.values()) == 2
    assert f"error: {clip}: " in output.err and f"error: {picture}: " in output.err
    assert "2 of 4 files could not be classified" in output.err
    assert "Traceback" not in output.err


def test_media_that_was_not_trained_on_is_reported_and_the_others_predicted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = untrained_recipe()
    only_videos = replace(
        recipe,
        label_spaces={"kinetics400": recipe.label_spaces["kinetics400"]},
        sources={"kinetics400": recipe.sources["kinetics400"]},
    )
    names = {"kinetics400": NAMES["kinetics400"]}
    path = save_untrained(only_videos, untrained_recognizer(only_videos), tmp_path / "v.pt", names)
    assert main(["predict", str(path), image(), video()]) == 2
    output = capsys.readouterr()
    assert f"error: {image()}: the recognizer was not trained on images, but on videos" in output.err
    assert output.out.startswith(f"{video()} (kinetics400)")


def test_every_head_of_a_media_speaks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = untrained_recipe()
    more = replace(recipe.sources["imagenet"], label_space="colors")
    recipe = replace(
        recipe,
        label_spaces={**recipe.label_spaces, "colors": LabelSpace("image", 2)},
        sources={**recipe.sources, "colors": more},
    )
    names = {**NAMES, "colors": ["warm", "cold"]}
    path = save_untrained(recipe, untrained_recognizer(recipe), tmp_path / "c.pt", names)
    lines = json_lines(capsys, str(path), image())
    assert [line["label_space"] for line in lines] == ["imagenet", "colors"]
    assert {entry["class"] for entry in lines[1]["top"]} == {"warm", "cold"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pt", "media"], "none.pt: "),
        (["own.pt", "none.mp4"], "none.mp4: no such file or folder"),
        (["own.pt", "own.pt"], "own.pt: neither an image nor a video by its suffix; known are .264 .265"),
        (["own.pt", "empty"], "empty: the folder has no images or videos"),
        (["cut.pt", "media"], "cut.pt: "),
        (["text.pth", "media"], "text.pth: "),
        (["backbone.pth", "media"], "a backbone without heads classifies nothing; train from it with model.weights="),
    ],
)
def test_mistake_is_a_message(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Path("empty").mkdir()
    truncate(shutil.copy("own.pt", "cut.pt"), 0.6)
    Path("text.pth").write_text("no weights")
    published = torch.load("published.pth", weights_only=True)["state_dict"]
    torch.save({"state_dict": {k: v for k, v in published.items() if k.startswith("backbone.")}}, "backbone.pth")
    assert main(["predict", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "Traceback" not in output.err
    assert output.err.startswith("error: ") and message in output.err


def test_file_whose_name_is_no_text_is_predicted_and_shown_escaped(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/b\xffd.jpg"
    try:
        shutil.copy(os.fsencode(image()), name)
    except OSError:
        pytest.skip("this file system takes no such name")
    result = subprocess.run(
        [sys.executable, "-m", "omnisource", "predict", "own.pt", str(tmp_path), "--json"],
        capture_output=True,
        timeout=100,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert result.returncode == 0, result.stderr
    assert os.fsencode(json.loads(result.stdout)["path"]) == name


def test_files_are_told_apart_by_their_suffix_in_any_case(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.Mp4", "c.txt", "d.webp"):
        (tmp_path / name).touch()
    found = [(Path(file.path).name, file.media) for file in media_files([str(tmp_path)])]
    assert found == [("a.JPG", "image"), ("b.Mp4", "video"), ("d.webp", "image")]


def test_many_files_are_decoded_in_workers_and_come_in_their_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree("many", tmp_path / "many")
    (tmp_path / "many/n01443537_10.jpg").write_text("not an image")
    found = {}
    for workers in ([], ["--workers", "0"]):
        assert main(["predict", "own.pt", str(tmp_path / "many"), "--json", *workers]) == 2
        output = capsys.readouterr()
        assert "predicting" in output.err and "13/13" in output.err
        assert "1 of 13 files could not be classified" in output.err
        found[len(workers)] = [json.loads(line) for line in output.out.splitlines()]
    in_workers, here = found.values()
    assert in_workers == here
    names = [Path(line["path"]).name for line in here]
    assert names == sorted(path.name for path in Path("many").iterdir())
    assert [name for name, line in zip(names, here, strict=True) if "error" in line] == ["n01443537_10.jpg"]
    assert [line["media"] for line in here if "media" in line] == ["image"] * 4 + ["video"] * 2 + ["image"] * 6


def test_few_files_have_the_scores_that_each_has_alone_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(str(path) for path in Path("many").iterdir())[1:6]
    together = json_lines(capsys, "own.pt", *paths)
    assert [line for path in paths for line in json_lines(capsys, "own.pt", path)] == together
    assert main(["predict", "own.pt", *paths]) == 0
    assert capsys.readouterr().err == ""
    loaded, files = load("own.pt"), media_files(paths)
    exact = [file.predictions for one in files for file in predict(loaded, [one], top=3)]
    assert [file.predictions for file in predict(loaded, files, top=3)] == exact


def test_workers_are_started_for_many_files_only() -> None:
    files = media_files(["many"])
    assert [default_workers(files[:count]) for count in (1, 2, 7)] == [0, 0, 0]
    assert all(1 <= default_workers(files * repeats) <= 8 for repeats in (1, 1000))


def test_bar_of_many_files_leaves_a_pipe_to_the_predictions() -> None:
    command = f"{sys.executable} -m omnisource predict own.pt many --json --workers 0 > piped.jsonl"
    with Terminal(["sh", "-c", command]) as terminal:
        assert terminal.end() == 0, terminal.text
    lines = Path("piped.jsonl").read_text().splitlines()
    assert len(lines) == 13 and all("top" in json.loads(line) for line in lines)
    assert "predicting" in terminal.text and "label_space" not in terminal.text


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precision_is_that_of_the_forward_pass(capsys: pytest.CaptureFixture[str], precision: str) -> None:
    (exact,) = json_lines(capsys, "own.pt", video(), "--device", "cpu")
    (other,) = json_lines(capsys, "own.pt", video(), "--device", "cpu", "--precision", precision)
    before, after = ({entry["class"]: entry["score"] for entry in line["top"]} for line in (exact, other))
    assert after == pytest.approx(before, abs=2e-2)
    loaded = load("own.pt", precision=precision)  # type: ignore[arg-type]
    assert loaded.classifier.precision == precision
    weight = next(loaded.classifier.recognizer.parameters())
    assert weight.dtype == (torch.float64 if precision == "float64" else torch.float32)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "gpu"], "device gpu: allowed are auto, cpu, cuda and cuda:N"),
        (["--device", "cuda:99"], "device cuda:99: "),
        (["--device", "cpu", "--precision", "float16"], "--precision float16 needs a GPU"),
    ],
)
def test_device_or_precision_that_is_not_there_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "own.pt", image(), *flags]) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err
