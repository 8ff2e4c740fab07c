"""What is wrong with a recipe: bounds, and what must fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omnisource.recipe.data import (
    HIGHEST_MAGNITUDE,
    NUM_OPERATIONS,
    SHARD_RANGE,
    ColorJitter,
    Mixing,
    RandAugment,
    RandomErasing,
    Source,
    Split,
    TarShards,
)
from omnisource.recipe.model import label_space_name_fault
from omnisource.types import Media

if TYPE_CHECKING:
    from omnisource.recipe.recipe import Recipe

WIDEST = 64
"""Largest `model.width`: beyond it a layer would have more weights than any memory holds."""


def recipe_faults(recipe: Recipe) -> list[str]:
    """Returns what is wrong with a recipe whose values have the right types, a line each."""
    faults = [*_name_faults(recipe), *_number_faults(recipe)]
    for name, source in recipe.sources.items():
        faults += [*_source_faults(recipe, name, source), *_view_faults(name, source)]
        faults += mixing_faults(name, recipe.sources)
    return faults


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
        if fault := label_space_name_fault(name):
            faults.append(fault)
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


def shard_faults(shards: TarShards) -> list[str]:
    """Returns what is wrong with a description of shards itself, each as `field: what`."""
    faults = []
    if not shards.urls:
        faults.append("urls: is empty, and wants at least one shard")
    for url in shards.urls:
        if any(int(first) > int(last) for first, last in SHARD_RANGE.findall(url)):
            faults.append(f"urls={url}: a range goes from the smaller number to the larger")
        elif re.search(r"[{}]", SHARD_RANGE.sub("", url)):
            faults.append(f"urls={url}: braces stand around a range such as {{000000..000012}}")
    if shards.label_suffix == "json" and not shards.label_field:
        faults.append("label_field: is empty, and label_suffix=json needs the field that holds the label")
    return faults


def augmentation_faults(
    key: str,
    rand_augment: RandAugment | None,
    color_jitter: ColorJitter | None,
    random_erasing: RandomErasing | None,
) -> list[str]:
    """Returns what is wrong with the numbers of augmentations, a line each; `key` goes before their keys."""
    at_most: dict[str, tuple[float, float]] = {}  # value and limit by key; nothing may be negative
    if rand_augment is not None:
        # As many as there are operations: more would leave nothing of any clip.
        at_most["rand_augment.num_operations"] = (rand_augment.num_operations, NUM_OPERATIONS)
        at_most["rand_augment.magnitude"] = (rand_augment.magnitude, HIGHEST_MAGNITUDE)
        at_most["rand_augment.magnitude_std"] = (rand_augment.magnitude_std, HIGHEST_MAGNITUDE)
        at_most["rand_augment.probability"] = (rand_augment.probability, 1)
    if color_jitter is not None:
        for name in ("brightness", "contrast", "saturation"):
            at_most[f"color_jitter.{name}"] = (getattr(color_jitter, name), math.inf)
        at_most["color_jitter.hue"] = (color_jitter.hue, 0.5)
        at_most["color_jitter.probability"] = (color_jitter.probability, 1)
    if random_erasing is not None:
        at_most["random_erasing.probability"] = (random_erasing.probability, 1)
    faults = []
    for name, (value, limit) in at_most.items():
        if not 0 <= value <= limit:
            allowed = "at least 0" if limit == math.inf else f"in [0, {limit:g}]"
            faults.append(f"{key}.{name}={value:g}: must be {allowed}")
    return faults if random_erasing is None else faults + _erasing_faults(f"{key}.random_erasing", random_erasing)


def _erasing_faults(key: str, settings: RandomErasing) -> list[str]:
    faults = []
    if not 0 < settings.min_area <= settings.max_area < 1:
        faults.append(f"{key}: needs 0 < min_area <= max_area < 1, has {settings.min_area:g} and {settings.max_area:g}")
    if not 0 < settings.min_aspect <= settings.max_aspect:
        faults.append(
            f"{key}: needs 0 < min_aspect <= max_aspect, has {settings.min_aspect:g} and {settings.max_aspect:g}"
        )
    return faults


def mixing_number_faults(key: str, mixing: Mixing) -> list[str]:
    """Returns what is wrong with the numbers of a mixing, a line each; `key` goes before their keys."""
    faults = []
    for name in ("mixup_alpha", "cutmix_alpha"):
        if getattr(mixing, name) < 0:
            faults.append(f"{key}.{name}={getattr(mixing, name):g}: must be at least 0")
    if mixing.mixup_alpha == 0 and mixing.cutmix_alpha == 0:
        faults.append(f"{key}: mixup_alpha and cutmix_alpha are both 0, so nothing is mixed: set one, or {key}=None")
    for name in ("probability", "switch_probability"):
        if not 0 <= getattr(mixing, name) <= 1:
            faults.append(f"{key}.{name}={getattr(mixing, name):g}: must be in [0, 1]")
    return faults


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
