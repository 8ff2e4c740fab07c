"""An experiment: variants of one recipe, the folds, seeds and amounts they are run on, and what is held equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from omnisource.recipe.data import Source
from omnisource.recipe.recipe import Recipe

Change = Callable[[Recipe], Recipe]


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Attributes:
        change: Makes its recipe of the base recipe.
        pretraining: Makes the recipe of a stage before, from whose weights it starts. None: no such stage.
        pretraining_share: Share of the multiply-adds that the stage before gets where compute is held equal.
    """

    change: Change
    pretraining: Change | None = None
    pretraining_share: float = 0.5


@dataclass(frozen=True)
class Fold:
    """The lists of the main source in one fold, below its root.

    Attributes:
        train: Labeled clips to train on.
        test: Clips that nothing is chosen on.
        validation: Clips that values of the grid are chosen on. "": a part of the training clusters.
    """

    train: str
    test: str
    validation: str = ""


@dataclass(frozen=True)
class Budget:
    """What is held equal.

    Attributes:
        equal: "compute": multiply-adds of training, both stages together; "video_steps": steps on videos.
        video_steps: Steps on videos; with equal compute, those of the variant `of`.
        of: With equal compute, the variant whose cost is everyone's.
    """

    equal: Literal["compute", "video_steps"]
    video_steps: int
    of: str = ""


@dataclass(frozen=True)
class Experiment:
    """Variants x budgets x amounts x folds x seeds.

    Attributes:
        recipe: The base recipe, with images and videos; `num_epochs` is derived from the budget, and the warm-up keeps
            its share of the run.
        variants: By name.
        folds: By name.
        budgets: By name.
        seeds: Seeds of the runs that are compared.
        amounts: Labeled clips, or clusters, of each class; None: all.
        amount_unit: What the amounts count.
        cluster_of: Gives the cluster of a clip by its path in the list: clips of one origin.
        class_groups: Classes whose test items are reported apart too, by the name of the group.
        grid: Values tried for each key, as `{"optimizer.learning_rate": (1e-3, 3e-3)}`; all combinations.
        tuning_seed: Seed of the runs that values are chosen with, on validation, for each variant, amount, fold.
        validation_share: Share of the training clusters that is set apart in folds without validation.
    """

    recipe: Recipe
    variants: Mapping[str, Variant]
    folds: Mapping[str, Fold]
    budgets: Mapping[str, Budget]
    seeds: tuple[int, ...] = (0, 1, 2)
    amounts: tuple[int | None, ...] = (None,)
    amount_unit: Literal["clips", "clusters"] = "clips"
    cluster_of: Callable[[str], str] = str
    class_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grid: Mapping[str, tuple[float | int | str | bool, ...]] = field(default_factory=dict)
    tuning_seed: int = 1000
    validation_share: float = 0.2

    def __post_init__(self) -> None:
        faults = []
        for what, kind in (("variants", Variant), ("folds", Fold), ("budgets", Budget)):
            values = getattr(self, what)
            if not isinstance(values, Mapping) or not values:
                raise ValueError(f"{what}: wants at least one {kind.__name__}, by name")
            for name, value in values.items():
                if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                    faults.append(f"{what} {name!r}: a name is letters, digits, _ and -, since folders are named so")
                if not isinstance(value, kind):
                    faults.append(f"{what} {name!r}: is {value!r}, and no {kind.__name__}")
        for what in ("seeds", "amounts"):
            values = getattr(self, what)
            if not isinstance(values, tuple | list) or not values:
                raise ValueError(f"{what}={values!r}: wants at least one, such as (1, 2)")
            if len(set(values)) != len(values):
                faults.append(f"{what}: one is there twice")
        faults += [f"amounts: {amount} is below 1" for amount in self.amounts if amount is not None and amount < 1]
        for key, values in self.grid.items():
            if not isinstance(values, tuple | list) or not values:
                faults.append(f"grid {key}={values!r}: wants the values to try, such as (0.001, 0.003)")
        if not 0 < self.validation_share < 1:
            faults.append(f"validation_share={self.validation_share}: must lie between 0 and 1")
        if faults:
            raise ValueError("; ".join(faults))
        for name, variant in self.variants.items():
            if not 0 < variant.pretraining_share < 1:
                faults.append(f"variant {name}: pretraining_share={variant.pretraining_share}: must be between 0 and 1")
        for name, budget in self.budgets.items():
            if budget.equal not in ("compute", "video_steps"):
                faults.append(f"budget {name}: equal={budget.equal!r}: must be compute or video_steps")
            if budget.video_steps < 1:
                faults.append(f"budget {name}: video_steps={budget.video_steps} is below 1")
            if budget.equal == "compute" and budget.of not in self.variants:
                faults.append(f"budget {name}: of={budget.of!r} is none of the variants {', '.join(self.variants)}")
        if faults:
            raise ValueError("; ".join(faults))


