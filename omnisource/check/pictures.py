"""The pictures beside the report of a check: class histograms, and a contact sheet of train/test duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnisource.check.duplicates import TrainTestDuplicate
from omnisource.check.examine import compared_frames
from omnisource.check.files import FileTable
from omnisource.check.summary import SplitSummary
from omnisource.data.loading.results import results_in_order
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.pictures import contact_sheet, draw_class_histogram

DUPLICATES_PICTURE, CLASSES_PICTURE = "duplicates.png", "class_histogram_{}.png"

MAX_DUPLICATES_SHOWN = 24
"""Held-out items that a sheet shows beside what is trained on."""


def draw_class_histograms(splits: Sequence[SplitSummary], folder: Path) -> list[Path]:
    """Draws the class histograms of each source; returns their paths."""
    by_source: dict[str, list[SplitSummary]] = {}
    for split in splits:
        by_source.setdefault(split.source, []).append(split)
    return [
        draw_class_histogram(
            {split.split: split.class_counts for split in of_source},
            of_source[0].class_names,
            folder / CLASSES_PICTURE.format(source),
        )
        for source, of_source in by_source.items()
    ]


def draw_duplicates(recipe: Recipe, files: FileTable, leaks: Sequence[TrainTestDuplicate], folder: Path) -> list[Path]:
    """Draws the first held-out items beside the training items that show the same; returns the sheets, one or none."""
    path = folder / DUPLICATES_PICTURE
    pairs = [(leak.held_out, leak.trained) for leak in leaks if leak.held_out != leak.trained][:MAX_DUPLICATES_SHOWN]
    if not pairs:
        path.unlink(missing_ok=True)  # of an earlier check
        return []
    requests = [files.request(number) for pair in pairs for number in pair]
    with WorkerPool(recipe.num_workers, recipe.item_timeout_seconds, load=compared_frames) as workers:
        loaded = [found for _, found in results_in_order(requests, workers, ahead=4 * recipe.num_workers)]
    pictures, captions = [], []
    for position, (request, found) in enumerate(zip(requests, loaded, strict=True)):
        caption = f"{'trained on' if position % 2 else 'held out'}: {request.key}"
        if isinstance(found, UnreadableMedia):  # though it could be read a moment ago
            caption, found = f"{caption}: {found.reason}", np.zeros((1, 1, 3), dtype=np.uint8)
        pictures.append(found)
        captions.append(caption)
    return [contact_sheet(pictures, captions, path, columns=4)]
