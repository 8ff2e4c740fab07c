"""What `omnisource show` prints: the published sizes without any data, and real counts where the data is there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from omnisource.cli.main import main
from omnisource.recipe.keys import describe_keys
from omnisource.recipe.loading import load_config
from omnisource.recipe.plain import from_plain
from omnisource.recipe.recipe import Recipe
from omnisource.show.show import print_recipe
from tests.support.miniature import (
    OWN_DATA_CONFIG,
    PUBLISHED_CONFIG,
    make_class_folders,
    make_published_layout,
    own_data_overrides,
    tiny_overrides,
)

CONFIG = str(PUBLISHED_CONFIG)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(text: str) -> list[list[str]]:
    """Returns the rows of the tables in a text."""
    rows = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in rows]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_published_sizes_and_costs_are_shown_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    # The stored values were measured with a FLOP counter on the published model, one multiply-add counted as one.
    rows = cells(shown(capsys, CONFIG))
    assert ["whole recognizer", "", "35.65 M", ""] in rows
    assert ["video path, head kinetics400", "8x224x224", "33.60 M", "41.92 G"] in rows
    assert ["video path, head kinetics400", "8x256x256", "33.60 M", "54.75 G"] in rows
    image = "33.69 M (25.56 M with the kernels summed over time)"
    assert ["image path, head imagenet", "224x224", image, "4.11 G"] in rows


def test_unknown_counts_are_shown_as_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, CONFIG)
    rows = cells(text)
    unknown = ["unknown"] * 3
    assert ["kinetics400", "video", "kinetics400 (400 classes)", *unknown, "16"] in rows
    assert [
        "imagenet",
        "image",
        "imagenet (1000 classes)",
        "unknown",
        "-",
        "-",
        "unknown (ends with kinetics400)",
    ] in rows
    assert "Sources (steps: unknown, with one process)" in text
    assert "omnisource check CONFIG says which" in text


def test_counts_and_steps_of_data_that_is_there_are_shown(
    capsys: pytest.CaptureFixture[str], in_empty_folder: Path
) -> None:
    make_published_layout(in_empty_folder)
    text = shown(capsys, CONFIG, *tiny_overrides(num_epochs=4))
    rows = cells(text)
    assert ["kinetics400", "video", "kinetics400 (3 classes)", "12", "6", "6", "2"] in rows
    assert ["imagenet", "image", "imagenet (3 classes)", "15", "-", "-", "2 (ends with kinetics400)"] in rows
    assert "Sources (6 steps an epoch, 24 in all, with one process)" in text
    assert "unknown" not in text


def test_list_with_mistakes_is_pointed_out(capsys: pytest.CaptureFixture[str], in_empty_folder: Path) -> None:
    make_published_layout(in_empty_folder)
    Path("data/imagenet/meta/train.txt").write_text("none.jpg 0\n")
    text = shown(capsys, CONFIG, *tiny_overrides())
    assert ["kinetics400", "video", "kinetics400 (3 classes)", "12", "6", "6", "2"] in cells(text)
    assert "the list or its files are missing or wrong" in text


def test_number_of_classes_comes_from_the_folders(capsys: pytest.CaptureFixture[str], in_empty_folder: Path) -> None:
    config = str(OWN_DATA_CONFIG)
    assert "video_classes (unknown classes)" in shown(capsys, config)
    make_class_folders(in_empty_folder)
    known = [text for text in own_data_overrides() if "num_classes" not in text]
    Path("my_data/videos/train/moving left/notes.txt").touch()
    text = shown(capsys, config, *known)
    assert ["videos", "video", "video_classes (3 classes)", "12", "6", "6", "2"] in cells(text)
    assert text.count("source videos, train: files in ") == 1 and "that are no videos, left out: 1 (1 .txt)" in text


def test_resolved_recipe_is_shown_as_json_that_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, CONFIG, "seed=5", "optimizer.betas=0.5,0.6")
    plain = json.loads(text[: text.index("\n}\n") + 2])
    recipe = replace(load_config(CONFIG, Recipe), seed=5)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, betas=(0.5, 0.6)))
    assert from_plain(Recipe, plain, "shown") == recipe


def test_every_key_is_listed_with_its_value_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, CONFIG, "--keys").splitlines()
    recipe = load_config(CONFIG, Recipe)
    assert len(lines) == 2 * len(list(describe_keys(recipe)))
    meaning = dict(zip(lines[::2], lines[1::2], strict=True))
    assert meaning["num_epochs=256"] == "    Epochs of the main source."
    assert meaning["sources.kinetics400.sampling.frame_interval=8"].startswith("    Frames of the video from one")
    assert all(key.count("=") >= 1 and text.startswith("    ") and len(text) > 12 for key, text in meaning.items())


def test_cost_of_a_small_recognizer_is_shown_in_a_unit_that_is_not_zero(capsys: pytest.CaptureFixture[str]) -> None:
    rows = cells(shown(capsys, CONFIG, *tiny_overrides()))
    costs = [row[3] for row in rows if row[0].startswith(("video path", "image path"))]
    assert len(costs) == 2
    assert all(re.fullmatch(r"\d+\.\d\d M", cost) and not cost.startswith("0.00") for cost in costs)


def test_showing_costs_no_memory_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    # 64 times as wide: hundreds of gigabytes, if the weights were made.
    recipe = load_config(CONFIG, Recipe)
    print_recipe(replace(recipe, model=replace(recipe.model, width=64.0)))
    assert "whole recognizer" in capsys.readouterr().out
