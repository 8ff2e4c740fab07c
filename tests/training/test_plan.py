"""What follows from a recipe and its data: classes, lists, batch sizes, steps, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.missing import require_data
from omnisource.errors import UserError
from omnisource.recipe.data import Source
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.recipe import Recipe
from omnisource.training.plan import make_plan
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

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)
PUBLISHED_COUNTS = {"kinetics400": 240435, "imagenet": 1281167}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_published_layout(folder)
    make_class_folders(folder)
    return folder


@pytest.fixture
def in_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(data)
    return data


def own_data(*more: str) -> Recipe:
    return apply_overrides(load_config(str(OWN_DATA_CONFIG), Recipe), [*own_data_overrides(), *more])


def with_source(recipe: Recipe, name: str, **changes: Any) -> Recipe:
    return replace(recipe, sources={**recipe.sources, name: replace(recipe.sources[name], **changes)})


# Batch sizes and steps.


def test_published_counts_on_eight_processes_give_the_published_numbers() -> None:
    plan = make_plan(PUBLISHED, PUBLISHED_COUNTS, num_processes=8)
    assert plan.batch_sizes == {"kinetics400": 16, "imagenet": 85}
    assert (plan.microbatches, plan.epoch_steps, plan.total_steps) == (8, 1878, 1878 * 256)


def test_accumulation_counts_like_processes() -> None:
    accumulated = make_plan(replace(PUBLISHED, accumulation=4), PUBLISHED_COUNTS, num_processes=2)
    assert accumulated == make_plan(PUBLISHED, PUBLISHED_COUNTS, num_processes=8)


def test_source_of_few_items_gives_at_least_one_sample() -> None:
    plan = make_plan(PUBLISHED, {"kinetics400": 240435, "imagenet": 3}, num_processes=8)
    assert plan.batch_sizes["imagenet"] == 1
    assert plan.epoch_steps == 1878


def test_epoch_of_few_items_has_at_least_one_step() -> None:
    plan = make_plan(PUBLISHED, {"kinetics400": 3, "imagenet": 100}, num_processes=8)
    assert (plan.epoch_steps, plan.total_steps) == (1, 256)
    assert plan.batch_sizes == {"kinetics400": 16, "imagenet": 100 // 8}


@pytest.mark.parametrize("count", [127, 128, 255, 256, 1281167])
def test_sources_end_together_within_one_rounding(count: int) -> None:
    plan = make_plan(PUBLISHED, {"kinetics400": 12800, "imagenet": count}, num_processes=8)
    assert plan.epoch_steps == 100
    samples = plan.batch_sizes["imagenet"] * plan.microbatches * plan.epoch_steps
    assert samples <= max(count, 800) < samples + 800 + 800 * (count < 800)


def test_source_may_follow_another_than_the_main_source() -> None:
    images = PUBLISHED.sources["imagenet"]
    sources: dict[str, Source] = {
        **PUBLISHED.sources,
        "web": replace(images, batch_size=10, ends_with=""),
        "imagenet": replace(images, ends_with="web"),
    }
    recipe = replace(PUBLISHED, sources=sources)
    plan = make_plan(recipe, {"kinetics400": 1600, "web": 1000, "imagenet": 5000}, num_processes=1)
    assert plan.batch_sizes == {"kinetics400": 16, "web": 10, "imagenet": 50}
    assert plan.epoch_steps == 100


def test_ratio_to_a_source_holds_exactly_and_survives_a_broken_batch_size() -> None:
    web = replace(PUBLISHED.sources["imagenet"], ends_with="", ratio_to="kinetics400", ratio=0.3)
    recipe = replace(PUBLISHED, sources={**PUBLISHED.sources, "imagenet": web})
    plan = make_plan(recipe, PUBLISHED_COUNTS, num_processes=8)
    assert plan.batch_sizes == {"kinetics400": 16, "imagenet": Fraction(24, 5)}
    assert plan.samples_before(10) == {"kinetics400": 1280, "imagenet": 384}
    assert plan.samples_before(1)["imagenet"] == 38  # 38.4


def test_epoch_of_a_source_that_is_drawn_with_replacement_has_the_wanted_count() -> None:
    videos = replace(PUBLISHED.sources["kinetics400"], class_power=0.5, epoch_items=12_800)
    recipe = replace(PUBLISHED, sources={**PUBLISHED.sources, "kinetics400": videos})
    plan = make_plan(recipe, {"kinetics400": 240_435, "imagenet": 1_000_000}, num_processes=8)
    assert plan.epoch_steps == 100
    assert plan.batch_sizes["imagenet"] == 1_000_000 // (100 * 8)


# Missing data.


def test_missing_data_of_the_published_config_fits_one_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        require_data(PUBLISHED, ("train", "validation", "test"), "config.py")
    lines = str(caught.value).splitlines()
    assert lines[0] == "config.py: the data is not here. Missing:"
    assert [tuple(line.split()) for line in lines[1:-1]] == [
        ("data/kinetics400", "folder,", "sources.kinetics400.root="),
        ("data/kinetics400/videos_train", "folder,", "sources.kinetics400.train.folder="),
        ("data/kinetics400/kinetics400_train_list_videos.txt", "list,", "sources.kinetics400.train.list="),
        ("data/kinetics400/videos_val", "folder,", "sources.kinetics400.validation.folder="),
        ("data/kinetics400/kinetics400_val_list_videos.txt", "list,", "sources.kinetics400.validation.list="),
        ("data/imagenet", "folder,", "sources.imagenet.root="),
        ("data/imagenet/train", "folder,", "sources.imagenet.train.folder="),
        ("data/imagenet/meta/train.txt", "list,", "sources.imagenet.train.list="),
    ]
    assert "docs/data.md" in lines[-1] and "sources.NAME.root=FOLDER" in lines[-1]


def test_data_that_is_there_is_accepted(in_data: Path) -> None:
    require_data(PUBLISHED, ("train", "validation", "test"))
    require_data(own_data(), ("train", "validation", "test"))


def test_only_what_is_missing_is_named(in_data: Path) -> None:
    recipe = apply_overrides(PUBLISHED, ["sources.kinetics400.train.list=none.txt", "sources.imagenet.classes=map.txt"])
    with pytest.raises(UserError) as caught:
        require_data(recipe, ("train", "validation"))
    named = [line.split()[0] for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert named == ["data/kinetics400/none.txt", "data/imagenet/map.txt"]


def test_splits_that_are_not_used_need_not_be_there(in_data: Path) -> None:
    recipe = apply_overrides(
        PUBLISHED, ["sources.kinetics400.validation.list=none.txt", "sources.imagenet.root=nowhere"]
    )
    with pytest.raises(UserError, match="nowhere"):
        require_data(recipe, ("train",))
    # The images have no validation items: to validate, they are not needed.
    with pytest.raises(UserError) as caught:
        require_data(recipe, ("validation",))
    assert "nowhere" not in str(caught.value)
    assert "sources.kinetics400.validation.list=" in str(caught.value)


def test_home_folder_may_be_written_as_a_tilde(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(data))
    recipe = own_data("sources.videos.root=~/my_data/videos", "sources.images.root=~/my_data/images")
    require_data(recipe, ("train", "validation"))
    _, names = resolve_classes(recipe)
    assert names["video_classes"] == tuple(VIDEO_CLASSES)


# Classes.


def test_classes_are_those_of_the_class_folders(in_data: Path) -> None:
    overrides = ["label_spaces.video_classes.num_classes=None", "label_spaces.image_classes.num_classes=None"]
    recipe, names = resolve_classes(own_data(*overrides))
    assert names == {"video_classes": tuple(sorted(VIDEO_CLASSES)), "image_classes": tuple(sorted(IMAGE_CLASSES))}
    assert {name: space.num_classes for name, space in recipe.label_spaces.items()} == dict.fromkeys(names, 3)


def test_classes_without_names_are_named_by_their_indices() -> None:
    recipe, names = resolve_classes(apply_overrides(PUBLISHED, tiny_overrides(num_classes=4)))
    assert names["kinetics400"] == ("0", "1", "2", "3")
    assert recipe.label_spaces["kinetics400"].num_classes == 4


def test_unknown_number_of_classes_is_a_user_error() -> None:
    recipe = apply_overrides(PUBLISHED, ["label_spaces.imagenet.num_classes=None"])
    with pytest.raises(UserError, match=r"label_spaces\.imagenet: the number of classes is not known\. Set label_spa"):
        resolve_classes(recipe)


def test_number_of_classes_must_be_that_of_the_names(in_data: Path) -> None:
    recipe = own_data("label_spaces.video_classes.num_classes=4")
    message = r"label_spaces\.video_classes\.num_classes=4, but the class names of source videos are 3\."
    with pytest.raises(UserError, match=message):
        resolve_classes(recipe)


def test_sources_of_one_label_space_must_agree_on_its_classes(in_data: Path, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("".join(f"{name}\n" for name in reversed(VIDEO_CLASSES)))
    recipe = own_data()
    other = replace(recipe.sources["videos"], classes=str(tmp_path / "map.txt"))
    disagreeing = replace(recipe, sources={**recipe.sources, "more": other})
    with pytest.raises(
        UserError, match="sources videos, more share the label space video_classes but their class names"
    ):
        resolve_classes(disagreeing)
    (tmp_path / "map.txt").write_text("".join(f"{name}\n" for name in VIDEO_CLASSES))
    assert resolve_classes(disagreeing)[1]["video_classes"] == tuple(VIDEO_CLASSES)


def test_missing_class_map_is_a_user_error(in_data: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt"):
        resolve_classes(own_data("sources.videos.classes=none.txt"))


# Lists.


def test_splits_are_read_with_the_classes_of_their_label_space(in_data: Path) -> None:
    recipe, names = resolve_classes(apply_overrides(PUBLISHED, tiny_overrides()))
    train = read_split(recipe, names, "kinetics400", "train")
    test = read_split(recipe, names, "kinetics400", "test")
    assert train is not None and test is not None
    assert (len(train), len(test)) == (12, 6)
    assert [train[index].label for index in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    assert read_split(recipe, names, "imagenet", "validation") is None


def test_list_with_labels_beyond_the_classes_is_refused(in_data: Path) -> None:
    recipe, names = resolve_classes(apply_overrides(PUBLISHED, tiny_overrides(num_classes=2)))
    with pytest.raises(UserError) as caught:
        read_split(recipe, names, "kinetics400", "train")
    assert "label 2 is outside the classes (allowed: 0 to 1" in str(caught.value)
    assert "data/kinetics400/kinetics400_train_list_videos.txt:9:" in str(caught.value)
