"""The one config tree of a run, and its cross-field checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from omnisource.data.loading.source import Source, mixing_faults
from omnisource.data.shards.read import TarShards, shard_faults
from omnisource.data.transforms.augment import augmentation_faults
from omnisource.data.transforms.mixing import Mixing
from omnisource.errors import UserError
from omnisource.models.recognizer import LabelSpace, Model, check_label_space_name
from omnisource.recipe.config import type_faults
from omnisource.recipe.splits import Split
from omnisource.training.optimizer import Optimizer, Schedule
from omnisource.types import Media

WIDEST = 64
"""Largest `model.width`: beyond it a layer would have more weights than any memory holds."""


@dataclass(frozen=True)
class Validation:
    """When a run is validated."""

    interval_epochs: int = 4
    """Epochs from one validation to the next; the last epoch is always validated. 0: never."""


@dataclass(frozen=True)
class Checkpoints:
    """When a run is saved, and what is kept."""

    interval_epochs: int = 4
    """Epochs from one checkpoint to the next; the end of the run is always saved."""

    interval_steps: int = 0
    """Steps from one checkpoint to the next, besides those at epochs. 0: none."""

    interval_minutes: float = 0.0
    """Minutes from one checkpoint to the next, besides the others. 0: none."""

    keep_last: int = 3
    """Newest checkpoints that are kept; the best one is kept besides."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run."""

    label_spaces: Mapping[str, LabelSpace]
    """Label spaces by name; each has a head."""

    sources: Mapping[str, Source]
    """Datasets by name; every step trains on one batch of each."""

    main_source: str
    """Name of the source whose epochs are the epochs of the run, and whose top-1 chooses the best checkpoint."""

    num_epochs: int
    """Epochs of the main source."""

    model: Model = field(default_factory=Model)
    """The backbone."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How the weights are changed."""

    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate over the run."""

    accumulation: int = 1
    """Microbatches whose gradients are averaged in one step of one process."""

    sync_batch_norm: bool = False
    """Whether BatchNorm's batch statistics are those of all processes together, a microbatch of each at a time, for
    images, videos and heads."""

    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Arithmetic of the forward pass: float32, or autocast to bfloat16 or float16, the latter with a scaled loss and on
    a GPU only. Weights stay float32. float64: weights too, for checking; slow."""

    validation: Validation = field(default_factory=Validation)
    """When the run is validated."""

    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    """When the run is saved."""

    views_at_a_time: int = 32
    """Views that evaluation sends through the model at once; bounds its memory."""

    num_workers: int = 8
    """Loading processes for each training process. 0: load in the training process."""

    item_processor_seconds: float = 120.0
    """Processor time that one item may take to load before its worker is ended and the file counts as unreadable; a
    video, for every 256 frames that are decoded of it."""

    item_timeout_seconds: float = 600.0
    """The same for wall time, waiting for disk and network with it; generous, for machines that are busy."""

    ema_decay: float | None = None
    """Share of the moving average of the weights that a step keeps; it is evaluated beside them. None: no average."""

    max_skipped_steps: int = 0
    """Steps whose loss or gradient is not finite that may be left out; each is named and its batch kept."""

    max_unreadable: int = 0
    """Files that may be unreadable; each is named, and in training replaced by the next item of its list."""

    max_unreadable_share: float = 0.0
    """The same as a share of all items that the run reads; the larger of the two limits holds."""

    log_interval_steps: int = 20
    """Steps from one log line to the next where there is no terminal; metrics.jsonl has every step."""

    seed: int = 0
    """Seed of the initial weights, the order, the augmentation and dropout."""

    deterministic: bool = False
    """Whether only deterministic algorithms are used."""

    def only_head(self, kind: Literal["image", "video"]) -> str | None:
        """Returns the label space whose head is the only one of its kind, or None where there are none or several.

        A published checkpoint has one head of each kind: this is where its weights go.
        """
        heads = [name for name, space in self.label_spaces.items() if space.head == kind]
        return heads[0] if len(heads) == 1 else None

    def mixings(self) -> dict[str, Mixing]:
        """Returns how the sources mix their samples, by source, for those that do."""
        return {name: source.mixing for name, source in self.sources.items() if source.mixing is not None}

    def class_counts(self) -> dict[str, int]:
        """Returns the number of classes of each label space whose number is known."""
        return {name: count for name, space in self.label_spaces.items() if (count := space.num_classes) is not None}

    def permitted_unreadable(self, num_items: int) -> int:
        """Returns how many of `num_items` items may be unreadable."""
        return max(self.max_unreadable, int(self.max_unreadable_share * num_items))

    def __post_init__(self) -> None:
        faults = type_faults(self)
        if not faults:  # the other checks rely on the types
            faults = [*_name_faults(self), *_number_faults(self)]
            for name, source in self.sources.items():
                faults += [*_source_faults(self, name, source), *_view_faults(name, source)]
                faults += mixing_faults(name, self.sources)
        if faults:
            raise ValueError("; ".join(faults))


