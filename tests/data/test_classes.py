"""The classes of a source, of a label space, and of what is read with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from omnisource.data.classes import class_names_of, resolve_classes
from omnisource.data.datasets import read_split
from omnisource.errors import UserError
from omnisource.recipe.data import Source, Split
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.recipe import Recipe
from tests.support.miniature import IMAGE_CLASSES, PUBLISHED_CONFIG, VIDEO_CLASSES, tiny_overrides
from tests.support.tiny_runs import own_data_recipe

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)


def test_source_has_the_class_names_of_its_map_or_of_its_folders_or_none(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    for name in ("walk", "climb"):
        (tmp_path / "train" / name).mkdir(parents=True)
    folders = Split("train", format="folders")
    root = str(tmp_path)
    assert class_names_of(Source("video", "c", root, Split(), classes="classes.txt")) == ("jump", "run")
    assert class_names_of(Source("video", "c", root, folders)) == ("climb", "walk")
    assert class_names_of(Source("video", "c", root, folders, classes="classes.txt")) == ("jump", "run")
    assert class_names_of(Source("video", "c", root, Split())) is None


def test_classes_are_those_of_the_class_folders(in_miniatures: Path) -> None:
    overrides = ["label_spaces.video_classes.num_classes=None", "label_spaces.image_classes.num_classes=None"]
    recipe, names = resolve_classes(own_data_recipe(*overrides))
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


def test_number_of_classes_must_be_that_of_the_names(in_miniatures: Path) -> None:
    recipe = own_data_recipe("label_spaces.video_classes.num_classes=4")
    message = r"label_spaces\.video_classes\.num_classes=4, but the class names of source videos are 3\."
    with pytest.raises(UserError, match=message):
        resolve_classes(recipe)


def test_sources_of_one_label_space_must_agree_on_its_classes(in_miniatures: Path, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("".join(f"{name}\n" for name in reversed(VIDEO_CLASSES)))
    recipe = own_data_recipe()
    other = replace(recipe.sources["videos"], classes=str(tmp_path / "map.txt"))
    disagreeing = replace(recipe, sources={**recipe.sources, "more": other})
    with pytest.raises(
        UserError, match="sources videos, more share the label space video_classes but their class names"
    ):
        resolve_classes(disagreeing)
    (tmp_path / "map.txt").write_text("".join(f"{name}\n" for name in VIDEO_CLASSES))
    assert resolve_classes(disagreeing)[1]["video_classes"] == tuple(VIDEO_CLASSES)


def test_missing_class_map_is_a_user_error(in_miniatures: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt"):
        resolve_classes(own_data_recipe("sources.videos.classes=none.txt"))


def test_splits_are_read_with_the_classes_of_their_label_space(in_miniatures: Path) -> None:
    recipe, names = resolve_classes(apply_overrides(PUBLISHED, tiny_overrides()))
    train = read_split(recipe, names, "kinetics400", "train")
    test = read_split(recipe, names, "kinetics400", "test")
    assert train is not None and test is not None
    assert (len(train), len(test)) == (12, 6)
    assert [train[index].label for index in range(12)] == [0] * 4 + [1] * 4 + [2] * 4
    assert read_split(recipe, names, "imagenet", "validation") is None


def test_list_with_labels_beyond_the_classes_is_refused(in_miniatures: Path) -> None:
    recipe, names = resolve_classes(apply_overrides(PUBLISHED, tiny_overrides(num_classes=2)))
    with pytest.raises(UserError) as caught:
        read_split(recipe, names, "kinetics400", "train")
    assert "label 2 is outside the classes (allowed: 0 to 1" in str(caught.value)
    assert "data/kinetics400/kinetics400_train_list_videos.txt:9:" in str(caught.value)
