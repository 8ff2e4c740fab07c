"""Finding duplicates by bytes and by hashes of what files show: train/test leaks, and groups in the training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnisource.check.examine import VIDEO_FRAMES
from omnisource.check.files import FileTable
from omnisource.data.hashing.picture_hash import HASH_BITS
from omnisource.types import Progress

SAME_PICTURE_BITS = 40
"""Most bits in which the hashes of the same image differ, and of the frames of videos in which nothing moves."""

SAME_FRAME_BITS, SAME_CHANGE_BITS = 60, 80
"""The same for frames of a video in which something moves, and for the changes from one frame to the next. Where the
frames are more alike than the changes, it is one camera that saw different things."""

MAX_COMPARED_PAIRS = 30_000_000_000
"""Pairs of training files that are compared by their images and frames; where there are more, training files are
compared with one another by bytes only. That is at 245,000 files. They are always compared with what is held out."""

_ROWS, _COLUMNS = 512, 4096  # of one matrix product: what it takes stays small even if all are similar


@dataclass(frozen=True)
class TrainTestDuplicate:
    """A held-out file that is trained on too, under this or another name.

    Attributes:
        held_out: Number of the file.
        trained: Number of the training file that is most like it, the first of several; the same number where both
            lists name it.
        differing_bits: Bits in which the hashes of their images or frames differ, the largest number of any frame; None
            where the bytes are the same.
    """

    held_out: int
    trained: int
    differing_bits: int | None


def find_leaks(
    files: FileTable, is_trained: np.ndarray, is_held_out: np.ndarray, progress: Progress
) -> list[TrainTestDuplicate]:
    """Returns the held-out files that show the same as a training file, in the order of the lists.

    Args:
        files: What is known of the files.
        is_trained: [F] bool, whether some item names the file to be trained on.
        is_held_out: [F] bool, whether some item names it for validation or testing.
        progress: Called with the numbers of matrix products done and of all.
    """
    trained = np.flatnonzero(is_trained & files.is_readable())
    trained = trained[np.argsort(files.first_items[trained])]  # of several the first in the lists is reported
    held_out = np.flatnonzero(is_held_out & files.is_readable())
    nearest: dict[int, tuple[int, int, int]] = {}  # differing bits, first item and number, by held-out file
    for first, second, bits in _similar(files, held_out, trained, progress):
        items = files.first_items[second]
        order = np.lexsort((items, bits, first))
        numbers, starts = np.unique(first[order], return_index=True)
        for number, pair in zip(numbers.tolist(), order[starts].tolist(), strict=True):
            found = (int(bits[pair]), int(items[pair]), int(second[pair]))
            nearest[number] = min(found, nearest.get(number, found))
    leaks = {number: TrainTestDuplicate(number, other, bits) for number, (bits, _, other) in nearest.items()}
    for number, other in _same_bytes(files, held_out, trained):
        leaks[number] = TrainTestDuplicate(number, other, None)
    for number in np.flatnonzero(is_held_out & is_trained).tolist():  # whether or not it can be read
        leaks[number] = TrainTestDuplicate(number, number, None)
    return [leaks[number] for number in sorted(leaks, key=lambda number: files.first_items[number])]


def find_groups(files: FileTable, is_trained: np.ndarray, progress: Progress) -> list[list[int]]:
    """Returns the training files that show the same as one another, or that several items of a list are, in groups.

    The groups, and the files in each, are in the order of the lists.

    Args:
        files: What is known of the files.
        is_trained: [F] bool, whether some item names the file to be trained on.
        progress: Called with the numbers of matrix products done and of all.
    """
    trained = np.flatnonzero(is_trained & files.is_readable())
    _, firsts, positions = np.unique(files.digests[trained], return_index=True, return_inverse=True)
    groups = np.arange(len(files))  # [F], the number of the first file of each one's group
    groups[trained] = trained[firsts][positions]
    if compares_pictures(len(trained)):
        distinct = np.sort(trained[firsts])
        for first, second, _ in _similar(files, distinct, distinct, progress):
            groups = _united(groups, first, second)
    ordered = trained[np.lexsort((files.first_items[trained], groups[trained]))]
    _, starts, sizes = np.unique(groups[ordered], return_index=True, return_counts=True)
    is_repeated = files.is_named_twice()
    found = [
        ordered[start : start + size].tolist()
        for start, size in zip(starts, sizes, strict=True)
        if size > 1 or is_repeated[ordered[start]]
    ]
    return sorted(found, key=lambda group: files.first_items[group[0]])


def compares_pictures(num_trained: int) -> bool:
    """Returns whether that many training files are compared with one another by their images and frames."""
    return num_trained * (num_trained - 1) // 2 <= MAX_COMPARED_PAIRS


def _same_bytes(files: FileTable, held_out: np.ndarray, trained: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (held-out file, first training file with the same bytes)."""
    digests, firsts = np.unique(files.digests[trained], return_index=True)
    is_shared = np.isin(files.digests[held_out], digests)
    positions = np.searchsorted(digests, files.digests[held_out[is_shared]])
    yield from zip(held_out[is_shared].tolist(), trained[firsts[positions]].tolist(), strict=True)


