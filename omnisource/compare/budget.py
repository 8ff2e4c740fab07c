"""What training costs, and how many epochs of a recipe spend a budget."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from omnisource.models.cost import count_multiply_adds
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.data import Source
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.recipe import Recipe
from omnisource.training.plan import make_plan
from omnisource.types import Media

BACKWARD = 3
"""A step of training counts as three forward passes: the gradients of inputs and of weights cost one each."""


@dataclass(frozen=True)
class Spent:
    """A recipe whose length is set, and what it spends.

    Attributes:
        recipe: With its epochs, warm-up and intervals.
        steps: Steps of the run.
        multiply_adds: Of training.
    """

    recipe: Recipe
    steps: int
    multiply_adds: int


def step_cost(recipe: Recipe, counts: Mapping[str, int]) -> float:
    """Returns the multiply-adds of a step of training in one process.

    Args:
        recipe: With known numbers of classes.
        counts: Training items of each source.
    """
    plan = make_plan(recipe, counts, num_processes=1)
    return sum(
        training_cost(recipe, name) * float(plan.batch_sizes[name]) * plan.microbatches for name in recipe.sources
    )


def training_cost(recipe: Recipe, source_name: str) -> int:
    """Returns the multiply-adds of training on one view of one item of a source; numbers of classes must be known."""
    model, spaces = replace(recipe.model, weights=""), tuple(recipe.label_spaces.items())
    source = recipe.sources[source_name]
    return BACKWARD * _view_cost(model, spaces, source.label_space, source.media, view_shape(source))


def view_shape(source: Source) -> tuple[int, int]:
    """Returns frames, and height and width, of a view that is trained on."""
    frames = 1 if source.media == "image" else source.sampling.clip_length
    return frames, source.training_view.crop_size


@functools.lru_cache(maxsize=256)
def _view_cost(
    model: Model, spaces: tuple[tuple[str, LabelSpace], ...], head: str, media: Media, shape: tuple[int, int]
) -> int:
    """Returns the multiply-adds of one forward pass of one view of `shape`: frames, and height and width."""
    with torch.device("meta"):
        recognizer = Recognizer(model, dict(spaces))
    return count_multiply_adds(recognizer, media, *shape, head)


def with_steps(recipe: Recipe, steps: float, counts: Mapping[str, int]) -> Spent:
    """Returns the recipe with the whole number of epochs, at least 1, that comes nearest to so many steps.

    Warm-up and the intervals of validations and checkpoints keep their shares of the run.
    """
    plan = make_plan(recipe, counts, num_processes=1)
    epochs = max(1, round(steps / plan.epoch_steps))
    scale = epochs / recipe.num_epochs

    def scaled(interval: int) -> int:
        return max(1, round(interval * scale)) if interval else 0

    validation = replace(recipe.validation, interval_epochs=scaled(recipe.validation.interval_epochs))
    checkpoints = replace(recipe.checkpoints, interval_epochs=scaled(recipe.checkpoints.interval_epochs))
    schedule = replace(recipe.schedule, warmup_epochs=recipe.schedule.warmup_epochs * scale)
    changed = replace(recipe, num_epochs=epochs, validation=validation, checkpoints=checkpoints, schedule=schedule)
    total = epochs * plan.epoch_steps
    return Spent(changed, total, round(total * step_cost(recipe, counts)))
