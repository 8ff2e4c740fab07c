"""The lists of a recipe, each read once, with what is wrong in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from omnisource.data.datasets import find_problems
from omnisource.data.lists.items import Items
from omnisource.data.lists.labels import LabelReader
from omnisource.data.lists.text import is_number, text_rows
from omnisource.data.loading.request import SampleRequest, request_of
from omnisource.recipe.data import Source, Split, SplitName, split_of
from omnisource.recipe.recipe import Recipe

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class CheckedSplit:
    """One list of a source that is checked.

    Attributes:
        source_name: Name of the source.
        source: Its description.
        name: "train", "validation" or "test".
        class_names: Names of the classes, in the order of their indices.
        items: The items that are there.
        listed_frames: [N] int32, the frames of each video according to the list, -1 where it gives no number; None
            where it has no such column, or where the loader uses it (`items.num_frames`).
        problems: What is wrong with the list, a line each.
    """

    source_name: str
    source: Source
    name: SplitName
    class_names: tuple[str, ...]
    items: Items
    listed_frames: np.ndarray | None
    problems: tuple[str, ...]

    @property
    def is_training(self) -> bool:
        """Whether it is trained on; all others are held out."""
        return self.name == "train"

    @property
    def clip_span(self) -> int:
        """Frames from the first to the last of a clip, both counted."""
        return (self.source.sampling.clip_length - 1) * self.source.sampling.frame_interval + 1

    def request(self, index: int) -> SampleRequest:
        """Returns the request of one of its items."""
        return request_of(self.source_name, self.source, self.name, self.items, index)


def read_lists(
    recipe: Recipe, class_names: Mapping[str, tuple[str, ...]], advance: Callable[[], None]
) -> list[CheckedSplit]:
    """Returns the splits of all sources, as far as they have a list of their own.

    Two that name the same list are both there: what is held out may not be trained on.

    Args:
        recipe: A recipe with its classes resolved.
        class_names: Names of the classes by label space.
        advance: Called once for each list read; there are `count_lists(recipe)`.
    """
    return [
        _read_list(name, source, split_name, class_names[source.label_space], advance)
        for name, source in recipe.sources.items()
        for split_name in _own_lists(source)
    ]


def count_lists(recipe: Recipe) -> int:
    """Returns how many splits `read_lists` gives."""
    return sum(len(_own_lists(source)) for source in recipe.sources.values())


def fallback_notes(recipe: Recipe) -> tuple[str, ...]:
    """Returns what is held out of sources that lack a split, a line each."""
    notes = []
    for name, source in recipe.sources.items():
        if source.validation is None and source.test is None:
            notes.append(f"{name}: nothing is held out; it is neither validated nor tested")
        elif source.test is None:
            chosen = ", on which best.pt is chosen" if chooses_best(recipe, name) else ""
            notes.append(f"{name}, test: has no list of its own; tests take the validation items{chosen}")
    return tuple(notes)


def chooses_best(recipe: Recipe, source_name: str) -> bool:
    """Returns whether the best checkpoint is chosen on the validation of a source."""
    return source_name == recipe.main_source and bool(recipe.validation.interval_epochs)


def _own_lists(source: Source) -> list[SplitName]:
    """Returns the splits of a source that are given; without a test split the validation items are tested."""
    return [name for name in SPLITS if getattr(source, name) is not None]


def _read_list(
    source_name: str, source: Source, name: SplitName, class_names: tuple[str, ...], advance: Callable[[], None]
) -> CheckedSplit:
    split = split_of(source, name)
    assert split is not None
    items, problems = find_problems(source.root, split, source.media, class_names, len(class_names), source_name)
    listed_frames = None
    if isinstance(split, Split) and split.format == "video_frames_label" and len(items):
        path = os.path.join(os.path.expanduser(source.root), split.list)
        listed_frames = _listed_frames(path, items, LabelReader(class_names, len(class_names)))
    advance()
    lines = tuple(dict.fromkeys(map(str, problems)))
    return CheckedSplit(source_name, source, name, class_names, items, listed_frames, lines)


def _listed_frames(path: str, items: Items, labels: LabelReader) -> np.ndarray:
    """Returns the counts of a `video_id num_frames label` list, which the loader drops: [N] int32, -1 for no number.

    The items are those of the list in its order, without the ones whose files are missing.
    """
    counts = np.full(len(items), -1, dtype=np.int32)
    index = 0
    for _, (key, count, _) in text_rows(path, "video_id num_frames label", labels.is_label, problems=[]):
        if index < len(items) and items.keys[index] == key:
            counts[index] = int(count) if is_number(count) and len(count) < 10 else -1
            index += 1
    return counts
