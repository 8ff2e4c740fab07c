"""A source: the frozen description of a dataset, and what a sample of it is asked for with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from omnisource.data.annotations import Items, Split, class_names_of_folders, read_class_names
from omnisource.data.frames import ClipSampling
from omnisource.data.pipeline import SampleRequest
from omnisource.data.transforms import EvaluationViews, TrainingView
from omnisource.types import Media


@dataclass(frozen=True)
class Source:
    """One dataset of a recipe."""

    media: Media
    """What the items are: "image" or "video" (raw frames count as video)."""

    label_space: str
    """Name of the label space that the labels belong to."""

    root: str
    """Folder of the dataset; the other paths of the source start from it."""

    train: Split
    """Items to train on."""

    validation: Split | None = None
    """Items to validate on, every few epochs. None: not validated."""

    test: Split | None = None
    """Items to test on. None: the validation items."""

    classes: str = ""
    """Class map below the root: `name index` or one name a line. Empty: the names of the class folders, where the
    format is "folders", and no names otherwise."""

    batch_size: int | None = None
    """Samples in a microbatch. None: from `ends_with`."""

    ends_with: str = ""
    """Name of the source that this one ends an epoch together with; its batch size then follows from the counts."""

    ratio_to: str = ""
    """Name of the source that this one keeps a ratio to; its batch size then is `ratio` times the other's."""

    ratio: float = 1.0
    """Samples for each sample of `ratio_to`. Where a microbatch would get a broken number, it gets one more or less."""

    class_power: float = 1.0
    """A class of n items is drawn in proportion to n^class_power. 1: every item once an epoch; 0: all classes alike.
    Unless it is 1, items are drawn with replacement."""

    epoch_items: int | None = None
    """Samples in an epoch where items are drawn with replacement. None: as many as there are items."""

    loss_weight: float = 1.0
    """Factor on the loss of this source in the sum."""

    sampling: ClipSampling = field(default_factory=ClipSampling)
    """How clips are taken from videos."""

    training_view: TrainingView = field(default_factory=TrainingView)
    """The random view taken in training."""

    validation_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in validation."""

    test_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in testing."""


SplitName = Literal["train", "validation", "test"]


def split_of(source: Source, split: SplitName) -> Split | None:
    """Returns the split of that name; testing falls back to the validation items."""
    if split == "test":
        return source.test or source.validation
    return source.train if split == "train" else source.validation


def class_names_of(source: Source) -> tuple[str, ...] | None:
    """Returns the names of a source's classes in the order of their indices, or None where it has none.

    Raises:
        UserError: If the class map or the folder is missing or wrong.
    """
    if source.classes:
        return read_class_names(os.path.join(source.root, source.classes))
    if source.train.format == "folders":
        return class_names_of_folders(os.path.join(source.root, source.train.folder))
    return None


def request_of(
    name: str, source: Source, split: SplitName, items: Items, index: int, seed: int = 0, epoch: int = 0
) -> SampleRequest:
    """Returns the request of one item of a split, with the view or views of that split."""
    item = items[index]
    views = {"train": source.training_view, "validation": source.validation_views, "test": source.test_views}
    described = split_of(source, split)
    assert described is not None, f"source {name} has no {split} items"
    return SampleRequest(
        source=name,
        media=source.media,
        path=item.path,
        key=item.key,
        label=item.label,
        num_frames=item.num_frames,
        frame_template=described.frame_template,
        sampling=source.sampling,
        view=views[split],
        seed=seed,
        epoch=epoch,
        index=index,
    )
