"""Augmentation and mixing as keys of a recipe: setting, showing and refusing them; checkpoints without them."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from omnisource import ColorJitter, Mixing, RandAugment, RandomErasing, Recipe, Source, TrainingView
from omnisource.cli.main import main
from omnisource.data.transforms.augment import OPERATIONS
from omnisource.errors import UserError
from omnisource.recipe.data import NUM_OPERATIONS
from omnisource.recipe.keys import differences, field_docs
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.recipe.values import union_members
from tests.support.miniature import OWN_DATA_CONFIG, PUBLISHED_CONFIG

VIDEOS, IMAGES = "sources.videos", "sources.images"
GROUPS = {
    "training_view.rand_augment": RandAugment,
    "training_view.color_jitter": ColorJitter,
    "training_view.random_erasing": RandomErasing,
    "mixing": Mixing,
}


@pytest.fixture(scope="module")
def own_data() -> Recipe:
    """Returns a recipe of videos and images that share their label space, so that they can be mixed."""
    recipe = load_config(str(OWN_DATA_CONFIG), Recipe)
    images = dataclasses.replace(recipe.sources["images"], label_space="video_classes")
    spaces = {"video_classes": recipe.label_spaces["video_classes"]}
    return dataclasses.replace(recipe, label_spaces=spaces, sources={**recipe.sources, "images": images})


def group_of(recipe: Recipe, path: str) -> object:
    source = recipe.sources["videos"]
    return source.mixing if path == "mixing" else getattr(source.training_view, path.partition(".")[2])


def test_published_recipe_augments_and_mixes_nothing() -> None:
    for source in load_config(str(PUBLISHED_CONFIG), Recipe).sources.values():
        view = source.training_view
        assert (view.rand_augment, view.color_jitter, view.random_erasing, source.mixing) == (None, None, None, None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training_view.rand_augment.magnitude=7", RandAugment(magnitude=7.0)),
        ("training_view.color_jitter.hue=0.1", ColorJitter(hue=0.1)),
        ("training_view.random_erasing.fill=noise", RandomErasing(fill="noise")),
        ("mixing.mixup_alpha=0.8", Mixing(mixup_alpha=0.8)),
    ],
)
def test_key_of_an_unset_group_sets_it_with_its_defaults(own_data: Recipe, override: str, expected: object) -> None:
    path = override.partition("=")[0].rpartition(".")[0]
    changed = apply_overrides(own_data, [f"{VIDEOS}.{override}"])
    assert group_of(changed, path) == expected
    more = apply_overrides(changed, [f"{VIDEOS}.{path}.probability=0.125"])
    assert group_of(more, path) == dataclasses.replace(expected, probability=0.125)  # type: ignore[type-var]
    assert apply_overrides(changed, [f"{VIDEOS}.{path}=None"]) == own_data


@pytest.mark.parametrize("path", GROUPS)
def test_help_of_an_unset_group_names_its_keys(path: str) -> None:
    owner = Source if path == "mixing" else TrainingView
    doc = field_docs(owner)[path.rpartition(".")[2]]
    assert all(field.name in doc for field in dataclasses.fields(GROUPS[path]))  # type: ignore[arg-type]
    hint = typing.get_type_hints(owner)[path.rpartition(".")[2]]
    assert set(union_members(hint)) == {GROUPS[path], type(None)}


def test_bound_on_operations_is_their_number() -> None:
    assert len(OPERATIONS) == NUM_OPERATIONS  # the table needs torch, which a recipe does not import


def test_keys_are_shown_with_their_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(OWN_DATA_CONFIG), f"{VIDEOS}.training_view.rand_augment.magnitude=7", "--keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{IMAGES}.training_view.rand_augment=None" in lines
    assert f"{VIDEOS}.mixing=None" in lines
    index = lines.index(f"{VIDEOS}.training_view.rand_augment.magnitude=7.0")
    assert lines[index + 1].startswith("    Strength of the operations, from 0 to 10")


def test_unknown_key_of_an_unset_group_names_the_allowed_ones(own_data: Recipe) -> None:
    with pytest.raises(UserError, match=r"rand_augment: num_operations, magnitude, magnitude_std, probability\."):
        apply_overrides(own_data, [f"{VIDEOS}.training_view.rand_augment.magnitud=7"])


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ([f"{VIDEOS}.training_view.rand_augment.magnitude=11"], "rand_augment.magnitude=11: must be in [0, 10]"),
        ([f"{IMAGES}.training_view.color_jitter.hue=0.7"], f"{IMAGES}.training_view.color_jitter.hue=0.7: must be in"),
        ([f"{VIDEOS}.mixing.probability=1"], f"{VIDEOS}.mixing: mixup_alpha and cutmix_alpha are both 0"),
        ([f"{VIDEOS}.mixing.mixup_alpha=-1"], f"{VIDEOS}.mixing.mixup_alpha=-1: must be at least 0"),
        (
            [f"{VIDEOS}.mixing.mixup_alpha=1", f"{VIDEOS}.batch_size=1"],
            "with batch_size=1 there is no other sample to mix with; raise batch_size or set",
        ),
        (
            [f"{VIDEOS}.mixing.mixup_alpha=1", f"{VIDEOS}.mixing.partner=image"],
            f"{VIDEOS}.mixing.partner=image: allowed are other sources: images; empty: this one",
        ),
        (
            [f"{VIDEOS}.mixing.mixup_alpha=1", f"{VIDEOS}.mixing.partner=videos"],
            f"{VIDEOS}.mixing.partner=videos: allowed are other sources: images; empty: this one",
        ),
        (
            [
                f"{VIDEOS}.mixing.mixup_alpha=1",
                f"{VIDEOS}.mixing.partner=images",
                f"{IMAGES}.training_view.crop_size=64",
            ],
            "partner=images: its crops have 64 pixels a side, not 224: set training_view.crop_size of both alike",
        ),
        (
            [f"{IMAGES}.mixing.mixup_alpha=1", f"{IMAGES}.mixing.partner=videos"],
            "cannot be mixed into images; images can be mixed into videos: set sources.videos.mixing.partner=images",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_a_remedy(own_data: Recipe, overrides: list[str], fault: str) -> None:
    with pytest.raises(UserError) as refused:
        apply_overrides(own_data, overrides)
    assert fault in str(refused.value)


def test_partner_of_another_label_space_is_refused() -> None:
    recipe = load_config(str(OWN_DATA_CONFIG), Recipe)
    with pytest.raises(UserError, match="its label space is image_classes, not video_classes"):
        apply_overrides(recipe, [f"{VIDEOS}.mixing.mixup_alpha=1", f"{VIDEOS}.mixing.partner=images"])


def test_partner_of_videos_with_clips_of_another_length_is_refused(own_data: Recipe) -> None:
    videos = own_data.sources["videos"]
    mixing = Mixing(mixup_alpha=1.0, partner="short")
    short = dataclasses.replace(videos, sampling=dataclasses.replace(videos.sampling, clip_length=4))
    sources = {"videos": dataclasses.replace(videos, mixing=mixing), "short": short}
    with pytest.raises(ValueError, match=r"its clips have 4 frames, not 8: set sampling\.clip_length of both alike"):
        dataclasses.replace(own_data, sources=sources)
    sources["short"] = dataclasses.replace(short, sampling=videos.sampling)
    assert dataclasses.replace(own_data, sources=sources).mixings() == {"videos": mixing}


def test_images_may_be_the_partners_of_videos(own_data: Recipe) -> None:
    changed = apply_overrides(own_data, [f"{VIDEOS}.mixing.cutmix_alpha=1", f"{VIDEOS}.mixing.partner=images"])
    assert changed.mixings() == {"videos": Mixing(cutmix_alpha=1.0, partner="images")}


def test_recipe_stored_before_there_was_augmentation_is_the_same_recipe(own_data: Recipe) -> None:
    plain = to_plain(own_data)
    for source in plain["sources"].values():
        del source["mixing"]
        for name in ("rand_augment", "color_jitter", "random_erasing"):
            del source["training_view"][name]
    assert from_plain(Recipe, plain, "checkpoint.pt") == own_data
    assert differences(to_plain(own_data), plain) == []
    changed = apply_overrides(own_data, [f"{VIDEOS}.training_view.rand_augment.magnitude=7"])
    keys = [key for key, _, _ in differences(to_plain(changed), plain)]
    assert keys == [f"{VIDEOS}.training_view.rand_augment.{field.name}" for field in dataclasses.fields(RandAugment)]


def test_config_of_the_docs_works(project: Path, tmp_path: Path) -> None:
    text = (project / "docs/augmentation.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "config.py").write_text(snippet)
    recipe = load_config(str(tmp_path / "config.py"), Recipe)
    assert recipe.mixings() == {"videos": Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)}
    assert recipe.sources["videos"].training_view.rand_augment == RandAugment(num_operations=4, magnitude=7)


def test_recipe_with_everything_set_comes_back_from_plain_data(own_data: Recipe) -> None:
    overrides = [
        f"{VIDEOS}.training_view.rand_augment.num_operations=3",
        f"{VIDEOS}.training_view.color_jitter.brightness=0.2",
        f"{VIDEOS}.training_view.random_erasing.fill=color",
        f"{VIDEOS}.mixing.cutmix_alpha=1",
    ]
    changed = apply_overrides(own_data, overrides)
    assert from_plain(Recipe, to_plain(changed), "recipe.json") == changed
