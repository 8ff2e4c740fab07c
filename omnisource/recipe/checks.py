"""What does not fit together in a recipe. The bounds of single values stand beside their fields."""

from __future__ import annotations

import re
from collections.abc import Mapping

from omnisource.recipe.data import SHARD_RANGE, Mixing, RandomErasing, Source, Split, TarShards, TrainingView
from omnisource.recipe.model import LabelSpace, label_space_name_fault
from omnisource.types import Media


def cross_field_faults(
    label_spaces: Mapping[str, LabelSpace], sources: Mapping[str, Source], main_source: str
) -> list[str]:
    """Returns what does not fit together in a recipe whose values have the right types, a line each."""
    faults = _name_faults(label_spaces, sources, main_source)
    for name, source in sources.items():
        if source.label_space not in label_spaces:
            allowed = ", ".join(label_spaces) or "none (none set)"
            faults.append(f"sources.{name}.label_space={source.label_space}: allowed are {allowed}")
        faults += [*_source_faults(name, sources), *_view_faults(name, source), *_mixing_faults(name, sources)]
    return faults


def _name_faults(label_spaces: Mapping[str, LabelSpace], sources: Mapping[str, Source], main_source: str) -> list[str]:
    faults = []
    if not sources:
        faults.append("a recipe needs at least one source")
    elif main_source not in sources:
        faults.append(f"main_source={main_source}: allowed are {', '.join(sources)}")
    else:
        main = sources[main_source]
        if main.ends_with or main.ratio_to:
            key = "ends_with" if main.ends_with else "ratio_to"
            faults.append(f"sources.{main_source}.{key}: the main source sets the pace and follows none")
    for name in sources:
        # The name is a part of keys and of paths in the work dir.
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
            faults.append(f"source {name!r}: the name may have letters, digits, _ and - only")
    used = {source.label_space for source in sources.values()}
    for name in label_spaces:
        if fault := label_space_name_fault(name):
            faults.append(fault)
        if name not in used:
            faults.append(f"label_spaces.{name}: no source uses it, so its head would never be trained: remove it")
    return faults


def _source_faults(name: str, sources: Mapping[str, Source]) -> list[str]:
    key, source = f"sources.{name}", sources[name]
    faults = _pace_faults(key, source, sources)
    if source.class_power == 1 and source.epoch_items is not None:
        faults.append(f"{key}.epoch_items={source.epoch_items}: with class_power=1 an epoch is every item once")
    for split_name in ("train", "validation", "test"):
        split: Split | TarShards | None = getattr(source, split_name)
        if split is not None:
            faults += _split_faults(f"{key}.{split_name}", split, source.media)
    return faults


def _pace_faults(key: str, source: Source, sources: Mapping[str, Source]) -> list[str]:
    """Returns what is wrong with how the batch size of a source is set."""
    faults = []
    if [source.batch_size is not None, bool(source.ends_with), bool(source.ratio_to)].count(True) != 1:
        faults.append(f"{key}: set exactly one of batch_size, ends_with and ratio_to")
    sized = {name: other.batch_size for name, other in sources.items() if other.batch_size is not None}
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
    key = f"sources.{name}"
    faults = training_view_faults(f"{key}.training_view", source.training_view)
    for which in ("validation_views", "test_views"):
        views = getattr(source, which)
        if not 1 <= views.crop_size <= views.short_side:
            faults.append(f"{key}.{which}: crop_size={views.crop_size} must be in 1..short_side={views.short_side}")
    return faults


def training_view_faults(key: str, view: TrainingView) -> list[str]:
    """Returns what does not fit together in a view of training, a line each; `key` names the view."""
    faults = []
    if not 0 < view.min_area <= view.max_area <= 1:
        faults.append(f"{key}: needs 0 < min_area <= max_area <= 1, has {view.min_area} and {view.max_area}")
    if not 0 < view.min_aspect <= view.max_aspect:
        faults.append(f"{key}: needs 0 < min_aspect <= max_aspect, has {view.min_aspect} and {view.max_aspect}")
    if view.random_erasing is not None:
        faults += _erasing_faults(f"{key}.random_erasing", view.random_erasing)
    return faults


def _erasing_faults(key: str, settings: RandomErasing) -> list[str]:
    faults = []
    if not 0 < settings.min_area <= settings.max_area < 1:
        faults.append(f"{key}: needs 0 < min_area <= max_area < 1, has {settings.min_area:g} and {settings.max_area:g}")
    if not 0 < settings.min_aspect <= settings.max_aspect:
        faults.append(
            f"{key}: needs 0 < min_aspect <= max_aspect, has {settings.min_aspect:g} and {settings.max_aspect:g}"
        )
    return faults


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


def nothing_mixed_faults(key: str, mixing: Mixing) -> list[str]:
    """Returns that a mixing mixes nothing, where it does not; `key` names it."""
    if mixing.mixup_alpha == 0 and mixing.cutmix_alpha == 0:
        return [f"{key}: mixup_alpha and cutmix_alpha are both 0, so nothing is mixed: set one, or {key}=None"]
    return []


def _mixing_faults(name: str, sources: Mapping[str, Source]) -> list[str]:
    """Returns what is wrong with how a source mixes its samples, and with the partner that it names, a line each."""
    source = sources[name]
    if source.mixing is None:
        return []
    key, partner_name = f"sources.{name}.mixing", source.mixing.partner
    faults = nothing_mixed_faults(key, source.mixing)
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
