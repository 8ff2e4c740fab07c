"""The numbers of a check: of each split, and of the training files that show the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnisource.check.files import FileTable
from omnisource.check.findings import Finding
from omnisource.check.splits import CheckedSplit
from omnisource.data.notes import split_notes

EXAMPLES = 20
"""Groups of training files that show the same which a report lists."""


@dataclass(frozen=True)
class Spread:
    """The minimum, the median and the maximum of some numbers."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class SplitSummary:
    """The numbers of one split; all but the last four count items.

    Attributes:
        source: Name of the source.
        split: "train", "validation" or "test".
        media: "image" or "video".
        label_space: Name of the label space.
        items: Items that are there.
        list_problems: Things that are wrong with the list.
        unreadable: Items whose file cannot be read.
        duplicates: Of held-out items those that are trained on too; of training items those that show the same as
            another one.
        missing_frames: Folders with fewer frames than the list says.
        wrong_counts: Items of which another count of frames is wrong.
        shorter_than_clip: Videos with fewer frames than a clip has.
        shorter_than_span: Videos with fewer frames than lie between the first and the last of a clip, both counted.
        plain: Items that cannot be compared by what they show, because that is of one color, or nearly.
        frames: Frames of the videos that can be read; None where there are none.
        short_sides: Short sides of the images and frames, in pixels; None where nothing can be read.
        class_names: Names of the classes, in the order of their indices.
        class_counts: Items of each class.
        notes: What else is worth knowing of its items, a sentence each.
    """

    source: str
    split: str
    media: str
    label_space: str
    items: int
    list_problems: int
    unreadable: int
    duplicates: int
    missing_frames: int
    wrong_counts: int
    shorter_than_clip: int
    shorter_than_span: int
    plain: int
    frames: Spread | None
    short_sides: Spread | None
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingDuplicates:
    """Training files that show the same as one another.

    Attributes:
        compared_pictures: Whether images and frames were compared, and not bytes alone.
        groups: Groups of such files.
        files: Files in them.
        differing_labels: Groups whose items have different labels in one label space.
        examples: Paths of the first groups.
    """

    compared_pictures: bool
    groups: int
    files: int
    differing_labels: int
    examples: tuple[tuple[str, ...], ...]


def summarize(
    files: FileTable, split: CheckedSplit, numbers: np.ndarray, is_duplicate: np.ndarray, findings: Sequence[Finding]
) -> SplitSummary:
    """Returns the numbers of one split.

    Args:
        files: What is known of the files.
        split: The split.
        numbers: The number of each item's file, [N] int64.
        is_duplicate: [F] bool, whether a file counts as a duplicate in this split.
        findings: All findings; those about the frames of this split's items are counted.
    """
    trained = next(
        (
            other.items
            for other in files.splits
            if other.is_training and not split.is_training and other.source_name == split.source_name
        ),
        None,
    )
    is_readable = files.is_readable()[numbers]
    frames = files.num_frames[numbers]
    is_video = split.source.media == "video"
    of_split = [one for one in findings if (one.source, one.split) == (split.source_name, split.name)]
    return SplitSummary(
        source=split.source_name,
        split=split.name,
        media=split.source.media,
        label_space=split.source.label_space,
        items=len(split.items),
        list_problems=len(split.problems),
        unreadable=int((~is_readable).sum()),
        duplicates=int(is_duplicate[numbers].sum()),
        missing_frames=len({one.path for one in of_split if one.kind == "missing_frames"}),
        wrong_counts=len({one.path for one in of_split if one.kind == "wrong_count"}),
        shorter_than_clip=sum(one.kind == "too_short" for one in of_split),
        shorter_than_span=int((is_readable & (frames < split.clip_span)).sum()) if is_video else 0,
        plain=int((is_readable & ~files.is_comparable()[numbers]).sum()),
        frames=_spread(frames[is_readable]) if is_video else None,
        short_sides=_spread(np.minimum(files.widths, files.heights)[numbers][is_readable]),
        class_names=split.class_names,
        class_counts=tuple(split.items.class_counts(len(split.class_names)).tolist()),
        notes=tuple(split_notes(split.items, split.class_names, trained)),
    )


def summarize_groups(files: FileTable, groups: Sequence[Sequence[int]], compared_pictures: bool) -> TrainingDuplicates:
    """Returns the numbers of training files that show the same, in groups of file numbers."""
    found = files.training_items([number for group in groups for number in group])
    differing = 0
    for group in groups:
        items = [item for number in group for item in found[number]]
        labels = {(split.source.label_space, int(split.items.labels[index])) for split, index in items}
        differing += len(labels) > len({space for space, _ in labels})
    examples = [[item for number in group for item in found[number]] for group in groups[:EXAMPLES]]
    return TrainingDuplicates(
        compared_pictures,
        len(groups),
        sum(map(len, groups)),
        differing,
        tuple(tuple(split.items[index].path for split, index in items) for items in examples),
    )


def _spread(numbers: np.ndarray) -> Spread | None:
    if not len(numbers):
        return None
    return Spread(int(numbers.min()), float(np.median(numbers)), int(numbers.max()))
