"""What is wrong, or worth knowing, about the lists and their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnisource.check.duplicates import TrainTestDuplicate
from omnisource.check.files import FileTable
from omnisource.check.splits import CheckedSplit
from omnisource.data.hashing.picture_hash import HASH_BITS
from omnisource.recipe.data import Split, split_of

DECLARED_OFF_FRAMES, DECLARED_OFF_SHARE = 3, 0.02
"""A container may declare too many or too few frames, up to the larger of these: many complete ones do."""

Kind = Literal["data", "list", "two_labels", "unreadable", "duplicate", "missing_frames", "wrong_count", "too_short"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: "data": the recipe refers to what is not there. "list": a mistake in a list. "two_labels": an item is the
            file of another one of another label. "unreadable". "duplicate": a held-out item is trained on too.
            "missing_frames": a folder has fewer frames than its list says. "wrong_count": another count than the real
            one, which the loader does not use. "too_short": fewer frames than a clip has, so that some are taken twice.
        is_error: Whether training stops at it or results cannot be trusted; otherwise it is a warning.
        source: Name of the source.
        split: "train", "validation" or "test".
        path: The file; "" where `what` begins with it.
        what: What is wrong, in one line.
    """

    kind: Kind
    is_error: bool
    source: str
    split: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


def list_findings(split: CheckedSplit) -> list[Finding]:
    """Returns what is wrong with the list of a split."""
    found = [Finding("list", True, split.source_name, split.name, "", line) for line in split.problems]
    for conflict in split.items.label_conflicts:
        found.append(Finding("two_labels", True, split.source_name, split.name, _list_of(split), conflict))
    return found


def _list_of(split: CheckedSplit) -> str:
    """Returns the list of a split, or its folder where it has none."""
    of_split = split_of(split.source, split.name)
    if isinstance(of_split, Split) and of_split.format != "folders":
        return os.path.join(os.path.expanduser(split.source.root), of_split.list)
    return split.items.folder


def unreadable_findings(files: FileTable) -> Iterator[Finding]:
    """Yields the files that cannot be read, each once, in the order of the lists."""
    for number in sorted(files.faults, key=lambda number: files.first_items[number]):
        split, index = files.item(files.first_items[number])
        yield _finding("unreadable", split, index, files.faults[number], is_error=True)


def leak_findings(files: FileTable, leaks: Sequence[TrainTestDuplicate]) -> Iterator[Finding]:
    """Yields the held-out files that are trained on too."""
    held_out_items, trained_items = files.first_items_where(False), files.first_items_where(True)
    for leak in leaks:
        other, other_index = files.item(trained_items[leak.trained])
        where = f"an item of {other.source_name}, {other.name}"
        path = other.items[other_index].path
        if leak.trained == leak.held_out:
            what = f"is {where}, too"
        elif leak.differing_bits is None:
            what = f"has the same bytes as {where}: {path}"
        else:
            bits = f"{leak.differing_bits} of {HASH_BITS} bits differ"
            what = f"shows the same as {where} ({bits}): {path}"
        yield _finding("duplicate", *files.item(held_out_items[leak.held_out]), what, is_error=True)


def frame_findings(files: FileTable, split: CheckedSplit, numbers: np.ndarray) -> Iterator[Finding]:
    """Yields what is wrong with the numbers of frames of a split's videos.

    Args:
        files: What is known of the files.
        split: The split.
        numbers: The number of each item's file, [N] int64.
    """
    if split.source.media == "image":
        return
    frames, is_readable = files.num_frames[numbers], files.is_readable()[numbers]
    expected = split.items.num_frames
    if expected is not None:
        for index in np.flatnonzero(is_readable & (frames < expected)).tolist():
            missing = split.request(index).frame_template.format(frames[index] + 1)
            what = f"the list says {expected[index]} frames, but there is no {missing}"
            yield _finding("missing_frames", split, index, what, is_error=True)
        for index in np.flatnonzero(is_readable & (frames > expected)).tolist():
            what = f"the list says {expected[index]} frames, the folder has {frames[index]}: the last are never used"
            yield _finding("wrong_count", split, index, what)
        frames = np.minimum(frames, expected)
    listed = split.listed_frames
    if listed is not None:
        for index in np.flatnonzero(is_readable & (listed >= 0) & (listed != frames)).tolist():
            what = f"the list says {listed[index]} frames, it has {frames[index]}"
            yield _finding("wrong_count", split, index, what)
    declared = files.declared_frames[numbers]
    is_off = np.abs(declared - frames) > np.maximum(DECLARED_OFF_FRAMES, DECLARED_OFF_SHARE * frames)
    for index in np.flatnonzero(is_readable & (declared >= 0) & is_off).tolist():
        what = f"its container declares {declared[index]} frames, {frames[index]} decode"
        yield _finding("wrong_count", split, index, what)
    clip_length = split.source.sampling.clip_length
    for index in np.flatnonzero(is_readable & (frames < clip_length)).tolist():
        what = f"its {frames[index]} frames are fewer than the {clip_length} of a clip, which has some of them twice"
        yield _finding("too_short", split, index, what)


def _finding(kind: Kind, split: CheckedSplit, index: int, what: str, *, is_error: bool = False) -> Finding:
    return Finding(kind, is_error, split.source_name, split.name, split.items[index].path, what)
