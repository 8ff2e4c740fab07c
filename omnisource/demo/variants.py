"""The demo's three ways of training one recognizer, each with the same multiply-adds of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.models.cost import count_multiply_adds
from omnisource.models.recognizer import Recognizer
from omnisource.recipe.data import ClipSampling, EvaluationViews, Source, Split, TrainingView
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.optimization import Optimizer, Schedule
from omnisource.recipe.recipe import Checkpoints, Recipe, Validation
from omnisource.training.plan import make_plan

SIZE = 40
"""Height and width of what the model sees, in pixels."""

PRETRAINING_SHARE = 0.5
"""Share of the multiply-adds of the pre-trained variant that its images get."""

PRETRAINED_RATE = 3e-3
"""Learning rate of both stages of the pre-trained variant: it does better with it than with the 6e-3 of the others."""

BACKWARD = 2
"""The backward pass costs two forward passes: the gradients of inputs and of weights."""


@dataclass(frozen=True)
class Stage:
    """A run of a variant.

    Attributes:
        name: Of its work dir.
        recipe: Of its run; without the weights that it starts from.
        multiply_adds: Of its training.
    """

    name: str
    recipe: Recipe
    multiply_adds: float


@dataclass(frozen=True)
class Variant:
    """A way of training.

    Attributes:
        description: What it does, in a few words.
        stages: Its runs; each starts from the weights of the one before.
    """

    description: str
    stages: tuple[Stage, ...]

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds of training, of all stages."""
        return sum(stage.multiply_adds for stage in self.stages)


def demo_recipe(media: Path, seed: int = 0) -> Recipe:
    """Returns the recipe of the joint training: 120 labeled clips of 20 classes, and images of the ten digits."""
    center = EvaluationViews(num_clips=1, num_crops=1, short_side=SIZE, crop_size=SIZE)
    view = TrainingView(crop_size=SIZE, min_area=0.6, flip_probability=0.0)  # a flip would turn left into right
    return Recipe(
        model=Model(depth=18, width=0.125, batch_norm_momentum=0.1),
        label_spaces={
            "digit_and_motion": LabelSpace(head="video", dropout=0.3),
            "digit": LabelSpace(head="image", dropout=0.2),
        },
        sources={
            "clips": Source(
                media="video",
                label_space="digit_and_motion",
                root=str(media / "clips"),
                train=Split(list="train.txt"),
                test=Split(list="held_out.txt"),
                classes="classes.txt",
                batch_size=16,
                sampling=ClipSampling(clip_length=4, frame_interval=5),
                training_view=view,
                test_views=center,
            ),
            "images": Source(
                media="image",
                label_space="digit",
                root=str(media / "images"),
                train=Split(list="train.txt"),
                test=Split(list="held_out.txt"),
                classes="classes.txt",
                batch_size=32,
                training_view=view,
                test_views=center,
            ),
        },
        main_source="clips",
        num_epochs=57,
        optimizer=Optimizer(method="adamw", learning_rate=6e-3, base_batch_size=16, weight_decay=0.05),
        schedule=Schedule(warmup_epochs=3),
        validation=Validation(interval_epochs=0),
        checkpoints=Checkpoints(interval_epochs=1000, keep_last=1),
        num_workers=1,
        seed=seed,
    )


def demo_variants(media: Path, seed: int = 0) -> dict[str, Variant]:
    """Returns the variants by name; all cost what the joint training costs, to the nearest epoch.

    Args:
        media: Folder of the media, which are there.
        seed: Of their runs.
    """
    joint, names = resolve_classes(demo_recipe(media, seed))
    counts = {name: len(items) for name, items in read_splits(joint, names, "train").items()}
    budget = _step_cost(joint, counts) * make_plan(joint, counts, num_processes=1).total_steps
    of_clips, of_images = _only(joint, "clips"), _only(joint, "images")
    slower = {"optimizer": replace(joint.optimizer, learning_rate=PRETRAINED_RATE)}
    return {
        "scratch": Variant("clips alone", (_stage("scratch", of_clips, budget, counts),)),
        "pre-trained": Variant(
            "images, then clips",
            (
                _stage("pretrained_images", replace(of_images, **slower), PRETRAINING_SHARE * budget, counts),
                _stage("pretrained", replace(of_clips, **slower), (1 - PRETRAINING_SHARE) * budget, counts),
            ),
        ),
        "joint": Variant("clips and images in every step", (_stage("joint", joint, budget, counts),)),
    }


def _only(recipe: Recipe, name: str) -> Recipe:
    """Returns the recipe of one source alone."""
    source = recipe.sources[name]
    spaces = {source.label_space: recipe.label_spaces[source.label_space]}
    return replace(recipe, sources={name: source}, label_spaces=spaces, main_source=name)


def _stage(name: str, recipe: Recipe, budget: float, counts: Mapping[str, int]) -> Stage:
    """Returns the stage of so many epochs that it costs the budget; the warm-up keeps its share."""
    counts = {source: counts[source] for source in recipe.sources}
    of_epoch = _step_cost(recipe, counts) * make_plan(recipe, counts, num_processes=1).epoch_steps
    epochs = max(1, round(budget / of_epoch))
    warmup = recipe.schedule.warmup_epochs * epochs / recipe.num_epochs
    changed = replace(recipe, num_epochs=epochs, schedule=replace(recipe.schedule, warmup_epochs=warmup))
    return Stage(name, changed, epochs * of_epoch)


def _step_cost(recipe: Recipe, counts: Mapping[str, int]) -> float:
    """Returns the multiply-adds of a step of training in one process."""
    recognizer = Recognizer(recipe.model, recipe.label_spaces)
    plan = make_plan(recipe, counts, num_processes=1)
    forward = 0.0
    for name, source in recipe.sources.items():
        frames = 1 if source.media == "image" else source.sampling.clip_length
        of_one = count_multiply_adds(recognizer, source.media, frames, SIZE, source.label_space)
        forward += float(plan.batch_sizes[name]) * of_one
    return (1 + BACKWARD) * forward * plan.microbatches
