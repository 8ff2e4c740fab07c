"""Predicting: from our own and published checkpoints, on images, videos and folders of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import omnisource
from omnisource.checkpoints.file import Checkpoint, save_checkpoint
from omnisource.cli.main import main
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.evaluation.predict import averaged_scores, load, media_files
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.published import to_published
from omnisource.recipe.loading import load_config
from omnisource.recipe.model import LabelSpace
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.plain import to_plain
from omnisource.recipe.recipe import Recipe
from tests.support.media import truncate
from tests.support.miniature import PUBLISHED_CONFIG, tiny_overrides, write_clips, write_images

NAMES = {"kinetics400": ["down", "left", "right"], "imagenet": ["red", "grün", "blue"]}


def tiny_recipe() -> Recipe:
    return apply_overrides(load_config(str(PUBLISHED_CONFIG), Recipe), tiny_overrides())


def tiny_recognizer(recipe: Recipe) -> Recognizer:
    torch.manual_seed(3)
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    for module in recognizer.modules():  # running statistics that are not those of a fresh model
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
    return recognizer


def save(recipe: Recipe, recognizer: Recognizer, path: Path, names: Mapping[str, list[str]]) -> Path:
    content = Checkpoint(to_plain(recipe), dict(names), {}, {"model": recognizer.state_dict(), "step": 1})
    save_checkpoint(content, path, keep_last=1)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media, `own.pt` and `published.pth` with the same weights."""
    folder = tmp_path_factory.mktemp("predict")
    write_clips(folder / "media/videos", "moving left", 2)
    write_images(folder / "media", "n01440764", 2)
    recipe = tiny_recipe()
    recognizer = tiny_recognizer(recipe)
    save(recipe, recognizer, folder / "own.pt", NAMES)
    published = to_published(recognizer.state_dict(), "imagenet", "kinetics400")
    torch.save({"state_dict": published, "meta": {"epoch": 3}, "message_hub": {}}, folder / "published.pth")
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
    recipe = tiny_recipe()
    source = recipe.sources["kinetics400"]
    request = SampleRequest("x", "video", video(), "x", 0, None, "", source.sampling, source.test_views)
    views = load_clip(request).frames
    assert views.shape == (6, 3, 2, 32, 32)  # 2 clips x 3 crops
    logits = tiny_recognizer(recipe).eval().video_logits(views)
    expected = dict(zip(NAMES["kinetics400"], logits.softmax(dim=1).mean(dim=0).tolist(), strict=True))
    assert {entry["class"]: entry["score"] for entry in line["top"]} == pytest.approx(expected, abs=1e-5)


def test_scores_do_not_depend_on_how_many_views_go_at_a_time() -> None:
    recognizer = tiny_recognizer(tiny_recipe()).eval()
    views = torch.randint(0, 256, (5, 3, 2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one, two, all_at_once = (averaged_scores(recognizer, views, "video", "kinetics400", size) for size in (1, 2, 32))
    torch.testing.assert_close(one, all_at_once)
    torch.testing.assert_close(two, all_at_once)


def test_published_checkpoint_names_classes_by_index_and_reads_its_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    of_video, of_image = json_lines(capsys, "published.pth", video(), image())
    assert (of_video["label_space"], of_image["label_space"]) == ("video", "image")
    assert {entry["class"] for entry in of_video["top"] + of_image["top"]} == {"0", "1", "2"}
    loaded = load("published.pth")
    assert loaded.views["video"].views.num_clips * loaded.views["video"].views.num_crops == 30
    assert loaded.views["image"].views.crop_size == 224


def test_both_checkpoints_give_the_same_recognizer_ready_for_evaluation() -> None:
    clips = torch.randint(0, 256, (2, 3, 2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ours, published = omnisource.load_recognizer("own.pt"), omnisource.load_recognizer("published.pth")
    assert not ours.training and not published.training
    expected = tiny_recognizer(tiny_recipe()).eval()
    for recognizer in (ours, published):
        torch.testing.assert_close(recognizer.video_logits(clips), expected.video_logits(clips))
        torch.testing.assert_close(recognizer.image_logits(clips[:, :, 0]), expected.image_logits(clips[:, :, 0]))


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


def test_files_may_stand_on_both_sides_of_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "own.pt", image(), "--json", video()]) == 0
    paths = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert paths == [image(), video()]


def test_unreadable_files_are_named_and_the_others_predicted(
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


def test_media_that_was_not_trained_on_is_named_and_the_others_predicted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    only_videos = replace(
        recipe,
        label_spaces={"kinetics400": recipe.label_spaces["kinetics400"]},
        sources={"kinetics400": recipe.sources["kinetics400"]},
    )
    path = save(only_videos, tiny_recognizer(only_videos), tmp_path / "v.pt", {"kinetics400": NAMES["kinetics400"]})
    assert main(["predict", str(path), image(), video()]) == 2
    output = capsys.readouterr()
    assert f"error: {image()}: the recognizer was not trained on images, but on videos" in output.err
    assert output.out.startswith(f"{video()} (kinetics400)")


def test_every_head_of_a_media_speaks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tiny_recipe()
    more = replace(recipe.sources["imagenet"], label_space="colors")
    recipe = replace(
        recipe,
        label_spaces={**recipe.label_spaces, "colors": LabelSpace("image", 2)},
        sources={**recipe.sources, "colors": more},
    )
    path = save(recipe, tiny_recognizer(recipe), tmp_path / "c.pt", {**NAMES, "colors": ["warm", "cold"]})
    lines = json_lines(capsys, str(path), image())
    assert [line["label_space"] for line in lines] == ["imagenet", "colors"]
    assert {entry["class"] for entry in lines[1]["top"]} == {"warm", "cold"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pt", "media"], "none.pt: "),
        (["own.pt", "none.mp4"], "none.mp4: no such file or folder"),
        (["own.pt", "own.pt"], "own.pt: neither an image nor a video by its suffix; known are .3gp .avi"),
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
    assert output.out == ""
    assert output.err.startswith("error: ") and message in output.err
    assert "Traceback" not in output.err


def test_checkpoint_whose_recipe_is_no_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    plain = {**to_plain(recipe), "num_epochs": 0}
    state = {"model": tiny_recognizer(recipe).state_dict()}
    save_checkpoint(Checkpoint(plain, NAMES, {}, state), tmp_path / "x.pt", keep_last=1)
    with pytest.raises(UserError, match=r"x\.pt: num_epochs=0: must be at least 1"):
        load(tmp_path / "x.pt")


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
    found = [(Path(path).name, media) for path, media in media_files([str(tmp_path)])]
    assert found == [("a.JPG", "image"), ("b.Mp4", "video"), ("d.webp", "image")]


def test_class_names_are_kept_in_their_order() -> None:
    assert load("own.pt").class_names["imagenet"] == ("red", "grün", "blue")
