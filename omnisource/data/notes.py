"""What is worth knowing of the items of a split and no mistake, in the words of every command that tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from omnisource.data.lists.items import Items
from omnisource.data.lists.text import some
from omnisource.recipe.data import SplitName
from omnisource.recipe.recipe import Recipe


def split_notes(items: Items, class_names: Sequence[str], trained: Items | None = None) -> list[str]:
    """Returns what is worth knowing of the items of one split, a sentence each.

    Args:
        items: The items.
        class_names: Names of the classes, in the order of their indices; none where it is not known how many there are.
        trained: The training items of the same source, where these are held out: classes without any are no news then.
    """
    notes = list(items.notes)
    if items.label_conflicts:
        notes.append(conflict_note(items.label_conflicts))
    if not class_names:
        return notes
    counts = items.class_counts(len(class_names))
    if trained is None:
        note = classes_without_items(class_names, counts)
        begins = _begins_with_one(items, counts)
    else:
        is_wanted = trained.class_counts(len(class_names)) > 0
        note = classes_without_items(
            [name for name, wanted in zip(class_names, is_wanted, strict=True) if wanted], counts[is_wanted]
        )
        begins = ""
    return [text for text in (*notes, note, begins) if text]


def conflict_note(conflicts: Sequence[str]) -> str:
    """Returns, for people, how many files have two labels; `conflicts` are those of `Items`, at least one."""
    return f"files with two labels: {len(conflicts)}, such as {conflicts[0]}"


def classes_without_items(class_names: Sequence[str], counts: Sequence[int] | np.ndarray) -> str:
    """Returns, for people, which classes have no items; "" where all have some.

    Args:
        class_names: Names of the classes.
        counts: Items of each.
    """
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    return f"classes without items: {len(empty)} of {len(class_names)} ({some(empty)})" if empty else ""


def _begins_with_one(items: Items, counts: np.ndarray) -> str:
    if items.has_class_folders or len(counts) < 2 or counts[0] or not counts[1]:
        return ""
    return "no item has the label 0, so the labels seem to begin with 1: if they do, subtract 1 from each"


def run_notes(
    recipe: Recipe, class_names: Mapping[str, Sequence[str]], items: Mapping[SplitName, Mapping[str, Items]]
) -> Iterator[str]:
    """Yields the notes of all splits of a recipe, each with its source and split.

    Args:
        recipe: The recipe.
        class_names: Names of the classes by label space.
        items: By split, the items of each source.
    """
    for name, source in recipe.sources.items():
        for split, of_split in items.items():
            if name not in of_split:
                continue
            trained = None if split == "train" else items.get("train", {}).get(name)
            for note in split_notes(of_split[name], class_names[source.label_space], trained):
                yield f"source {name}, {split}: {note}"