def _name_faults(recipe: Recipe) -> list[str]:
    faults = []
    if not recipe.sources:
        faults.append("a recipe needs at least one source")
    elif recipe.main_source not in recipe.sources:
        faults.append(f"main_source={recipe.main_source}: allowed are {', '.join(recipe.sources)}")
    else:
        main = recipe.sources[recipe.main_source]
        if main.ends_with or main.ratio_to:
            key = "ends_with" if main.ends_with else "ratio_to"
            faults.append(f"sources.{recipe.main_source}.{key}: the main source sets the pace and follows none")
    for name in recipe.sources:
        # The name is a part of keys and of paths in the work dir.
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
            faults.append(f"source {name!r}: the name may have letters, digits, _ and - only")
    used = {source.label_space for source in recipe.sources.values()}
    for name, space in recipe.label_spaces.items():
        try:
            check_label_space_name(name)
        except UserError as error:
            faults.append(str(error))
        if name not in used:
            faults.append(f"label_spaces.{name}: no source uses it, so its head would never be trained: remove it")
        if space.num_classes is not None and space.num_classes < 1:
            faults.append(f"label_spaces.{name}.num_classes={space.num_classes}: must be at least 1")
        if not 0 <= space.dropout < 1:
            faults.append(f"label_spaces.{name}.dropout={space.dropout}: must be in [0, 1)")
        if not 0 <= space.label_smoothing < 1:
            faults.append(f"label_spaces.{name}.label_smoothing={space.label_smoothing}: must be in [0, 1)")
    return faults


def _number_faults(recipe: Recipe) -> list[str]:
    least = {
        "num_epochs": (recipe.num_epochs, 1),
        "accumulation": (recipe.accumulation, 1),
        "views_at_a_time": (recipe.views_at_a_time, 1),
        "num_workers": (recipe.num_workers, 0),
        "max_unreadable": (recipe.max_unreadable, 0),
        "max_skipped_steps": (recipe.max_skipped_steps, 0),
        "checkpoints.interval_minutes": (recipe.checkpoints.interval_minutes, 0),
        "log_interval_steps": (recipe.log_interval_steps, 1),
        "seed": (recipe.seed, 0),
        "validation.interval_epochs": (recipe.validation.interval_epochs, 0),
        "checkpoints.interval_epochs": (recipe.checkpoints.interval_epochs, 1),
        "checkpoints.interval_steps": (recipe.checkpoints.interval_steps, 0),
        "checkpoints.keep_last": (recipe.checkpoints.keep_last, 1),
        "schedule.warmup_epochs": (recipe.schedule.warmup_epochs, 0),
        "schedule.warmup_start_factor": (recipe.schedule.warmup_start_factor, 0),
        "schedule.final_factor": (recipe.schedule.final_factor, 0),
        "optimizer.momentum": (recipe.optimizer.momentum, 0),
        "optimizer.weight_decay": (recipe.optimizer.weight_decay, 0),
        "optimizer.base_batch_size": (recipe.optimizer.base_batch_size, 1),
    }
    faults = [f"{key}={value}: must be at least {low}" for key, (value, low) in least.items() if value < low]
    positive = {
        "optimizer.learning_rate": recipe.optimizer.learning_rate,
        "item_timeout_seconds": recipe.item_timeout_seconds,
        "item_processor_seconds": recipe.item_processor_seconds,
        "model.width": recipe.model.width,
    }
    if recipe.optimizer.max_gradient_norm is not None:
        positive["optimizer.max_gradient_norm"] = recipe.optimizer.max_gradient_norm
    faults += [f"{key}={value}: must be above 0" for key, value in positive.items() if value <= 0]
    if recipe.model.width > WIDEST:
        faults.append(f"model.width={recipe.model.width}: must be at most {WIDEST}")
    if recipe.ema_decay is not None and not 0 <= recipe.ema_decay < 1:
        faults.append(f"ema_decay={recipe.ema_decay}: must be in [0, 1)")
    if not 0 <= recipe.max_unreadable_share <= 1:
        faults.append(f"max_unreadable_share={recipe.max_unreadable_share}: must be in [0, 1]")
    if not all(0 <= beta < 1 for beta in recipe.optimizer.betas):
        faults.append(f"optimizer.betas={recipe.optimizer.betas}: both must be in [0, 1)")
    return faults


