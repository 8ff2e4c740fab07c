from __future__ import annotations

import dataclasses

import pytest

from omnisource import ViT
from omnisource.errors import UserError
from omnisource.recipe.backbones.vit import FAMILIES, Sizes, Traits
from omnisource.recipe.keys import describe_keys, field_docs
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.plain import from_plain, to_plain
from omnisource.recipe.recipe import Recipe
from tests.recipe.test_recipe import PUBLISHED

OF_VIT = ("model.vit.size=small", "model.vit.family=dinov2")


def test_overrides_put_a_vit_in_place_of_the_resnet() -> None:
    recipe = apply_overrides(PUBLISHED, OF_VIT)
    assert recipe.model.vit == ViT(family="dinov2", size="small")
    assert apply_overrides(recipe, ["model.vit.pixel_mean=1,2,3"]).model.vit == dataclasses.replace(
        recipe.model.vit, pixel_mean=(1.0, 2.0, 3.0)
    )
    assert from_plain(Recipe, to_plain(recipe), "a file") == recipe


def test_recipe_from_before_there_were_vits_has_the_resnet() -> None:
    plain = to_plain(PUBLISHED)
    del plain["model"]["vit"]
    assert from_plain(Recipe, plain, "a file") == PUBLISHED
    assert PUBLISHED.model.vit is None


def test_sizes_go_by_name_and_traits_by_family_unless_they_are_given() -> None:
    assert ViT(size="large").sizes() == Sizes(1024, 24, 16)
    assert ViT(size="tiny", depth=3, width=96).sizes() == Sizes(96, 3, 3)
    assert (ViT(size="tiny").hidden_width(), ViT(mlp_width=100).hidden_width()) == (768, 100)
    assert all(ViT(family=family).traits() == traits for family, traits in FAMILIES.items())
    changed = ViT(family="clip", activation="gelu", pooling="mean", registers=2).traits()
    assert changed == dataclasses.replace(FAMILIES["clip"], activation="gelu", pooling="mean", registers=2)


def test_every_trait_is_a_documented_key() -> None:
    docs = field_docs(ViT)
    assert {field.name for field in dataclasses.fields(Traits)} <= docs.keys()
    assert {field.name for field in dataclasses.fields(ViT)} == docs.keys()
    keys = [key for key, _, _ in describe_keys(apply_overrides(PUBLISHED, OF_VIT))]
    assert "model.vit.stochastic_depth" in keys


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ("model.vit.patch=15", "imagenet.training_view.crop_size=224: must be a multiple of model.vit.patch=15"),
        ("model.vit.tubelet=3", "kinetics400.sampling.clip_length=8: must be a multiple of model.vit.tubelet=3"),
        ("model.vit.num_heads=7", "model.vit.num_heads=7: does not divide the width, 768"),
        ("model.vit.size=small model.depth=101", "model.depth=101: is of the ResNet; the ViT has model.vit.depth"),
        (
            "model.vit.size=small model.batch_norm_momentum=0.1",
            "model.batch_norm_momentum=0.1: is of the ResNet; a ViT has no BatchNorm",
        ),
        ("model.vit.family=dino", "model.vit.family=dino: allowed are vit, mae, dinov2, dinov3, clip, openclip"),
        ("model.vit.norm_epsilon=0", "model.vit.norm_epsilon=0.0: must be above 0"),
        ("model.vit.stochastic_depth=1", "model.vit.stochastic_depth=1"),
        ("model.vit.layers=3", "unknown key model.vit.layers"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(overrides: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(PUBLISHED, overrides.split())
    assert fault in str(caught.value)
