"""What is wrong, or worth knowing, about the lists and their files."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnisource.check.duplicates import TrainTestDuplicate
from omnisource.check.files import FileTable
from omnisource.check.splits import CheckedSplit, chooses_best
from omnisource.data.hashing.picture_hash import HASH_BITS
from omnisource.printing import printable_name
from omnisource.recipe.data import Split, split_of
from omnisource.recipe.recipe import Recipe

DECLARED_OFF_FRAMES, DECLARED_OFF_SHARE = 3, 0.02
"""A container may declare too many or too few frames, up to the larger of these: many complete ones do."""

Kind = Literal[
    "data",
    "list",
    "two_labels",
    "unreadable",
    "duplicate",
    "chosen_on",
    "missing_frames",
    "wrong_count",
    "too_short",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: "data": the recipe refers to what is not there. "list": a mistake in a list. "two_labels": an item is
            the file of another one of another label. "unreadable". "duplicate": a held-out item is trained on too.
            "chosen_on": a test item decides which checkpoint is the best. "missing_frames": a folder has fewer frames
            than its list says. "wrong_count": another count than the real one, which the loader does not use.
            "too_short": fewer frames than a clip has, so that some are taken twice.
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
        return f"{printable_name(self.path)}: {self.what}" if self.path else self.what


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


def frame_leaks(files: FileTable) -> Iterator[tuple[int, Finding]]:
    """Yields (number of a held-out file, finding) for frames that are held out in a video and images elsewhere.

    Or the other way round; an image and a video are not alike as pictures. A file is reported once.
    """
    folders: dict[tuple[str, bool], tuple[CheckedSplit, int, int]] = {}  # by real path and whether it is trained on
    for split, numbers in zip(files.splits, files.of_items, strict=True):
        if split.items.num_frames is not None:
            for index, number in enumerate(numbers.tolist()):
                real = os.path.realpath(split.items[index].path)
                folders.setdefault((real, split.is_training), (split, index, number))
    if not folders:
        return
    real_folder = functools.lru_cache(maxsize=1024)(os.path.realpath)
    reported: set[int] = set()
    for split, numbers in zip(files.splits, files.of_items, strict=True):
        if split.source.media != "image":
            continue
        for index, number in enumerate(numbers.tolist()):
            folder, name = os.path.split(split.items[index].path)
            video, video_index, video_number = folders.get((real_folder(folder), not split.is_training), (None, 0, 0))
            if video is None or not _is_frame(name, video.request(video_index).frame_template):
                continue
            path = split.items[index].path
            if split.is_training:
                found, held_out, at = video_number, video, video_index
                what = f"its frame {printable_name(name)} is an item of {split.source_name}, train, too"
            else:
                found, held_out, at = number, split, index
                what = f"is a frame of an item of {video.source_name}, train: {video.items[video_index].path}"
            if found not in reported:
                reported.add(found)
                path = held_out.items[at].path
                yield found, Finding("duplicate", True, held_out.source_name, held_out.name, path, what)


def choice_findings(recipe: Recipe, files: FileTable) -> Iterator[Finding]:
    """Yields the test splits with items of the validation on which best.pt is chosen, the same files or the same bytes.

    A split that has no list of its own, and so is the validation, is none of them; `fallback_notes` names it.
    """
    chosen = np.zeros(len(files), dtype=bool)
    for split, numbers in zip(files.splits, files.of_items, strict=True):
        chosen[numbers] |= chooses_best(recipe, split.source_name) and split.name == "validation"
    readable = files.is_readable()
    digests = np.unique(files.digests[chosen & readable])
    is_chosen = chosen | (readable & np.isin(files.digests, digests))
    for split, numbers in zip(files.splits, files.of_items, strict=True):
        indices = np.flatnonzero(is_chosen[numbers])
        if split.name == "test" and len(indices):
            first = split.items[int(indices[0])].path
            what = (
                f"{len(indices)} of {len(numbers)} test items are validation items of {recipe.main_source}, on which "
                f"best.pt is chosen: its test scores come out too high; the first is {first}"
            )
            yield Finding("chosen_on", False, split.source_name, split.name, "", what)


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


def _is_frame(name: str, template: str) -> bool:
    """Returns whether a file of a folder is one of its frames by its name."""
    digits = "".join(character if character.isdecimal() else " " for character in name).split()
    return any(template.format(int(number)) == name for number in digits)
