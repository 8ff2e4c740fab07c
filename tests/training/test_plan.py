"""What follows from a recipe and the counts of its data: batch sizes and steps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from omnisource.recipe.data import Source
from omnisource.recipe.loading import load_config
from omnisource.recipe.recipe import Recipe
from omnisource.training.plan import make_plan
from tests.support.miniature import PUBLISHED_CONFIG

PUBLISHED = load_config(str(PUBLISHED_CONFIG), Recipe)
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
