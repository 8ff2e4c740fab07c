"""What is missing of a recipe's data, all said at once, and nothing said of what is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnisource.data.classes import resolve_classes
from omnisource.data.missing import require_data
from omnisource.errors import UserError
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.recipe import Recipe
from tests.support.miniature import PUBLISHED_CONFIG, VIDEO_CLASSES
from tests.support.tiny_runs import own_data_recipe

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)


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


def test_data_that_is_there_is_accepted(in_miniatures: Path) -> None:
    require_data(PUBLISHED, ("train", "validation", "test"))
    require_data(own_data_recipe(), ("train", "validation", "test"))


def test_link_that_leads_nowhere_is_called_one(in_miniatures: Path) -> None:
    Path("data/imagenet/map.txt").symlink_to("/gone/map.txt")
    recipe = apply_overrides(PUBLISHED, ["sources.imagenet.classes=map.txt"])
    with pytest.raises(UserError, match=r"classes= \(a link that leads nowhere, to /gone/map\.txt\)"):
        require_data(recipe, ("train",))


def test_only_what_is_missing_is_reported(in_miniatures: Path) -> None:
    recipe = apply_overrides(PUBLISHED, ["sources.kinetics400.train.list=none.txt", "sources.imagenet.classes=map.txt"])
    with pytest.raises(UserError) as caught:
        require_data(recipe, ("train", "validation"))
    named = [line.split()[0] for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert named == ["data/kinetics400/none.txt", "data/imagenet/map.txt"]


def test_splits_that_are_not_used_need_not_be_there(in_miniatures: Path) -> None:
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


def test_home_folder_may_be_written_as_a_tilde(miniatures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(miniatures))
    recipe = own_data_recipe("sources.videos.root=~/my_data/videos", "sources.images.root=~/my_data/images")
    require_data(recipe, ("train", "validation"))
    _, names = resolve_classes(recipe)
    assert names["video_classes"] == tuple(VIDEO_CLASSES)
