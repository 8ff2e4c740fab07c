"""What follows from a recipe and its data: class names, lists, batch sizes, steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from omnisource.data.datasets import read_items
from omnisource.data.lists.items import Items
from omnisource.data.loading.source import SplitName, class_names_of, split_of
from omnisource.data.loading.stream import first_position
from omnisource.data.shards.read import TarShards, shard_places
from omnisource.errors import UserError, shortened
from omnisource.files.byte_ranges import is_url
from omnisource.recipe.recipe import Recipe


def resolve_classes(recipe: Recipe) -> tuple[Recipe, dict[str, tuple[str, ...]]]:
    """Returns the recipe with every number of classes known, and the class names of each label space.

    Where no class map gives names, the names are the indices.

    Raises:
        UserError: If a class map is missing or wrong, or sources that share a label space disagree.
    """
    spaces, names = {}, {}
    for space_name, space in recipe.label_spaces.items():
        found: dict[str, tuple[str, ...]] = {}
        for source_name, source in recipe.sources.items():
            if source.label_space != space_name:
                continue
            source_names = class_names_of(replace(source, root=os.path.expanduser(source.root)))
            if source_names is not None:
                found[source_name] = source_names
        if len(set(found.values())) > 1:
            raise UserError(
                f"sources {', '.join(found)} share the label space {space_name} but their class names or the order of "
                "these differ; give them one class map (classes=...)."
            )
        known = next(iter(found.values()), None)
        if known is None and space.num_classes is None:
            raise UserError(
                f"label_spaces.{space_name}: the number of classes is not known. Set label_spaces.{space_name}"
                ".num_classes=N, or give one of its sources a class map (sources.NAME.classes=FILE)."
            )
        if known is not None and space.num_classes not in (None, len(known)):
            raise UserError(
                f"label_spaces.{space_name}.num_classes={space.num_classes}, but the class names of source "
                f"{next(iter(found))} are {len(known)}."
            )
        num_classes = len(known) if known is not None else space.num_classes
        assert num_classes is not None
        spaces[space_name] = replace(space, num_classes=num_classes)
        names[space_name] = known or tuple(str(index) for index in range(num_classes))
    return replace(recipe, label_spaces=spaces), names


def require_data(recipe: Recipe, splits: tuple[SplitName, ...], config_path: str = "") -> None:
    """Checks that every folder and list that the recipe names is there.

    Raises:
        UserError: Naming all that is missing, on one screen, and the page that tells how to make it.
    """
    missing: list[str] = []
    for name, source in recipe.sources.items():
        if all(split_of(source, split_name) is None for split_name in splits):
            continue
        root = os.path.expanduser(source.root) or "."
        wanted = {root: ("folder", f"sources.{name}.root")}
        if source.classes:
            wanted.setdefault(os.path.join(root, source.classes), ("class map", f"sources.{name}.classes"))
        for split_name in splits:
            split = split_of(source, split_name)
            if split is None:
                continue
            # Without test items of its own, a source is tested on those of validation: that is the key to change.
            key = f"sources.{name}.{'validation' if split == source.validation else split_name}"
            if isinstance(split, TarShards):
                # Servers are asked when the shards are read.
                local = [place for place in shard_places(root, split) if not is_url(place)]
                wanted |= {place: ("shard", f"{key}.urls") for place in local}
                continue
            wanted.setdefault(os.path.join(root, split.folder) if split.folder else root, ("folder", f"{key}.folder"))
            if split.format != "folders":
                wanted.setdefault(os.path.join(root, split.list), ("list", f"{key}.list"))
        for path, (kind, key) in wanted.items():
            exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
            if not exists:
                missing.append(f"  {path:<60} {kind}, {key}=")
    if missing:
        raise UserError(
            f"{config_path or 'the recipe'}: the data is not here. Missing:\n"
            + shortened(missing)
            + "\nHow to lay out and list the data: docs/data.md. Another place: sources.NAME.root=FOLDER."
        )


def read_split(
    recipe: Recipe, names: Mapping[str, tuple[str, ...]], source_name: str, split_name: SplitName
) -> Items | None:
    """Returns the items of one split of one source, or None where the source has no such split.

    Args:
        recipe: A recipe with its classes resolved.
        names: Class names by label space.
        source_name: Name of the source.
        split_name: "train", "validation" or "test".

    Raises:
        UserError: Everything that is wrong with the list, at once.
    """
    source = recipe.sources[source_name]
    split = split_of(source, split_name)
    if split is None:
        return None
    num_classes = recipe.label_spaces[source.label_space].num_classes
    return read_items(source.root, split, source.media, names[source.label_space], num_classes, source_name)


def read_splits(recipe: Recipe, names: Mapping[str, tuple[str, ...]], split_name: SplitName) -> dict[str, Items]:
    """Returns the items of one split by source, of the sources that have it; the arguments are those of `read_split`.

    Raises:
        UserError: Everything that is wrong with the first list that is wrong.
    """
    found = {name: read_split(recipe, names, name, split_name) for name in recipe.sources}
    return {name: items for name, items in found.items() if items is not None}


@dataclass(frozen=True)
class Plan:
    """The numbers of a run that follow from its recipe and the real counts of its sources.

    Attributes:
        batch_sizes: Samples of each source in a microbatch; broken where sources keep a broken ratio, so that
            microbatches have the number below or above it.
        microbatches: Microbatches in a step, over all processes and accumulation.
        epoch_steps: Steps in an epoch of the main source.
        total_steps: Steps in the run.
    """

    batch_sizes: Mapping[str, Fraction]
    microbatches: int
    epoch_steps: int
    total_steps: int

    def ends_epoch(self, step: int, interval_epochs: int) -> bool:
        """Returns whether `step` steps end an epoch after which something is done every `interval_epochs`, or all."""
        epoch, rest = divmod(step, self.epoch_steps)
        return rest == 0 and interval_epochs > 0 and (step == self.total_steps or epoch % interval_epochs == 0)

    def samples_before(self, step: int) -> dict[str, int]:
        """Returns how many samples of each source the run has seen when it has done `step` steps."""
        return {name: first_position(size, step * self.microbatches) for name, size in self.batch_sizes.items()}


def plan(recipe: Recipe, counts: Mapping[str, int], num_processes: int) -> Plan:
    """Returns the numbers of a run.

    Args:
        recipe: The recipe.
        counts: Training items of each source, at least 1.
        num_processes: Training processes.
    """
    microbatches = num_processes * recipe.accumulation
    epoch_items = {name: recipe.sources[name].epoch_items or count for name, count in counts.items()}

    def epoch_steps(name: str) -> int:
        batch_size = recipe.sources[name].batch_size
        assert batch_size is not None
        return max(1, epoch_items[name] // (batch_size * microbatches))

    batch_sizes: dict[str, Fraction] = {}
    for name, source in recipe.sources.items():
        if source.batch_size is not None:
            batch_sizes[name] = Fraction(source.batch_size)
        elif source.ratio_to:
            pace = recipe.sources[source.ratio_to].batch_size
            assert pace is not None
            batch_sizes[name] = pace * Fraction(str(source.ratio))  # 0.1 is a tenth, which no float is
        else:
            batch_sizes[name] = Fraction(max(1, epoch_items[name] // (epoch_steps(source.ends_with) * microbatches)))
    steps = epoch_steps(recipe.main_source)
    return Plan(batch_sizes, microbatches, steps, steps * recipe.num_epochs)


def with_scaled_learning_rate(recipe: Recipe, num_processes: int) -> Recipe:
    """Returns the recipe with its learning rate times the clips of the main source a step / `base_batch_size`."""
    batch_size = recipe.sources[recipe.main_source].batch_size
    assert batch_size is not None
    global_batch_size = batch_size * num_processes * recipe.accumulation
    scaled = recipe.optimizer.learning_rate * global_batch_size / recipe.optimizer.base_batch_size
    return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=scaled))


def batch_size_text(batch_size: Fraction) -> str:
    """Returns a batch size for people."""
    return f"{float(batch_size):g}"


def describe_plan(recipe: Recipe, numbers: Plan, items: Mapping[str, Items]) -> str:
    """Returns the plan for people, a line a source and one for the run; `items`: the training items by source."""
    lines = []
    for name, source in recipe.sources.items():
        pace = f", ends with {source.ends_with}" if source.ends_with else ""
        if source.ratio_to:
            pace = f", {source.ratio:g} for each sample of {source.ratio_to}"
        if source.class_power != 1:
            pace += f", drawn with replacement, classes by count^{source.class_power:g}"
        lines.append(
            f"source {name}: {len(items[name])} {source.media}s, batch {batch_size_text(numbers.batch_sizes[name])} x "
            f"{numbers.microbatches} microbatches a step{pace}, loss weight {source.loss_weight:g}"
        )
    lines.append(
        f"{recipe.num_epochs} epochs of {numbers.epoch_steps} steps of {recipe.main_source} = "
        f"{numbers.total_steps} steps, learning rate {recipe.optimizer.learning_rate:g}, {recipe.precision}"
    )
    if recipe.schedule.warmup_epochs >= recipe.num_epochs:
        lines.append(
            f"warning: the run ends within its warm-up of {recipe.schedule.warmup_epochs:g} epochs, so the learning "
            "rate only rises; lower schedule.warmup_epochs"
        )
    return "\n".join(lines)
