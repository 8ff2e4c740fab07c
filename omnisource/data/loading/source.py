"""A source: the frozen description of a dataset, and what a sample of it is asked for with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omnisource.data.lists.items import Items
from omnisource.data.lists.media_files import class_names_of_folders
from omnisource.data.lists.text import read_class_names
from omnisource.data.loading.clip_sampling import ClipSampling
from omnisource.data.loading.sample import SampleRequest
from omnisource.data.shards.read import TarShards
from omnisource.data.transforms.mixing import Mixing, mixing_number_faults
from omnisource.data.transforms.views import EvaluationViews, TrainingView
from omnisource.recipe.splits import Split
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

    train: Split | TarShards
    """Items to train on."""

    validation: Split | TarShards | None = None
    """Items to validate on, every few epochs. None: not validated."""

    test: Split | TarShards | None = None
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

    mixing: Mixing | None = None
    """Mixup and CutMix: mixup_alpha, cutmix_alpha, probability, switch_probability, partner. None: none."""

    validation_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in validation."""

    test_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in testing."""


SplitName = Literal["train", "validation", "test"]


def split_of(source: Source, split: SplitName) -> Split | TarShards | None:
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
    if isinstance(source.train, Split) and source.train.format == "folders":
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
        part=item.part,
        frame_template=described.frame_template if isinstance(described, Split) else "",
        sampling=source.sampling,
        view=views[split],
        seed=seed,
        epoch=epoch,
        index=index,
    )


def mixing_faults(name: str, sources: Mapping[str, Source]) -> list[str]:
    """Returns what is wrong with how a source mixes its samples, and with the partner that it names, a line each."""
    source = sources[name]
    if source.mixing is None:
        return []
    key, partner_name = f"sources.{name}.mixing", source.mixing.partner
    faults = mixing_number_faults(key, source.mixing)
    if not partner_name:
        if source.batch_size == 1:
            faults.append(
                f"{key}: with batch_size=1 there is no other sample to mix with; raise batch_size or set {key}.partner"
            )
        return faults
    key = f"{key}.partner={partner_name}"
    partner = sources.get(partner_name)
    if partner is None or partner is source:
        others = [other for other in sources if other != name]
        return [*faults, f"{key}: allowed are other sources: {', '.join(others) or 'there is none'}; empty: this one"]
    if partner.label_space != source.label_space:
        faults.append(
            f"{key}: its label space is {partner.label_space}, not {source.label_space}, and labels are mixed within "
            "one label space only: choose a partner of this one"
        )
    if partner.training_view.crop_size != source.training_view.crop_size:
        faults.append(
            f"{key}: its crops have {partner.training_view.crop_size} pixels a side, not "
            f"{source.training_view.crop_size}: set training_view.crop_size of both alike"
        )
    if source.media == "image" and partner.media == "video":
        faults.append(
            f"{key}: is a source of videos, which cannot be mixed into images; images can be mixed into videos: set "
            f"sources.{partner_name}.mixing.partner={name}"
        )
    elif partner.media == "video" and partner.sampling.clip_length != source.sampling.clip_length:
        faults.append(
            f"{key}: its clips have {partner.sampling.clip_length} frames, not {source.sampling.clip_length}: set "
            "sampling.clip_length of both alike"
        )
    return faults