@dataclass(frozen=True)
class _Block:
    """Files that are compared in one matrix product: numbers of some, numbers of others, and by which frames."""

    rows: np.ndarray
    columns: np.ndarray
    frames: tuple[int, ...]


def _similar(
    files: FileTable, rows: np.ndarray, columns: np.ndarray, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (numbers from `rows`, numbers from `columns`, differing bits) of pairs that show the same.

    All frames of two files must be the same or both plain, and all changes of videos; two frames of a video must not
    be plain. If `rows` and `columns` are the same array, which ascends, every pair comes once.
    """
    bit_counts = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)
    blocks = _blocks(files, rows, columns)
    for done, block in enumerate(blocks, start=1):
        first, second = _candidates(files, block)
        differing = bit_counts[files.hashes[first] ^ files.hashes[second]].sum(axis=-1, dtype=np.int64)
        bits = differing[:, list(block.frames)].max(axis=1, initial=0)
        changes = slice(VIDEO_FRAMES, None)
        is_clear = files.is_clear[first, changes] | files.is_clear[second, changes]
        is_same_change = (differing[:, changes] <= SAME_CHANGE_BITS) | ~is_clear
        max_bits = np.where(is_clear.any(axis=1), SAME_FRAME_BITS, SAME_PICTURE_BITS)
        is_same = (bits <= max_bits) & is_same_change.all(axis=1) & ((first < second) | (rows is not columns))
        if is_same.any():
            yield first[is_same], second[is_same], bits[is_same]
        progress(done, len(blocks))


def _blocks(files: FileTable, rows: np.ndarray, columns: np.ndarray) -> list[_Block]:
    """Returns what has to be compared: only files with clear frames at the same positions can show the same."""
    blocks = []
    is_comparable, is_clear = files.is_comparable(), files.is_clear[:, :VIDEO_FRAMES]
    for which in np.unique(is_clear, axis=0):
        is_like = is_comparable & (is_clear == which).all(axis=1)
        sides = [side[is_like[side]] for side in (rows, columns)]
        for top in range(0, len(sides[0]), _ROWS):
            # Each pair once: the numbers ascend, so what lies left of the diagonal was compared above it.
            left = top // _COLUMNS * _COLUMNS if rows is columns else 0
            for start in range(left, len(sides[1]), _COLUMNS):
                frames = tuple(np.flatnonzero(which).tolist())
                blocks.append(_Block(sides[0][top : top + _ROWS], sides[1][start : start + _COLUMNS], frames))
    return blocks


def _candidates(files: FileTable, block: _Block) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the pairs whose first clear frames may be the same."""
    frame = block.frames[0]
    # Of hashes written as +1 and -1, the product is the bits that agree less the bits that differ.
    agreement = _signs(files.hashes[block.rows, frame]) @ _signs(files.hashes[block.columns, frame]).T
    first, second = (agreement >= HASH_BITS - 2 * SAME_FRAME_BITS).nonzero(as_tuple=True)
    return block.rows[first.numpy()], block.columns[second.numpy()]


def _signs(hashes: np.ndarray) -> Tensor:
    """Returns hashes [N, 32] uint8 as [N, 256] float32 of +1 and -1."""
    return torch.from_numpy(np.unpackbits(hashes, axis=1)).float().mul_(2).sub_(1)


def _united(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns groups [F], each file's first of its group, after the groups of each pair became one."""
    while True:
        low, high = np.minimum(groups[first], groups[second]), np.maximum(groups[first], groups[second])
        if (low == high).all():
            return groups
        groups = groups.copy()
        np.minimum.at(groups, high, low)
        while (groups[groups] != groups).any():
            groups = groups[groups]