def only(recipe: Recipe, media: Literal["image", "video"]) -> Recipe:
    """Returns a recipe of the sources of one kind of media, and of their label spaces."""
    sources = {name: _alone(recipe, name) for name, source in recipe.sources.items() if source.media == media}
    if not sources:
        raise ValueError(f"the base recipe has no {media} source")
    spaces = {source.label_space for source in sources.values()}
    main = recipe.main_source if recipe.main_source in sources else next(iter(sources))
    kept = {name: space for name, space in recipe.label_spaces.items() if name in spaces}
    return replace(recipe, sources=sources, label_spaces=kept, main_source=main)


def _alone(recipe: Recipe, name: str) -> Source:
    """Returns a source that follows none of the other media, with the batch size that it had beside it."""
    source = recipe.sources[name]
    followed = source.ends_with or source.ratio_to
    if not followed or recipe.sources[followed].media == source.media:
        return source
    pace = recipe.sources[followed].batch_size
    if source.ends_with or pace is None:
        raise ValueError(f"sources.{name}.ends_with={followed}: give the source a batch_size, which it keeps alone")
    return replace(source, ratio_to="", ratio=1.0, batch_size=max(1, round(pace * source.ratio)))


def scratch() -> Variant:
    """Returns the training on the videos alone."""
    return Variant(lambda recipe: only(recipe, "video"))


def pretrained(share: float = 0.5) -> Variant:
    """Returns the training on the videos, from weights trained on the images alone.

    Args:
        share: Of the multiply-adds, for the images.
    """
    return Variant(lambda recipe: only(recipe, "video"), lambda recipe: only(recipe, "image"), share)


def joint() -> Variant:
    """Returns the training on all sources in every step: the base recipe."""
    return Variant(lambda recipe: recipe)


def joint_from_pretrained(share: float = 0.5) -> Variant:
    """Returns the training on all sources, from weights trained on the images alone."""
    return Variant(lambda recipe: recipe, lambda recipe: only(recipe, "image"), share)


def still_clips() -> Variant:
    """Returns the joint training with every image as a clip that stands still; its files are linked in the work dir."""
    return Variant(_with_still_clips)


def single_frame() -> Variant:
    """Returns the training on one frame of each video, a control: what scenes tell without motion."""

    def of_one_frame(recipe: Recipe) -> Recipe:
        videos = only(recipe, "video")
        sources = {
            name: replace(source, sampling=replace(source.sampling, clip_length=1))
            for name, source in videos.sources.items()
        }
        return replace(videos, sources=sources)

    return Variant(of_one_frame)


STILL_CLIPS = "{:05d}.still"
"""Marks, as the frame template, a source whose images become folders of one frame."""


def _with_still_clips(recipe: Recipe) -> Recipe:
    video = recipe.sources[recipe.main_source]

    def still(source: Source) -> Source:
        train = replace(source.train, format="frames_folder", frame_template=STILL_CLIPS)
        return replace(source, media="video", train=train, validation=None, test=None, sampling=video.sampling)

    sources = {name: still(source) if source.media == "image" else source for name, source in recipe.sources.items()}
    return replace(recipe, sources=sources)
