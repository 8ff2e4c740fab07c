"""What follows from a recipe and the counts of its data: batch sizes and steps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import pytest

from omnisource.data.lists.items import no_items
from omnisource.recipe.backbones.vit import ViT
from omnisource.recipe.data import Source
from omnisource.recipe.loading import load_config
from omnisource.recipe.model import Model
from omnisource.recipe.recipe import Recipe
from omnisource.training.plan import Plan, describe_plan, make_plan
from tests.support.miniature import PUBLISHED_CONFIG

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)
NO_ITEMS = no_items("")
PUBLISHED_COUNTS = {"kinetics400": 240435, "imagenet": 1281167}


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


@pytest.mark.parametrize(
    ("changes", "momentum", "expected"),
    [
        ({}, 0.01, 50),  # 4 microbatches x 10 steps x 60 epochs x 0.01 = 24
        ({}, 0.05, 0),  # 120: the running statistics follow
        ({}, 0.04, 50),  # 96
        ({"recompute_batch_norm": "always", "recomputed_microbatches": 30}, 0.05, 30),
        ({"recompute_batch_norm": "never"}, 0.01, 0),
    ],
)
def test_statistics_are_computed_again_where_a_run_is_short(
    changes: dict[str, Any], momentum: float, expected: int
) -> None:
    model = replace(PUBLISHED.model, batch_norm_momentum=momentum)
    recipe = replace(PUBLISHED, num_epochs=60, model=model, **{"recompute_batch_norm": "if_short", **changes})
    plan = make_plan(recipe, {"kinetics400": 640, "imagenet": 640}, num_processes=4)
    assert (plan.microbatches, plan.total_steps, plan.recomputed_microbatches) == (4, 600, expected)
    assert ("computed again" in describe_plan(recipe, plan, dict.fromkeys(recipe.sources, NO_ITEMS))) is (expected > 0)


@pytest.mark.parametrize(("head", "expected"), [("linear", 0), ("image", 50)])
def test_statistics_of_a_vit_are_computed_again_only_where_a_head_has_some(
    head: Literal["linear", "image"], expected: int
) -> None:
    spaces = {name: replace(space, head=head) for name, space in PUBLISHED.label_spaces.items()}
    model = Model(vit=ViT(size="tiny", patch=16))
    recipe = replace(PUBLISHED, model=model, label_spaces=spaces, num_epochs=1, recompute_batch_norm="always")
    assert make_plan(recipe, {"kinetics400": 640, "imagenet": 640}, num_processes=4).recomputed_microbatches == expected


def test_statistics_are_computed_again_over_what_came_since_the_last_validation() -> None:
    plan = Plan({}, 2, epoch_steps=3, total_steps=90, recomputed_microbatches=50, validation_steps=9)
    assert [plan.recomputed_steps(step) for step in (0, 2, 9, 81)] == [0, 2, 9, 9]
    assert plan.recomputed_steps(90) == 25  # at the end over all, and never over more than there were
    assert replace(plan, validation_steps=3).recomputed_steps(30) == 5  # not over so few that they are rough
    assert replace(plan, validation_steps=0).recomputed_steps(30) == 25
    assert replace(plan, recomputed_microbatches=0).recomputed_steps(90) == 0
    assert replace(plan, recomputed_microbatches=5).recomputed_steps(90) == 3  # whole steps


def test_published_run_is_long_and_its_statistics_are_never_computed_again() -> None:
    assert PUBLISHED.recompute_batch_norm == "never" and not PUBLISHED.model.image_statistics
    plan = make_plan(replace(PUBLISHED, recompute_batch_norm="if_short"), PUBLISHED_COUNTS, num_processes=8)
    assert plan.recomputed_microbatches == 0


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


def test_ratio_to_a_source_holds_exactly_and_survives_a_fractional_batch_size() -> None:
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
