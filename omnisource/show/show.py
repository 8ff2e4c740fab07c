"""A recipe for people: its numbers, its parameters and its cost. Needs no data."""

from __future__ import annotations

import dataclasses

import torch

from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_split
from omnisource.data.lists.items import Items
from omnisource.data.notes import run_notes
from omnisource.errors import UserError
from omnisource.models.cost import count_multiply_adds, count_parameters
from omnisource.models.recognizer import Recognizer
from omnisource.printing import show
from omnisource.recipe.data import SplitName
from omnisource.recipe.plain import to_json
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.tables import print_table
from omnisource.training.plan import batch_size_text, make_plan

UNKNOWN = "unknown"


def print_recipe(recipe: Recipe) -> None:
    """Prints the resolved recipe, the counts of its sources, its parameters and multiply-adds."""
    show(to_json(recipe))
    _print_sources(recipe)
    _print_cost(recipe)


def _print_sources(recipe: Recipe) -> None:
    """Prints counts and batch sizes, for one process; what the data would tell is unknown without it."""
    counts: dict[str, dict[str, int | None]] = {}
    found: dict[SplitName, dict[str, Items]] = {"train": {}, "validation": {}, "test": {}}
    try:
        resolved, names = resolve_classes(recipe)
    except UserError:
        resolved, names = recipe, {}
    for name in recipe.sources:
        counts[name] = {}
        for split, of_split in found.items():
            try:
                items = read_split(resolved, names, name, split)
                counts[name][split] = 0 if items is None else len(items)
                # Without test items of its own a source is tested on those of validation, which were spoken of.
                if items is not None and (split != "test" or recipe.sources[name].test is not None):
                    of_split[name] = items
            except (UserError, KeyError):
                counts[name][split] = None
    train_counts = {name: count for name, of_name in counts.items() if (count := of_name["train"])}
    plan = make_plan(recipe, train_counts, num_processes=1) if len(train_counts) == len(recipe.sources) else None
    rows = []
    for name, source in recipe.sources.items():
        batch = batch_size_text(plan.batch_sizes[name]) if plan else str(source.batch_size or UNKNOWN)
        pace = f"{batch} (ends with {source.ends_with})" if source.ends_with else batch
        pace = f"{batch} ({source.ratio:g} for each of {source.ratio_to})" if source.ratio_to else pace
        of_splits = [UNKNOWN if count is None else str(count or "-") for count in counts[name].values()]
        classes = str(resolved.label_spaces[source.label_space].num_classes or UNKNOWN)
        rows.append([name, source.media, f"{source.label_space} ({classes} classes)", *of_splits, pace])
    steps = f"{plan.epoch_steps} steps an epoch, {plan.total_steps} in all" if plan else f"steps: {UNKNOWN}"
    header = ["source", "media", "label space", "train", "validation", "test", "batch, one process"]
    print_table(f"Sources ({steps}, with one process)", header, rows)
    for note in run_notes(resolved, names, found):
        show(note)
    if any(count is None for of_source in counts.values() for count in of_source.values()):
        show("unknown: the list or its files are missing or wrong; omnisource check CONFIG says which\n")


def _print_cost(recipe: Recipe) -> None:
    try:
        recipe, _ = resolve_classes(recipe)
    except UserError:
        # Without the data a number of classes may be unknown; the backbone's cost does not depend on it.
        spaces = {n: dataclasses.replace(s, num_classes=s.num_classes or 1) for n, s in recipe.label_spaces.items()}
        recipe = dataclasses.replace(recipe, label_spaces=spaces)
    with torch.device("meta"):
        recognizer = Recognizer(recipe.model, recipe.label_spaces)
    rows = [["whole recognizer", "", _millions(count_parameters(recognizer)), ""]]
    for source in recipe.sources.values():
        head = source.label_space
        parameters = count_parameters(recognizer.backbone) + count_parameters(recognizer.heads[head])
        size_text = _millions(parameters)
        if source.media == "image":
            summed = recognizer.backbone.count_image_parameters() + count_parameters(recognizer.heads[head])
            if summed != parameters:  # a backbone may have no kernels over time
                size_text += f" ({_millions(summed)} with the kernels summed over time)"
        frames = 1 if source.media == "image" else source.sampling.clip_length
        sizes = (source.training_view.crop_size, source.validation_views.crop_size, source.test_views.crop_size)
        for size in dict.fromkeys(sizes):
            shape = f"{size}x{size}" if source.media == "image" else f"{frames}x{size}x{size}"
            cost = count_multiply_adds(recognizer, source.media, frames, size, head)
            rows.append([f"{source.media} path, head {head}", shape, size_text, _multiply_adds(cost)])
    rows = [list(row) for row in dict.fromkeys(tuple(row) for row in rows)]
    print_table("Parameters and multiply-adds of one view", ["path", "input", "parameters", "multiply-adds"], rows)


def _multiply_adds(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e7 else f"{count / 1e6:.2f} M"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
