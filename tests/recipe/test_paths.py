"""Every key of a recipe that is a path is marked as one, and `~` in it is the home folder."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from omnisource.recipe.data import Source, Split, TarShards
from omnisource.recipe.keys import is_among, marked_keys
from omnisource.recipe.marks import MAY_DIFFER, PATH
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.paths import home_faults
from omnisource.recipe.recipe import Recipe
from omnisource.recipe.values import union_members
from tests.recipe.test_keys import config_types

NO_PATHS = {
    "Mixing.partner": "a source",
    "Recipe.main_source": "a source",
    "Source.ends_with": "a source",
    "Source.label_space": "a label space",
    "Source.ratio_to": "a source",
    "Split.frame_template": "the name of a file in a folder of the list",
    "Split.label_column": "a column",
    "Split.path_column": "a column",
    "TarShards.label_field": "a field of JSON",
    "TarShards.label_suffix": "a suffix",
    "TarShards.media_suffix": "a suffix",
}
"""Fields of text that are no paths, and what they are."""

PATH_KEYS = {
    "model.weights": "~/w.pth",
    "sources.videos.root": "~/videos",
    "sources.videos.classes": "~/classes.txt",
    "sources.videos.train.folder": "~/train",
    "sources.videos.train.list": "~/train.txt",
    "sources.images.train.urls": "~/a.tar,~root/b.tar,http://x/~y.tar",
}


def recipe(**source: str) -> Recipe:
    return Recipe(
        label_spaces={"classes": LabelSpace(head="video")},
        sources={
            "videos": Source("video", "classes", source.pop("root", "r"), Split(list="l"), batch_size=1, **source),
            "images": Source("image", "classes", "r", TarShards(urls=("s.tar",)), batch_size=1),
        },
        main_source="videos",
        num_epochs=1,
    )


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")


def test_every_field_of_text_is_known_to_be_a_path_or_none() -> None:
    texts = {
        f"{kind.__name__}.{field.name}"
        for kind in config_types(Recipe)
        for field in dataclasses.fields(kind)
        if any(member in (str, tuple[str, ...]) for member in union_members(typing.get_type_hints(kind)[field.name]))
    }
    paths = {
        f"{kind.__name__}.{key}" for kind in config_types(Recipe) for key in marked_keys(kind, PATH) if "." not in key
    }
    assert paths and texts - paths == set(NO_PATHS), "mark it with PATH, or name it above"


def test_keys_that_are_paths_are_all_tried_here_and_may_differ_in_a_resumed_run() -> None:
    keys = marked_keys(Recipe, PATH)
    tried = {
        key
        for key in keys
        for given in PATH_KEYS
        if is_among(given, [key.replace(".validation.", ".train.").replace(".test.", ".train.")])
    }
    assert tried == set(keys)
    assert [key for key in keys if not is_among(key.replace("*", "x"), marked_keys(Recipe, MAY_DIFFER))] == []


@pytest.mark.parametrize(("key", "given"), PATH_KEYS.items())
def test_override_of_a_path_has_the_home_folder(key: str, given: str) -> None:
    value = apply_overrides(recipe(), [f"{key}={given}"])
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    if key.endswith("urls"):
        assert value == ("/home/me/a.tar", "/root/b.tar", "http://x/~y.tar")
    else:
        assert value == given.replace("~", "/home/me")


def test_config_has_the_home_folder(tmp_path: Path) -> None:
    built = recipe(root="~/r", classes="~/c")
    built = dataclasses.replace(built, model=Model(weights="~/w"))
    assert (built.sources["videos"].root, built.sources["videos"].classes) == ("/home/me/r", "/home/me/c")
    assert built.model.weights == "/home/me/w"
    assert recipe(root="./~").sources["videos"].root == "./~"


def test_home_folder_of_nobody_is_reported_with_its_key() -> None:
    elsewhere = recipe(root="~nobody_has_this_name/r")  # a recipe of a checkpoint, perhaps: it can be built
    assert elsewhere.sources["videos"].root == "~nobody_has_this_name/r"
    [fault] = home_faults(elsewhere)
    assert fault.startswith("sources.videos.root=~nobody_has_this_name/r: there is no user nobody_has_this_name")