def _source_faults(recipe: Recipe, name: str, source: Source) -> list[str]:
    key = f"sources.{name}"
    faults = []
    if source.label_space not in recipe.label_spaces:
        faults.append(
            f"{key}.label_space={source.label_space}: allowed are {', '.join(recipe.label_spaces) or 'none (none set)'}"
        )
    faults += _pace_faults(recipe, key, source)
    if source.class_power == 1 and source.epoch_items is not None:
        faults.append(f"{key}.epoch_items={source.epoch_items}: with class_power=1 an epoch is every item once")
    if source.epoch_items is not None and source.epoch_items < 1:
        faults.append(f"{key}.epoch_items={source.epoch_items}: must be at least 1")
    if source.loss_weight < 0:
        faults.append(f"{key}.loss_weight={source.loss_weight}: must be at least 0")
    for split_name in ("train", "validation", "test"):
        split: Split | TarShards | None = getattr(source, split_name)
        if split is not None:
            faults += _split_faults(f"{key}.{split_name}", split, source.media)
    return faults


def _pace_faults(recipe: Recipe, key: str, source: Source) -> list[str]:
    """Returns what is wrong with how the batch size of a source is set."""
    faults = []
    if [source.batch_size is not None, bool(source.ends_with), bool(source.ratio_to)].count(True) != 1:
        faults.append(f"{key}: set exactly one of batch_size, ends_with and ratio_to")
    if source.batch_size is not None and source.batch_size < 1:
        faults.append(f"{key}.batch_size={source.batch_size}: must be at least 1")
    sized = {name: other.batch_size for name, other in recipe.sources.items() if other.batch_size is not None}
    for field_name, pace in (("ends_with", source.ends_with), ("ratio_to", source.ratio_to)):
        if pace and pace not in sized:
            allowed = ", ".join(sized) or "there is none"
            faults.append(f"{key}.{field_name}={pace}: allowed are sources with a batch_size: {allowed}")
    if source.ratio_to in sized and not source.ratio * sized[source.ratio_to] >= 1:
        faults.append(
            f"{key}.ratio={source.ratio:g}: of a batch of {sized[source.ratio_to]} that is less than one sample, and "
            "every microbatch needs one of every source; raise the ratio or the batch_size"
        )
    return faults


def _split_faults(key: str, split: Split | TarShards, media: Media) -> list[str]:
    if isinstance(split, TarShards):
        return [f"{key}.{fault}" for fault in shard_faults(split)]
    faults = []
    if split.format != "folders" and not split.list:
        faults.append(f"{key}.list: is empty, and format={split.format} needs a list (or format=folders none)")
    if media == "image" and split.format in ("frames_folder", "video_frames_label"):
        faults.append(f"{key}.format={split.format}: is for videos, the source's media is image")
    if split.format == "frames_folder":
        try:
            has_number = split.frame_template.format(1) != split.frame_template.format(2)
        except (IndexError, KeyError, ValueError, AttributeError):
            has_number = False
        if not has_number:
            faults.append(
                f"{key}.frame_template={split.frame_template}: wants a place for the number, as img_{{:05d}}.jpg"
            )
    return faults


def _view_faults(name: str, source: Source) -> list[str]:
    key, view = f"sources.{name}", source.training_view
    faults = []
    least_one = {
        "training_view.crop_size": view.crop_size,
        "sampling.clip_length": source.sampling.clip_length,
        "sampling.frame_interval": source.sampling.frame_interval,
    }
    for which in ("validation_views", "test_views"):
        views = getattr(source, which)
        least_one[f"{which}.num_clips"] = views.num_clips
        if not 1 <= views.crop_size <= views.short_side:
            faults.append(f"{key}.{which}: crop_size={views.crop_size} must be in 1..short_side={views.short_side}")
    faults += [f"{key}.{which}={value}: must be at least 1" for which, value in least_one.items() if value < 1]
    if not 0 < view.min_area <= view.max_area <= 1:
        faults.append(
            f"{key}.training_view: needs 0 < min_area <= max_area <= 1, has {view.min_area} and {view.max_area}"
        )
    if not 0 < view.min_aspect <= view.max_aspect:
        faults.append(
            f"{key}.training_view: needs 0 < min_aspect <= max_aspect, has {view.min_aspect} and {view.max_aspect}"
        )
    if not 0 <= view.flip_probability <= 1:
        faults.append(f"{key}.training_view.flip_probability={view.flip_probability}: must be in [0, 1]")
    augmentations = view.rand_augment, view.color_jitter, view.random_erasing
    return faults + augmentation_faults(f"{key}.training_view", *augmentations)
